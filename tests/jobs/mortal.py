"""A supervisor that kills itself at a named point, as `kill -9` does, in a process of its own.

Run: python -m tests.jobs.mortal JOB POINT. What it does until then is what every supervisor does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from sollol_tui.jobs import delivery, worker
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import main
from sollol_tui.model.states import JobState

TRANSFERRING = "transferring"  # a host has a part of the dataset
BEFORE_LAUNCH = "before the launch"  # it is written down, and no host knows of it
WHILE_LAUNCHING = "while launching"  # a host has carried it out, and its answer is not heard
AFTER_LAUNCH = "after the launch"  # both have answered, and nobody has written that down


def into(state: JobState) -> str:
    """The job has just come to the state."""
    return f"into {state}"


def out_of(state: JobState) -> str:
    """What is done in the state has been done, and the job is still in it."""
    return f"out of {state}"


def supervise_until(home: Home, job: str, point: str) -> int:
    """The exit status of a supervisor of `job` that dies at `point`: -9 when it came to it."""
    home.job(job).mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.job(job) / "supervisor.log").open("ab") as log:
        return subprocess.run(
            [sys.executable, "-m", "tests.jobs.mortal", job, point],
            env=os.environ | {"SOLLOL_HOME": str(home.root)},
            stdout=log,
            stderr=log,
            timeout=120,
            check=False,
        ).returncode


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def die_at(point: str) -> None:
    """Prepares this process's death."""
    if point == TRANSFERRING:
        delivery.pace = lambda what, say: lambda done, total: die() if done else None
    elif point == BEFORE_LAUNCH:
        worker.start_agent = die
    elif point in (WHILE_LAUNCHING, AFTER_LAUNCH):
        answers = {WHILE_LAUNCHING: 1, AFTER_LAUNCH: 2}[point]
        worker.start_agent = dying_after(answers, worker.start_agent)
    else:
        Store.move_job = dying_mover(point, Store.move_job)  # type: ignore[method-assign]


def dying_after(answers: int, act: Callable[..., Any]) -> Callable[..., Any]:
    heard: list[Any] = []

    async def act_and_die(*arguments: Any) -> Any:
        heard.append(await act(*arguments))
        if len(heard) == answers:
            die()
        return heard[-1]

    return act_and_die


def dying_mover(point: str, move: Callable[..., bool]) -> Callable[..., bool]:
    def move_and_die(self: Store, job: str, new: JobState, reason: str = "") -> bool:
        if point == out_of(self.job(job).state):
            die()
        is_moved = move(self, job, new, reason)
        if point == into(new):
            die()
        return is_moved

    return move_and_die


if __name__ == "__main__":
    die_at(sys.argv[2])
    sys.exit(main(sys.argv[1]))
