"""What plans of a job that is still being written stand on: each host and dataset is asked once,
and again when its answer may be old. Decides nothing, and a job that is submitted does without."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.jobs.dataset import check_dataset
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.probe import Answers, ask
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host
from sollol_tui.model.plan import DatasetFacts

FRESH_S: Final = 60.0
T = TypeVar("T")


class Survey:
    """Who waits for an answer may give up; the question goes on for the next who asks it, until
    `close`. Belongs to one event loop."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._asked: dict[str, tuple[float, object, asyncio.Task[Any]]] = {}

    async def facts(self, hosts: Iterable[Host]) -> Answers[HostFacts]:
        """What each host is, or the error that names it."""
        tasks = [
            self._ask(f"host {host.name}", host, lambda host=host: self._facts_of(host))  # type: ignore[misc]
            for host in hosts
        ]
        answers: Answers[HostFacts] = Answers()
        for task in tasks:
            answer = await asyncio.shield(task)
            answers.said |= answer.said
            answers.errors |= answer.errors
        return answers

    async def dataset(self, place: str, fmt: str | dict[str, str]) -> DatasetFacts:
        """As `check_dataset`, of the one dataset that is asked for last."""
        asked = (place, fmt, _mark(place))
        return await asyncio.shield(
            self._ask("dataset", asked, lambda: check_dataset(place, fmt)),
        )

    def close(self) -> None:
        """Gives up what is not answered yet."""
        for _, _, task in self._asked.values():
            task.cancel()
        self._asked.clear()

    async def _facts_of(self, host: Host) -> Answers[HostFacts]:
        return await ask(self._home, [host], gather_facts)

    def _ask(
        self, name: str, about: object, question: Callable[[], Awaitable[T]]
    ) -> "asyncio.Task[T]":
        if (known := self._asked.get(name)) is not None:
            at, what, task = known
            if what == about and time.monotonic() - at < FRESH_S:
                return task
            task.cancel()

        async def answer() -> T:
            return await question()

        task = asyncio.create_task(answer())
        task.add_done_callback(_heed)
        self._asked[name] = time.monotonic(), about, task
        return task


def _heed(task: "asyncio.Task[Any]") -> None:
    """An error that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()


def _mark(place: str) -> tuple[int, int] | None:
    """What tells a file from what it was before."""
    try:
        status = Path(place).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
