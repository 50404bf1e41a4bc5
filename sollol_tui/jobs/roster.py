"""Who is asked to join or to leave a job, and the rows of those who may come. The plan says who
takes part; a request is settled when that has been done."""

import time

from sollol_tui.jobs.records import MembershipRequest
from sollol_tui.jobs.store import Store


def membership_requests(store: Store, job: str) -> list[MembershipRequest]:
    """Who is still to join or to leave, in the order in which it was asked."""
    rows = store.connection.execute(
        "SELECT kind, host FROM requests WHERE job = ? AND handled_at IS NULL AND host != ''"
        " ORDER BY id",
        (job,),
    )
    return [MembershipRequest(kind=row["kind"], host=row["host"]) for row in rows]


def settle(store: Store, job: str, kind: str, host: str) -> None:
    """What was asked about a host has been done, or is asked no more."""
    store.connection.execute(
        "UPDATE requests SET handled_at = ? WHERE job = ? AND kind = ? AND host = ?"
        " AND handled_at IS NULL",
        (time.time(), job, kind, host),
    )


def expect(store: Store, job: str, host: str) -> None:
    """A host that is to join has a row of its own before it is in the plan."""
    store.connection.execute(
        "INSERT OR IGNORE INTO workers (job, host, position, state, slots, share)"
        " SELECT ?, ?, COALESCE(MAX(position), 0) + 1, 'planned', '[]', 0 FROM workers"
        " WHERE job = ?",
        (job, host, job),
    )


def begin_try(store: Store, job: str, host: str) -> None:
    """A try to bring a lost worker back begins. It counts from now on, whatever happens to us."""
    store.connection.execute(
        "UPDATE workers SET tries = tries + 1, tried_at = ? WHERE job = ? AND host = ?",
        (time.time(), job, host),
    )


def void_try(store: Store, job: str, host: str) -> None:
    """The last try does not count: the host did not answer, or it was we who gave it up."""
    store.connection.execute(
        "UPDATE workers SET tries = MAX(tries - 1, 0) WHERE job = ? AND host = ?", (job, host)
    )


def forgive(store: Store, job: str, host: str) -> None:
    """A lost worker may come back as if it had never been lost before."""
    store.connection.execute(
        "UPDATE workers SET tries = 0, tried_at = NULL WHERE job = ? AND host = ?", (job, host)
    )
