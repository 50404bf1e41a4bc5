"""The rows of the hosts on which a job's teacher computes: what is noted of each while it does. The
plan says who they are."""

import json
from typing import Any

from sollol_tui.jobs.store import Store


def note_teacher(store: Store, job: str, host: str, **values: Any) -> None:
    """Sets columns of a host's row."""
    names = ", ".join(f"{name} = ?" for name in values)
    store.connection.execute(
        f"UPDATE teachers SET {names} WHERE job = ? AND host = ?", (*values.values(), job, host)
    )


def launch_of(store: Store, job: str, host: str) -> int:
    """Which launch of the teacher's run there is the current one."""
    [row] = store.connection.execute(
        "SELECT launch FROM teachers WHERE job = ? AND host = ?", (job, host)
    )
    return int(row["launch"])


def prepared(store: Store, job: str) -> dict[str, dict[str, Any]]:
    """Where things lie on the hosts on which something was ever prepared."""
    rows = store.connection.execute(
        "SELECT host, environment FROM teachers WHERE job = ? AND environment IS NOT NULL", (job,)
    )
    return {row["host"]: json.loads(row["environment"]) for row in rows}


def dismiss(store: Store, job: str) -> None:
    """Nothing of the teacher's runs any more; what it does next is another launch."""
    store.connection.execute(
        "UPDATE teachers SET state ="
        " CASE WHEN state = 'done' OR (total > 0 AND done = total) THEN 'done' ELSE 'gone' END,"
        " tokens_per_s = NULL, eta_s = NULL, launch = launch + 1 WHERE job = ?",
        (job,),
    )
