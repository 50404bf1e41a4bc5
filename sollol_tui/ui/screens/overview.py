"""Hosts, jobs and the log of the job under the cursor on one screen."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from sollol_tui.model.columns import host_reason
from sollol_tui.model.snapshot import HostView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.ui.log_feed import LogFeed
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.hosts_table import HostsTable
from sollol_tui.ui.widgets.jobs_table import JobsTable
from sollol_tui.ui.widgets.keyed_table import KeyedTable
from sollol_tui.ui.widgets.log_pane import LogPane


class Overview(View):
    NAME = "overview"
    SHOWS_HOSTS = True
    CSS_PATH = ["view.tcss", "overview.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#jobs-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="log.filter", key_display="/",
                tooltip="Show only log lines with this text; !text, re:pattern"),
        Binding("l", "maximise_log", "Log", id="log.maximise", tooltip="The log alone, and back"),
        # Of the log: in a table these keys go on to rows.
        Binding("n", "step(1)", "Next", id="log.step", show=False,
                tooltip="In the log the next line that the filter finds, among all the others; "
                "without a filter the next that tells of an error; freezes"),
        Binding("N", "step(-1)", "Line before", id="log.step_back", show=False,
                tooltip="The same, upwards"),
        Binding("escape", "back", "Clear", id="log.clear", show=False,
                tooltip="Clear the filter, then leave the big log, then back to the jobs"),
    ]  # fmt: skip

    def panes(self) -> Iterable[Widget]:
        yield JobsTable(id="jobs").data_bind(Overview.snapshot)
        yield HostsTable(id="hosts").data_bind(Overview.snapshot)
        yield LogPane(id="log")

    def on_mount(self) -> None:
        pane = self.query_one(LogPane)
        self._feed = LogFeed(self._client, self, pane)
        pane.filter_text = self.sollol.kept_filter(self.NAME)

    @property
    def filter_text(self) -> str:
        return self.query_one(LogPane).filter_text

    @property
    def described_host(self) -> HostView | None:
        name = self._hosts_table.key_under_cursor if self._hosts_table.has_focus else None
        return next((host for host in self.hosts if host.name == name), None)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        pane = self.query_one(LogPane)
        pane.now = snapshot.at
        pane.job = self.job
        self._explain_host()

    def choose(self, job_id: str) -> bool:
        return self._jobs_table.move_to(job_id)

    @property
    def _jobs_table(self) -> KeyedTable:
        return self.query_one("#jobs-table", KeyedTable)

    @property
    def _hosts_table(self) -> KeyedTable:
        return self.query_one("#hosts-table", KeyedTable)

    def on_keyed_table_cursor_moved(self, message: KeyedTable.CursorMoved) -> None:
        if message.table is self._jobs_table:
            self.job_id = message.key
        else:
            self._explain_host()

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        """Enter goes to the log: of the job, or of the job that this host works for."""
        if message.table is self._hosts_table:
            host = next((host for host in self.hosts if host.name == message.key), None)
            if host is None or host.job is None:
                return
            self._jobs_table.move_to(host.job)
        self.query_one(LogPane).focus_lines()

    def _explain_host(self) -> None:
        """The hosts pane says in full why the host under its cursor is not up."""
        name = self._hosts_table.key_under_cursor
        host = next((host for host in self.hosts if host.name == name), None)
        reason = host_reason(host, self.snapshot.at) if host and self.snapshot else ""
        note = f"{clean(name or '', limit=80)}: {reason}" if reason else ""
        self.query_one(HostsTable).explain(note)

    def watch_job_id(self) -> None:
        super().watch_job_id()
        if self.is_mounted:
            self._feed.follow()

    def action_filter(self) -> None:
        self.query_one(LogPane).open_filter()

    def action_step(self, way: int) -> None:
        if not self.query_one(LogPane).step(way):
            self.notify("no further line here", timeout=3, markup=False)

    def action_maximise_log(self) -> None:
        self.toggle_class("-log-only")
        if self.has_class("-log-only"):
            self.query_one(LogPane).focus_lines()
        else:
            self._jobs_table.focus()

    def action_back(self) -> None:
        pane = self.query_one(LogPane)
        if pane.filtering:
            pane.clear_filter()
        elif self.has_class("-log-only"):
            self.action_maximise_log()
        else:
            self._jobs_table.focus()

    @property
    def key_to_copy(self) -> str | None:
        return self._hosts_table.key_under_cursor if self._hosts_table.has_focus else self.job_id
