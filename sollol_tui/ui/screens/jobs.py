"""All jobs, running, waiting and finished, and the page of the one under the cursor."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from sollol_tui.model.snapshot import Snapshot
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from sollol_tui.ui.widgets.job_page import JobPage
from sollol_tui.ui.widgets.jobs_table import JobsTable
from sollol_tui.ui.widgets.keyed_table import KeyedTable


class Jobs(View):
    NAME = "jobs"
    CSS_PATH = ["view.tcss", "jobs.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#jobs-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="jobs.filter", key_display="/",
                tooltip="Show only jobs with this text; !text, re:pattern, state:running"),
        Binding("l", "log", "Log", id="jobs.log", tooltip="The log of the job under the cursor"),
        Binding("escape", "back", "Clear", id="jobs.clear", show=False,
                tooltip="Clear the filter, then back to the jobs"),
    ]  # fmt: skip

    def panes(self) -> Iterable[Widget]:
        yield JobsTable(id="jobs").data_bind(Jobs.snapshot)
        yield JobPage(id="page")
        yield FilterEntry(placeholder="text, !text, re:pattern or state:running", compact=True)

    def on_mount(self) -> None:
        self.query_one(FilterEntry).display = False

    @property
    def _table(self) -> KeyedTable:
        return self.query_one(KeyedTable)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        self._show_page()

    def choose(self, job_id: str) -> bool:
        return self._table.move_to(job_id)

    def watch_job_id(self) -> None:
        super().watch_job_id()
        if self.is_mounted:
            self._show_page()

    def _show_page(self) -> None:
        if self.snapshot is not None:
            self.query_one(JobPage).show(self.job, self.hosts, self.snapshot.at)

    def on_keyed_table_cursor_moved(self, message: KeyedTable.CursorMoved) -> None:
        self.job_id = message.key

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        self.action_log()

    def action_log(self) -> None:
        self.sollol.action_view("logs")

    def action_filter(self) -> None:
        entry = self.query_one(FilterEntry)
        entry.display = True
        entry.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.query_one(JobsTable).show_only(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._table.focus()
        self.query_one(FilterEntry).display = False

    def action_back(self) -> None:
        entry = self.query_one(FilterEntry)
        entry.value = ""
        self._table.focus()
        entry.display = False
