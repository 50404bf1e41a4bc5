"""Who holds which device or port, and who waits for one: the tables `leases` and `claims`, and what
errands occupy. A lease is a live job's alone; a claim is what a queued job could use, and keeps
those behind it away."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sollol_tui.jobs.database import Database
from sollol_tui.jobs.occupied import occupied
from sollol_tui.model.errors import JobError


class TakenError(JobError):
    """Another job holds one of the resources, or comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a job may not have now: `leased` maps resources to the jobs that hold them, `claimed` to
    the jobs that wait before it."""

    leased: Mapping[str, str] = field(default_factory=dict)
    claimed: Mapping[str, str] = field(default_factory=dict)


class Leases:
    """Writes inside the transactions of its callers."""

    def __init__(self, connection: Database) -> None:
        self._connection = connection

    def held(self) -> dict[str, str]:
        """Which job, or which errand in words, holds each resource."""
        rows = self._connection.execute("SELECT resource, job FROM leases")
        own = {row["resource"]: row["job"] for row in rows}
        return occupied(self._connection.file.parent) | own

    def taken_from(self, job: str | None) -> Taken:
        """What `job` may not have; None for a job that is still to come."""
        rows = self._connection.execute(
            "SELECT claims.resource, claims.job FROM claims JOIN jobs ON jobs.id = claims.job"
            " WHERE turn < COALESCE((SELECT turn FROM jobs WHERE id = ?), 9e18)"
            " ORDER BY turn DESC",  # of several claims the earliest job's stays
            (job,),
        )
        claimed = {row["resource"]: row["job"] for row in rows}
        return Taken(
            leased={name: holder for name, holder in self.held().items() if holder != job},
            claimed=claimed,
        )

    def take(self, job: str, resources: Iterable[str]) -> None:
        """Leases more for a live job, all or nothing. Raises TakenError when another has some."""
        with self._connection.transaction():
            held, wanted = self.held(), list(resources)
            for resource in wanted:  # before the first is written
                if (holder := held.get(resource, job)) != job:
                    raise TakenError(
                        f"{resource} is in use by {holder}",
                        remedy="wait for it or choose other workers; see: sollol resources",
                    )
            self._connection.executemany(
                "INSERT OR IGNORE INTO leases (resource, job) VALUES (?, ?)",
                [(resource, job) for resource in wanted],
            )

    def check_turn(self, job: str, resources: Iterable[str]) -> None:
        """Raises TakenError when a job that waits before this one could use one of them."""
        claimed = self.taken_from(job).claimed
        for resource in resources:
            if resource in claimed:
                raise TakenError(
                    f"{resource} goes to {claimed[resource]} first",
                    remedy="it waits before this one; see: sollol jobs",
                )

    def claim(self, job: str, resources: Iterable[str]) -> None:
        """Sets what a queued job could use."""
        with self._connection.transaction():
            self.unclaim(job)
            self._connection.executemany(
                "INSERT OR IGNORE INTO claims (job, resource) VALUES (?, ?)",
                [(job, resource) for resource in resources],
            )

    def unclaim(self, job: str) -> None:
        self._connection.execute("DELETE FROM claims WHERE job = ?", (job,))

    def give_back(self, job: str, resources: Iterable[str]) -> None:
        """Frees some of what a job holds."""
        self._connection.executemany(
            "DELETE FROM leases WHERE job = ? AND resource = ?",
            [(job, resource) for resource in resources],
        )

    def free(self, job: str) -> None:
        self._connection.execute("DELETE FROM leases WHERE job = ?", (job,))
