"""The pane of jobs: one row each, what runs first. Says which job is under the cursor or opened."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Static

from sollol_tui.model.columns import LONG_BAR, Tone, job_cells, job_columns, job_tone, jobs_in_order
from sollol_tui.model.snapshot import JobView, Snapshot
from sollol_tui.ui.widgets.keyed_table import KeyedTable, Row

NO_JOBS = "no jobs yet - start one with: sollol train --model DIR --dataset FILE"
_ROOMY = 110  # cells from which the long progress bar fits


class JobsTable(Vertical):
    snapshot: reactive[Snapshot | None] = reactive(None)

    def compose(self) -> ComposeResult:
        yield KeyedTable(id="jobs-table")
        yield Static(NO_JOBS, classes="empty", markup=False)

    def on_mount(self) -> None:
        self.border_title = "jobs"

    def on_resize(self) -> None:
        self.watch_snapshot()

    def watch_snapshot(self) -> None:
        if self.snapshot is None:
            return
        now, jobs = self.snapshot.at, jobs_in_order(self.snapshot.jobs)
        bar_width = LONG_BAR if self.size.width >= _ROOMY else 13
        self.set_class(not jobs, "-empty")
        rows = [_row(job, now, bar_width) for job in jobs]
        self.query_one(KeyedTable).show_rows(job_columns(bar_width), rows)


def _row(job: JobView, now: float, bar_width: int) -> Row:
    tone = job_tone(job)
    cells = job_cells(job, now, bar_width=bar_width)
    rest = Tone.MUTED if job.state.is_terminal else Tone.PLAIN
    by_key = {"state": tone, "progress": tone if tone is Tone.BAD else rest, "name": Tone.PLAIN}
    tones = tuple(by_key.get(column.key, rest) for column in job_columns())
    return Row(key=job.id, cells=cells, tones=tones)
