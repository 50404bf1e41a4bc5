"""All jobs, running, waiting and finished, and the page of the one under the cursor."""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.widget import Widget

from sollol_tui.model.columns import log_prefix
from sollol_tui.model.snapshot import Snapshot
from sollol_tui.ui.curves import Curves
from sollol_tui.ui.reading import Reading
from sollol_tui.ui.screens.filtered import FilteredView
from sollol_tui.ui.screens.sheet import Sheet
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from sollol_tui.ui.widgets.job_page import JobPage, Proof
from sollol_tui.ui.widgets.jobs_table import JobsTable
from sollol_tui.ui.widgets.keyed_table import KeyedTable

_PEEKED: Final = 200  # lines
_PEEKED_BYTES: Final = 1 << 14  # of each rank's log


class Jobs(FilteredView):
    NAME = "jobs"
    CSS_PATH = ["view.tcss", "jobs.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#jobs-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Log", id="jobs.log", tooltip="The log of the job under the cursor"),
        Binding("space", "peek", "Peek", id="jobs.peek", show=False,
                tooltip="The last lines of the job's log; again or esc closes them"),
    ]  # fmt: skip

    def panes(self) -> Iterable[Widget]:
        yield JobsTable(id="jobs").data_bind(Jobs.snapshot)
        yield JobPage(id="page")
        yield FilterEntry(placeholder="text, !text, re:pattern or state:running", compact=True)

    def on_mount(self) -> None:
        self._proof: Proof | None = None
        self._curves = Curves(self._client, jobs=1)
        self._reading = Reading(self, self._read, self._show_proof, self._fail)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        self._reading.want()
        self._show_page()

    def _read(self) -> Proof | None:
        """What its ranks say of themselves; of a job that has taken no step there is nothing."""
        job = self.job
        if job is None or not job.step:
            return None
        points = self._curves.points(job.id)
        return Proof(
            job=job.id,
            curve=tuple((p.step, p.loss) for p in points if p.loss is not None),
            evidence=self._client.evidence(job.id),
            newest=points[-1] if points else None,
            ranking=self._client.ranking(job.id),
        )

    def _show_proof(self, proof: Proof | None) -> None:
        self._proof = proof
        self._show_page()

    def _fail(self, sentence: str) -> None:
        self._proof = None
        self.notify(sentence, title="its figures cannot be read", severity="error", markup=False)

    def choose(self, job_id: str) -> bool:
        return self.table.move_to(job_id)

    def watch_job_id(self) -> None:
        super().watch_job_id()
        if self.is_mounted:
            self._reading.want()
            self._show_page()

    def _show_page(self) -> None:
        if self.snapshot is not None:
            self.query_one(JobPage).show(self.job, self.hosts, self.snapshot.at, self._proof)

    def on_keyed_table_cursor_moved(self, message: KeyedTable.CursorMoved) -> None:
        self.job_id = message.key

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        self.action_log()

    def action_peek(self) -> None:
        """The end of the log, over the table."""
        if (job := self.job) is not None:
            read = partial(self._last_lines, job.id)
            self.app.push_screen(Sheet(f"last lines of {job.id} {job.name}", read, from_end=True))

    def _last_lines(self, job: str) -> list[str]:
        reader = self._client.open_logs(job, tail_bytes=_PEEKED_BYTES)
        lines = [line for batch in iter(reader.read, []) for line in batch]
        return [f"{log_prefix(line.host, line.slot)}  {line.text}" for line in lines[-_PEEKED:]]

    @property
    def command(self) -> tuple[str, ...]:
        return ("sollol", "jobs") if self.job_id is None else ("sollol", "show", self.job_id)

    def show_only(self, text: str) -> None:
        self.query_one(JobsTable).show_only(text)
