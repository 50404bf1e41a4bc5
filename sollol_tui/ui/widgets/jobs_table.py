"""The pane of jobs: one row each, what runs first. Says which job is under the cursor or opened."""

from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Static

from sollol_tui.model.columns import LONG_BAR, Tone, job_cells, job_columns, job_tone, jobs_in_order
from sollol_tui.model.snapshot import JobView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.ui.log_filter import parse_filter
from sollol_tui.ui.widgets.keyed_table import KeyedTable, Row

NO_JOBS = "no jobs yet - press a, or: sollol train --model DIR --dataset FILE"
NONE_ADMITTED = "no job passes the filter - esc clears it"
_ROOMY = 110  # cells from which the long progress bar fits


class JobsTable(Vertical):
    snapshot: reactive[Snapshot | None] = reactive(None)

    def compose(self) -> ComposeResult:
        yield KeyedTable(id="jobs-table")
        yield Static(NO_JOBS, classes="empty", markup=False)

    def on_mount(self) -> None:
        self._admits: Callable[[JobView], bool] = lambda job: True
        self._say("jobs")

    def show_only(self, text: str) -> None:
        """Shows the jobs that a filter admits: `state:running`, or what `parse_filter` reads, held
        against id, name, state and workers."""
        try:
            self._admits = _job_filter(text)
        except ValueError as error:
            self._say(f"jobs - {clean(str(error))}")
            return
        self._say(f"jobs - only {clean(text)}" if text else "jobs")
        self.query_one(".empty", Static).update(NONE_ADMITTED if text else NO_JOBS)
        self.watch_snapshot()

    def _say(self, title: str) -> None:
        self.border_title = Text(title)

    def on_resize(self) -> None:
        self.watch_snapshot()

    def watch_snapshot(self) -> None:
        if self.snapshot is None:
            return
        now = self.snapshot.at
        jobs = [job for job in jobs_in_order(self.snapshot.jobs) if self._admits(job)]
        bar_width = LONG_BAR if self.size.width >= _ROOMY else 13
        self.set_class(not jobs, "-empty")
        rows = [_row(job, now, bar_width) for job in jobs]
        self.query_one(KeyedTable).show_rows(job_columns(bar_width), rows)


def _job_filter(text: str) -> Callable[[JobView], bool]:
    if text.startswith("state:"):
        wanted = text.removeprefix("state:").strip().lower()
        return lambda job: job.state.value.startswith(wanted)
    line_filter = parse_filter(text)
    return lambda job: line_filter.admits(
        " ".join([job.id, job.name, job.state.value, *(worker.host for worker in job.workers)])
    )


def _row(job: JobView, now: float, bar_width: int) -> Row:
    tone = job_tone(job)
    cells = job_cells(job, now, bar_width=bar_width)
    rest = Tone.MUTED if job.state.is_terminal else Tone.PLAIN
    by_key = {"state": tone, "progress": tone if tone is Tone.BAD else rest, "name": Tone.PLAIN}
    tones = tuple(by_key.get(column.key, rest) for column in job_columns())
    return Row(key=job.id, cells=cells, tones=tones)
