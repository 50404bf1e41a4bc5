"""What stands above a log: how its job is, why it failed, and that the log cannot be read. Knows no
line of it."""

from typing import Final

from rich.text import Text
from textual.widgets import Static

from sollol_tui.model.columns import Tone, job_sentence, job_tone
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.ui.theme import tone_style

_TRACEBACK_LINES: Final = 4


class LogHead(Static):
    """Shows what `tell` hands in; without a job it is not there."""

    def __init__(self) -> None:
        super().__init__("", id="log-head", markup=False)
        self._told = ""

    def tell(self, job: JobView | None, now: float, trouble: str) -> None:
        self.display = job is not None
        if job is None:
            return
        text = Text()
        text.append(job_sentence(job, now), tone_style(self.app, job_tone(job)))
        for line in clean_lines(job.traceback)[-_TRACEBACK_LINES:]:
            text.append(f"\n{line}", tone_style(self.app, Tone.MUTED))
        if trouble:
            text.append(f"\n{clean(trouble)}", tone_style(self.app, Tone.BAD))
        if (told := text.markup) != self._told:
            self._told = told
            # A layout of the whole screen costs more than all else here, and most news needs none.
            rows = len(text.wrap(self.app.console, max(1, self.content_size.width)))
            self.update(text, layout=rows != self.content_size.height)
