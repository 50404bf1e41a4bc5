"""Reads a job's stored events."""

import json
from collections.abc import Sequence

from sollol_tui.jobs.records import EventRecord
from sollol_tui.jobs.store import Store


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
