"""Drives the application in a test: waits for what is on the screen, never for a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from textual.pilot import Pilot

from sollol_tui.client import SOLLOLClient
from sollol_tui.ui.app import SollolApp
from sollol_tui.ui.screens.overview import Overview
from sollol_tui.ui.widgets.keyed_table import KeyedTable
from sollol_tui.ui.widgets.log_pane import LogPane
from sollol_tui.ui.widgets.log_view import LogView
from tests.ui.sample import SampleClient

DEADLINE_S = 30.0


@dataclass
class Driven:
    """A running application and how a person sees it."""

    app: SollolApp
    pilot: Pilot[str]
    told: list[str] = field(default_factory=list)
    """What was notified: a person has seconds to read it, and a busy machine takes them."""

    @property
    def text(self) -> str:
        """The whole screen as characters."""
        return "\n".join(
            "".join(segment.text for segment in strip)
            for strip in self.app.screen._compositor.render_strips()
        )

    @property
    def overview(self) -> Overview:
        return next(s for s in self.app.screen_stack if isinstance(s, Overview))

    @property
    def jobs(self) -> KeyedTable:
        return self.overview.query_one("#jobs-table", KeyedTable)

    @property
    def hosts(self) -> KeyedTable:
        return self.overview.query_one("#hosts-table", KeyedTable)

    @property
    def pane(self) -> LogPane:
        return self.overview.query_one(LogPane)

    @property
    def log(self) -> LogView:
        return self.overview.query_one(LogView)

    @property
    def log_title(self) -> str:
        return str(self.pane._border_title)

    async def until(self, what: Callable[[], object]) -> None:
        """Waits for a condition; fails with the screen when it does not come."""
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < deadline, f"not in {DEADLINE_S:.0f} s:\n{self.text}"
            assert self.app._exception is None, self.app._exception
            await asyncio.sleep(0.01)
        await self.pilot.pause()

    async def sees(self, words: str) -> None:
        await self.until(lambda: words in self.text)

    async def hears(self, words: str) -> None:
        """Waits for a notification."""
        await self.until(lambda: any(words in each for each in self.told))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()


@asynccontextmanager
async def driven(
    client: SampleClient | SOLLOLClient,
    *,
    size: tuple[int, int] = (80, 24),
    readonly: bool = False,
    job: str | None = None,
) -> AsyncIterator[Driven]:
    """The application on a terminal of this size, its first snapshot shown."""
    app = SollolApp(client, readonly=readonly, job=job)  # type: ignore[arg-type]
    told: list[str] = []
    notify = app.notify

    def note(message: str, **more: Any) -> None:
        told.append(message)
        notify(message, **more)

    app.notify = note  # type: ignore[method-assign]
    async with app.run_test(size=size, notifications=True) as pilot:
        running = Driven(app, pilot, told)
        await running.until(lambda: app.snapshot is not None)
        await running.sees("coordinator free")
        await running.until(lambda: running.overview.job_id == running.jobs.key_under_cursor)
        yield running
