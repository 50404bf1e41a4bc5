"""The log of one job alone: of all its ranks, or of one of them."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from sollol_tui.model.snapshot import Snapshot
from sollol_tui.ui.log_feed import LogFeed
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.jobs_table import NO_JOBS
from sollol_tui.ui.widgets.log_pane import LogPane


class Logs(View):
    NAME = "logs"
    CSS_PATH = ["view.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#log-view"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="logs.filter", key_display="/",
                tooltip="Show only log lines with this text; !text, re:pattern"),
        Binding("o", "rank", "Rank", id="logs.rank",
                tooltip="Only the next rank's lines, at last those of all again"),
        Binding("E", "error", "Error", id="logs.error",
                tooltip="To the first line that tells of an error; freezes"),
        Binding("left_square_bracket", "job(-1)", "Job before", id="logs.before", show=False,
                key_display="[", tooltip="The log of the job before this one"),
        Binding("right_square_bracket", "job(1)", "Next job", id="logs.next", show=False,
                key_display="]", tooltip="The log of the next job"),
        Binding("n", "step(1)", "Next", id="logs.step", show=False,
                tooltip="The next line that the filter finds, among all the others; without a "
                "filter the next that tells of an error; freezes"),
        Binding("N", "step(-1)", "Line before", id="logs.step_back", show=False,
                tooltip="The same, upwards"),
        Binding("t", "stamp", "Times", id="logs.stamp", show=False,
                tooltip="When each line came here, or without"),
        Binding("y", "copy", "Copy line", id="logs.copy", show=False,
                tooltip="Copy what is selected, else the line found last, else the newest"),
        Binding("w", "wrap", "Wrap", id="logs.wrap", show=False,
                tooltip="Long lines in full on several rows, or cut at the edge"),
        Binding("f", "maximise", "Maximise", id="logs.maximise", show=False,
                tooltip="Nothing but lines, and back"),
        Binding("escape", "back", "Clear", id="logs.clear", show=False,
                tooltip="Clear the filter, then all ranks again"),
    ]  # fmt: skip

    def panes(self) -> Iterable[Widget]:
        yield LogPane(id="log", without_job=NO_JOBS)

    def on_mount(self) -> None:
        self._feed = LogFeed(self._client, self, self.pane)
        self.pane.filter_text = self.sollol.kept_filter(self.NAME)

    @property
    def filter_text(self) -> str:
        return self.pane.filter_text

    @property
    def command(self) -> tuple[str, ...]:
        words = ["sollol", "logs", self.job_id or "JOB", "-f"]
        host, _, slot = self.pane.rank.partition("/")
        words += ["--host", host] if host else []
        return (*words, "--slot", slot) if slot else tuple(words)

    @property
    def pane(self) -> LogPane:
        return self.query_one(LogPane)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        if self.job_id is None and self.jobs:
            self.job_id = self.jobs[0].id
        self._feed.follow()
        self.pane.now = snapshot.at
        self.pane.job = self.job

    def watch_job_id(self) -> None:
        super().watch_job_id()
        if self.is_mounted:
            self._feed.follow()

    def action_filter(self) -> None:
        self.pane.open_filter()

    def action_rank(self) -> None:
        self.pane.next_rank()

    def action_error(self) -> None:
        if not self.pane.go_to_error():
            self.notify("no line here tells of an error", timeout=3, markup=False)

    def action_step(self, way: int) -> None:
        if not self.pane.step(way):
            self.notify("no further line here", timeout=3, markup=False)

    def action_wrap(self) -> None:
        self.pane.wrap()

    def action_stamp(self) -> None:
        self.pane.stamp()

    @property
    def key_to_copy(self) -> str | None:
        return self.get_selected_text() or self.pane.line_here

    def action_maximise(self) -> None:
        self.toggle_class("-log-only")

    def action_job(self, places: int) -> None:
        self.step_job(places)

    def action_back(self) -> None:
        if self.pane.filtering:
            self.pane.clear_filter()
        else:
            self.pane.all_ranks()
