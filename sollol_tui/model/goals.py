"""What a job may be waited for: running, paused, done, or a step. Waits for nothing itself."""

from dataclasses import dataclass

from sollol_tui.model.errors import InputError
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState

_AFTER_RUNNING = frozenset({JobState.RUNNING, JobState.FINISHING, JobState.DONE})


@dataclass(frozen=True, slots=True)
class Goal:
    """A state, or with `step` at least that many committed steps."""

    state: JobState
    step: int = 0

    def is_reached(self, job: JobView) -> bool:
        if self.step:
            return job.step >= self.step or job.state is JobState.DONE
        if self.state is JobState.RUNNING:
            return job.state in _AFTER_RUNNING
        return job.state is self.state

    def is_missed(self, job: JobView) -> bool:
        """Whether it cannot be reached any more."""
        return job.state.is_terminal and not self.is_reached(job)

    def __str__(self) -> str:
        return f"at step {self.step}" if self.step else self.state.value


def parse_goal(text: str) -> Goal:
    """`running`, `paused`, `done` or `step=120`. Raises InputError."""
    key, _, number = text.partition("=")
    if key == "step" and number.isdecimal() and int(number[:12]) > 0:
        return Goal(JobState.RUNNING, int(number[:12]))
    for state in (JobState.RUNNING, JobState.PAUSED, JobState.DONE):
        if text == state:
            return Goal(state)
    raise InputError.single("--for", f"'{text}' is not running, paused, done or step=N")
