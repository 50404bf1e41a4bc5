"""What happened to jobs, in the order in which the coordinator heard of it: its own transitions and
requests and the events of all hosts, merged. Words are made elsewhere."""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from sollol_tui.jobs.database import told_if_damaged
from sollol_tui.jobs.store import Store
from sollol_tui.model.happenings import FIGURES, Happening, Note, tell

_MOST_NOTES: Final = 20_000  # the newest, of which a timeline is made


@told_if_damaged
def read_timeline(
    store: Store, job: str | None = None, kinds: Collection[str] = ()
) -> list[Happening]:
    """What happened to a job, or to all of them; only these `kinds` if any. Within one host its own
    clock decides between what was heard at once."""
    notes = list(_events(store, job, kinds))
    if not kinds or "transition" in kinds:
        notes += _transitions(store, job)
    if not kinds or "request" in kinds:
        notes += _requests(store, job)
    # Of one moment the coordinator's own word comes first: events are what came of it.
    notes.sort(key=lambda note: (note.seen_at, note.kind not in ("transition", "request")))
    return list(tell(notes[-_MOST_NOTES:]))


def _transitions(store: Store, job: str | None) -> Iterator[Note]:
    for row in _newest(store, "rowid, * FROM transitions", job, "rowid DESC"):
        yield Note(
            key=f"{row['job']} transition {row['rowid']}",
            job=row["job"],
            kind="transition",
            seen_at=row["at"],
            at=row["at"],
            data={key: row[key] for key in ("old", "new", "reason")},
        )


def _requests(store: Store, job: str | None) -> Iterator[Note]:
    for row in _newest(store, "* FROM requests", job, "id DESC"):
        yield Note(
            key=f"{row['job']} request {row['id']}",
            job=row["job"],
            kind="request",
            seen_at=row["created_at"],
            at=row["created_at"],
            host=row["host"],
            data={"what": row["kind"]},
        )


def _events(store: Store, job: str | None, kinds: Collection[str]) -> Iterator[Note]:
    listed = ", ".join(f"'{kind}'" for kind in sorted(kinds or FIGURES))
    condition = f"kind {'IN' if kinds else 'NOT IN'} ({listed})"
    order = "seen_at DESC, host DESC, at DESC, position DESC"
    for row in _newest(store, "* FROM events", job, order, condition):
        yield Note(
            key=f"{row['job']} {row['host']} {row['file']} {row['position']}",
            job=row["job"],
            kind=row["kind"],
            seen_at=row["seen_at"],
            at=row["at"],
            host=row["host"],
            slot=row["slot"],
            attempt=row["attempt"],
            generation=row["generation"],
            data=json.loads(row["data"]),
        )


def _newest(
    store: Store, what: str, job: str | None, order: str, condition: str = "1"
) -> Iterator[Any]:
    """The newest rows of a table, the oldest of them first."""
    of_job = "job = :job" if job is not None else "1"
    rows: list[Any] = store.connection.execute(
        f"SELECT {what} WHERE {of_job} AND {condition} ORDER BY {order} LIMIT :most",
        {"job": job, "most": _MOST_NOTES},
    ).fetchall()
    return iter(rows[::-1])
