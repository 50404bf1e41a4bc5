"""Brings the lines of the job that a view looks at to its pane, while somebody can see them."""

import asyncio
from typing import TYPE_CHECKING, Final

from sollol_tui.model.columns import log_prefix
from sollol_tui.ui.rounds import sentence
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.log_pane import LogPane

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.logs import LogLine, LogReader

_LOGS_S: Final = 0.25
_BATCH: Final = 2000
_TAIL_BYTES: Final = 1 << 20  # of each rank's log; older lines are in the files


class LogFeed:
    """One job at a time."""

    def __init__(self, client: "SOLLOLClient", view: View, pane: LogPane) -> None:
        self._client = client
        self._view = view
        self._pane = pane
        self._job: str | None = None

    def follow(self) -> None:
        """Begins with the view's job, unless it is the one that is followed already."""
        job = self._view.job_id
        if job == self._job:
            return
        self._job = job
        self._pane.start(self._view.job)
        if job is None:
            self._view.workers.cancel_group(self._view, "log")
        else:
            self._view.run_worker(
                self._follow(job), group="log", exclusive=True, exit_on_error=False
            )

    async def _follow(self, job: str) -> None:
        """Hands the job's lines to the pane, a batch at a time, until another job is chosen."""
        reader: LogReader | None = None
        while True:
            lines: list[LogLine] = []
            if self._view.is_shown:
                try:
                    if reader is None:
                        reader = await asyncio.to_thread(
                            self._client.open_logs, job, tail_bytes=_TAIL_BYTES
                        )
                    lines = await asyncio.to_thread(reader.read, _BATCH)
                    self._pane.trouble = ""
                except Exception as error:  # the pane says it and the next round tries again
                    self._pane.trouble = f"the log cannot be read: {sentence(error)}"
            if lines:
                self._pane.append(
                    [(log_prefix(line.host, line.slot), line.text, line.at) for line in lines]
                )
            await asyncio.sleep(0 if len(lines) >= _BATCH else _LOGS_S)
