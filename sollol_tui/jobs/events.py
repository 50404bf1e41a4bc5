"""A job's stored events: added with how far their file was read, and read again."""

import json
import time
from collections.abc import Iterable, Sequence

from sollol_tui.jobs.records import EventRecord
from sollol_tui.jobs.store import Store
from sollol_tui.model.events import Event


def read_events(store: Store, job: str, kinds: Sequence[str] = ()) -> list[EventRecord]:
    """The events of a job in the order in which they were heard; only these `kinds` if any."""
    marks = ", ".join("?" * len(kinds))
    only = f" AND kind IN ({marks})" if kinds else ""
    rows = store.connection.execute(
        f"SELECT * FROM events WHERE job = ?{only} ORDER BY seen_at, host, file, position",
        (job, *kinds),
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
        )
        for row in rows
    ]


def position(store: Store, job: str, host: str, file: str) -> int:
    row = store.connection.execute(
        "SELECT position FROM positions WHERE job = ? AND host = ? AND file = ?",
        (job, host, file),
    ).fetchone()
    return int(row["position"]) if row else 0


def size(store: Store, job: str, host: str) -> int:
    """About how many bytes the stored events of a host take."""
    row = store.connection.execute(
        "SELECT COALESCE(SUM(LENGTH(data) + 150), 0) AS size FROM events"
        " WHERE job = ? AND host = ?",
        (job, host),
    ).fetchone()
    return int(row["size"])


def add_events(
    store: Store, job: str, host: str, file: str, events: Iterable[tuple[int, Event]], position: int
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
