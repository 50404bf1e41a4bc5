"""The states of a job and of a worker, and which may follow which. `jobs/` acts on them."""

from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    QUEUED = "queued"
    PLANNING = "planning"
    PROVISIONING = "provisioning"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHING = "finishing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})
UNLEASED: Final = frozenset({JobState.QUEUED, JobState.PAUSED}) | TERMINAL
"""In these a job holds no device and no port, and nothing of it runs anywhere."""
UNATTENDED: Final = frozenset({JobState.PAUSED}) | TERMINAL
"""In these a job needs no supervisor."""
_FORWARD: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset({JobState.PLANNING, JobState.PAUSED, JobState.CANCELLED}),
    JobState.PLANNING: frozenset({JobState.PROVISIONING, JobState.QUEUED, JobState.PAUSING}),
    JobState.PROVISIONING: frozenset({JobState.STARTING, JobState.QUEUED, JobState.PAUSING}),
    JobState.STARTING: frozenset({JobState.RUNNING, JobState.RECOVERING, JobState.PAUSING}),
    JobState.RUNNING: frozenset({JobState.FINISHING, JobState.PAUSING, JobState.RECOVERING}),
    JobState.RECOVERING: frozenset(
        {JobState.STARTING, JobState.QUEUED, JobState.PAUSING, JobState.FINISHING}
    ),
    JobState.PAUSING: frozenset({JobState.PAUSED, JobState.FINISHING}),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.STOPPING: frozenset({JobState.CANCELLED}),
    JobState.FINISHING: frozenset({JobState.DONE}),
}
_FROM_ANY_LIVE: Final = frozenset({JobState.STOPPING, JobState.FAILED})


def job_may_become(old: JobState, new: JobState) -> bool:
    """Whether the table allows `old -> new`. Terminal states are final."""
    if old in TERMINAL:
        return False
    return new in _FORWARD[old] or (new in _FROM_ANY_LIVE and new != old)


class WorkerState(StrEnum):
    PLANNED = "planned"
    PROVISIONING = "provisioning"
    READY = "ready"
    TRAINING = "training"
    LEAVING = "leaving"
    GONE = "gone"
    LOST = "lost"
    QUARANTINED = "quarantined"


_WORKER_FORWARD: Final[dict[WorkerState, frozenset[WorkerState]]] = {
    WorkerState.PLANNED: frozenset({WorkerState.PROVISIONING, WorkerState.LEAVING}),
    WorkerState.PROVISIONING: frozenset({WorkerState.READY, WorkerState.LEAVING}),
    WorkerState.READY: frozenset(
        {WorkerState.TRAINING, WorkerState.PROVISIONING, WorkerState.LEAVING}
    ),
    WorkerState.TRAINING: frozenset({WorkerState.PROVISIONING, WorkerState.LEAVING}),
    WorkerState.LEAVING: frozenset({WorkerState.GONE}),
    WorkerState.GONE: frozenset({WorkerState.PROVISIONING}),
    WorkerState.LOST: frozenset(
        {WorkerState.PROVISIONING, WorkerState.QUARANTINED, WorkerState.LEAVING}
    ),
    WorkerState.QUARANTINED: frozenset({WorkerState.PROVISIONING, WorkerState.LEAVING}),
}


def worker_may_become(old: WorkerState, new: WorkerState) -> bool:
    """Whether the table allows `old -> new`; any state but `gone` may turn to lost."""
    if new is WorkerState.LOST:
        return old not in (WorkerState.GONE, WorkerState.LOST)
    return new in _WORKER_FORWARD[old]
