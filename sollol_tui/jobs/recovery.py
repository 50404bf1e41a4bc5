"""What the loss of a worker means: whose loss ended a launch, what the job does then, and when a
worker that was lost may come back. Pure; who is lost out of sight is judged in sight.py."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.records import WorkerRecord
from sollol_tui.model.plan import Plan
from sollol_tui.model.states import WorkerState

AWAY: Final = frozenset({WorkerState.LOST, WorkerState.QUARANTINED})
"""Workers of which nothing takes part now, though they were not asked to leave."""
COMING: Final = frozenset({WorkerState.PLANNED, WorkerState.PROVISIONING, WorkerState.READY})
"""Workers on their way into the job."""
MOST_TRIES: Final = 3  # to bring a lost worker back
WAITS_S: Final = (5.0, 5.0, 15.0)  # from a try to the next one, by how many have failed
STEADY_S: Final = 600.0  # who trains for so long is well again: what was before does not count
STEADY_ELASTIC_S: Final = 60.0  # the same where a loss costs the others a step, and no new launch
ENOUGH_LIGHTHOUSES: Final = 2  # with two, the loss of any one host leaves the others one


def who_is_lost(
    failures: Sequence[Failure], unseen: Mapping[str, str], *, has_begun: bool
) -> dict[str, str]:
    """The workers whose loss ended a launch, with the reason; none when it is no loss but a failure
    of the job: one that says by itself what to do would come again, and so would any before the
    first step, unless a host was switched off."""
    nearest = min((failure.distance for failure in failures), default=None)
    causes = [failure for failure in failures if failure.distance == nearest]
    if any(failure.foreseen for failure in failures):
        return {}
    if not has_begun:
        return {f.host: f.reason for f in failures if f.gone}
    if nearest == 2:  # they only tell that they lost a peer: one that is out of sight, if any is
        away = {host: f"it is out of reach: {reason}" for host, reason in unseen.items() if reason}
        return away or {failure.host: failure.reason for failure in causes}
    return {failure.host: failure.reason for failure in causes}


def lighthouses_missing(plan: Plan, lost: Collection[str], *, may_change: bool) -> str:
    """Why the workers that are there need another generation, which lights lighthouses anew, in
    words; "" when they do not. While who takes part `may_change` by itself, one is enough."""
    there = {worker.host for worker in plan.workers} - set(lost)
    keepers = sorted({light.host for light in plan.lit} & there)
    if len(keepers) >= min(len(there), 1 if may_change else ENOUGH_LIGHTHOUSES):
        return ""
    return f"only {keepers[0]} keeps a lighthouse" if keepers else "no lighthouse is left"


def tries_after_loss(worker: WorkerRecord, now: float, *, is_elastic: bool) -> int:
    """How many tries to bring it back count, when it is lost at `now`."""
    steady_s = STEADY_ELASTIC_S if is_elastic else STEADY_S
    is_steady = worker.tried_at is not None and now - worker.tried_at > steady_s
    return 0 if is_steady else worker.tries


def may_try(worker: WorkerRecord, now: float) -> bool:
    """Whether it is time to look for a lost worker."""
    if worker.state is not WorkerState.LOST or worker.tries >= MOST_TRIES:
        return False
    return worker.tried_at is None or not 0 <= now - worker.tried_at < WAITS_S[worker.tries]


def is_hopeless(worker: WorkerRecord) -> bool:
    """Whether a lost worker has used up its tries."""
    return worker.state is WorkerState.LOST and worker.tries >= MOST_TRIES


def quarantine_reason(reason: str) -> str:
    return f"lost or failed {MOST_TRIES} times, at last: {reason}"


def told(lost: Mapping[str, str]) -> str:
    """ "w2: its agent is gone": whom a job recovers from."""
    return "; ".join(f"{host}: {reason}" for host, reason in sorted(lost.items()))


def waits_for(workers: Iterable[WorkerRecord]) -> str:
    """What a job without any worker waits for."""
    away = {worker.host: worker.reason for worker in workers if worker.state is WorkerState.LOST}
    return f"all its workers are lost; waits for {told(away)}"
