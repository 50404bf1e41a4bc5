"""A job's stored events: those of its workers, added with how far their file was read, and what the
coordinator notes down itself. Read again by whoever shows them."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sollol_tui.jobs.database import told_if_damaged
from sollol_tui.jobs.records import EventRecord
from sollol_tui.model.events import Event
from sollol_tui.model.names import COORDINATOR

if TYPE_CHECKING:
    from sollol_tui.jobs.store import Store

OWN: Final = "supervisor"  # in place of a file's name: no file of a worker is called so


@told_if_damaged
def read_events(
    store: "Store", job: str, kinds: Sequence[str] = (), *, after: int = 0
) -> list[EventRecord]:
    """The events of a job in the order in which they were heard; only these `kinds` if any, and
    only those behind the one with the number `after`."""
    marks = ", ".join("?" * len(kinds))
    only = f" AND kind IN ({marks})" if kinds else ""
    rows = store.connection.execute(
        f"SELECT rowid, * FROM events WHERE job = ? AND rowid > ?{only} ORDER BY rowid",
        (job, after, *kinds),
    )
    return [
        EventRecord(
            host=row["host"],
            slot=row["slot"],
            at=row["at"],
            seen_at=row["seen_at"],
            attempt=row["attempt"],
            generation=row["generation"],
            kind=row["kind"],
            data=json.loads(row["data"]),
            number=row["rowid"],
        )
        for row in rows
    ]


def position(store: "Store", job: str, host: str, file: str) -> int:
    row = store.connection.execute(
        "SELECT position FROM positions WHERE job = ? AND host = ? AND file = ?",
        (job, host, file),
    ).fetchone()
    return int(row["position"]) if row else 0


def size(store: "Store", job: str, host: str) -> int:
    """About how many bytes the stored events of a host take."""
    row = store.connection.execute(
        "SELECT COALESCE(SUM(LENGTH(data) + 150), 0) AS size FROM events"
        " WHERE job = ? AND host = ?",
        (job, host),
    ).fetchone()
    return int(row["size"])


def add_events(
    store: "Store",
    job: str,
    host: str,
    file: str,
    events: Iterable[tuple[int, Event]],
    position: int,
) -> None:
    """Adds events, each with the offset of its line, and how far the file was read."""
    now = time.time()
    with store.transaction():
        store.connection.executemany(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(job, host, file, offset, event.at, now, event.slot),
                    *(event.attempt, event.generation, event.kind, json.dumps(event.data)),
                )
                for offset, event in events
            ],
        )
        store.connection.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET position = excluded.position",
            (job, host, file, position),
        )


def note(store: "Store", job: str, kind: str, *, host: str = COORDINATOR, **data: Any) -> None:
    """Adds what the coordinator itself has to say of a job, or of one of its hosts."""
    now = time.time()
    store.connection.execute(
        "INSERT INTO events SELECT ?, ?, ?, COALESCE(MAX(position) + 1, 0), ?, ?, NULL, 0,"
        " (SELECT generation FROM jobs WHERE id = ?), ?, ?"
        " FROM events WHERE job = ? AND file = ?",
        (job, host, OWN, now, now, job, kind, json.dumps(data), job, OWN),
    )
