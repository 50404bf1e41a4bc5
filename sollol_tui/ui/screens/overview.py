"""Hosts, jobs and the log of the job under the cursor on one screen."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen
from textual.widgets import Footer

from sollol_tui.model.columns import host_reason, jobs_in_order, log_prefix
from sollol_tui.model.snapshot import HostView, JobView, Snapshot
from sollol_tui.model.states import TERMINAL, JobState
from sollol_tui.model.text import clean
from sollol_tui.ui.screens.confirm import ConfirmCancel
from sollol_tui.ui.widgets.header import Header
from sollol_tui.ui.widgets.hosts_table import HostsTable
from sollol_tui.ui.widgets.jobs_table import JobsTable
from sollol_tui.ui.widgets.keyed_table import KeyedTable
from sollol_tui.ui.widgets.log_pane import LogPane

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.logs import LogLine, LogReader

_LOGS_S: Final = 0.25
_BATCH: Final = 2000
_TAIL_BYTES: Final = 1 << 20  # of each rank's log; older lines are in the files
_PROBE_S: Final = 10.0
_UNPAUSABLE: Final = TERMINAL | {JobState.PAUSING, JobState.STOPPING, JobState.FINISHING}


class Overview(Screen[None]):
    CSS_PATH = "overview.tcss"
    AUTO_FOCUS = "#jobs-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume", id="job.pause",
                tooltip="Pause the job under the cursor after a checkpoint, or let it go on"),
        Binding("x", "cancel", "Cancel job", id="job.cancel",
                tooltip="Stop the job under the cursor after a checkpoint; asks first"),
        Binding("slash", "filter", "Filter", id="log.filter", key_display="/",
                tooltip="Show only log lines with this text; !text, re:pattern"),
        Binding("l", "maximise_log", "Log", id="log.maximise", tooltip="The log alone, and back"),
        Binding("y", "copy", "Copy id", id="row.copy", tooltip="Copy the job's id or host's name"),
        Binding("escape", "back", "Clear", id="log.clear", show=False,
                tooltip="Clear the filter, then leave the big log, then back to the jobs"),
        Binding("tab", "app.focus_next", "Next pane", id="pane.next", show=False,
                tooltip="Next pane"),
        Binding("shift+tab", "app.focus_previous", "Previous pane", id="pane.previous", show=False,
                tooltip="Previous pane"),
    ]  # fmt: skip

    snapshot: reactive[Snapshot | None] = reactive(None)
    trouble: reactive[str] = reactive("")
    job_id: reactive[str | None] = reactive(None)
    can_cancel: reactive[bool] = reactive(False, bindings=True)
    can_pause: reactive[bool] = reactive(False, bindings=True)

    def __init__(self, client: "SOLLOLClient", *, readonly: bool, job: str | None) -> None:
        super().__init__()
        self._client = client
        self._readonly = readonly
        self._wanted_job = job
        self._probe_wanted = asyncio.Event()
        self._probe_trouble = ""

    def compose(self) -> ComposeResult:
        yield Header(id="header").data_bind(Overview.snapshot, Overview.trouble)
        yield JobsTable(id="jobs").data_bind(Overview.snapshot)
        yield HostsTable(id="hosts").data_bind(Overview.snapshot)
        yield LogPane(id="log")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.watch(self.app, "snapshot", self._take)
        self.watch(self.app, "trouble", self._say_trouble)
        self.run_worker(self._probe_forever(), group="probe", exit_on_error=False)

    def probe_now(self) -> None:
        self._probe_wanted.set()

    @property
    def job(self) -> JobView | None:
        """The job under the cursor, as the last snapshot shows it."""
        return next((job for job in self._jobs() if job.id == self.job_id), None)

    def _jobs(self) -> tuple[JobView, ...]:
        return jobs_in_order(self.snapshot.jobs) if self.snapshot else ()

    def _hosts(self) -> tuple[HostView, ...]:
        return self.snapshot.hosts if self.snapshot else ()

    def _take(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        self.snapshot = snapshot
        if self._wanted_job is not None and self._jobs_table.move_to(self._wanted_job):
            self._wanted_job = None
        pane = self.query_one(LogPane)
        pane.now = snapshot.at
        pane.job = self.job
        self._explain_host()
        self._judge_actions()

    def _judge_actions(self) -> None:
        """What ended or ends cannot be paused or cancelled, and --readonly acts on nothing."""
        job = self.job
        self.can_pause = not self._readonly and job is not None and job.state not in _UNPAUSABLE
        self.can_cancel = (
            not self._readonly
            and job is not None
            and not job.state.is_terminal
            and job.state is not JobState.STOPPING
        )

    def _say_trouble(self) -> None:
        self.trouble = self.app.trouble or self._probe_trouble  # type: ignore[attr-defined]

    @property
    def _is_shown(self) -> bool:
        """Whether a person can see this screen, be it behind a question."""
        opaque = (screen for screen in reversed(self.app.screen_stack) if not screen.is_modal)
        return next(opaque, None) is self

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
            host = next((host for host in self._hosts() if host.name == message.key), None)
            if host is None or host.job is None:
                return
            self._jobs_table.move_to(host.job)
        self.query_one(LogPane).focus_lines()

    def _explain_host(self) -> None:
        """The hosts pane says in full why the host under its cursor is not up."""
        name = self._hosts_table.key_under_cursor
        host = next((host for host in self._hosts() if host.name == name), None)
        reason = host_reason(host, self.snapshot.at) if host and self.snapshot else ""
        note = f"{clean(name or '', limit=80)}: {reason}" if reason else ""
        self.query_one(HostsTable).explain(note)

    def watch_job_id(self) -> None:
        if not self.is_mounted:
            return
        self.query_one(LogPane).start(self.job)
        self._judge_actions()
        if self.job_id is not None:
            self.run_worker(
                self._follow_log(self.job_id), group="log", exclusive=True, exit_on_error=False
            )
        else:
            self.workers.cancel_group(self, "log")

    async def _follow_log(self, job_id: str) -> None:
        """Hands the job's lines to the pane, a batch at a time, until another job is chosen."""
        pane = self.query_one(LogPane)
        reader: LogReader | None = None
        while True:
            lines: list[LogLine] = []
            try:
                if reader is None:
                    reader = await asyncio.to_thread(
                        self._client.open_logs, job_id, tail_bytes=_TAIL_BYTES
                    )
                lines = await asyncio.to_thread(reader.read, _BATCH)
                pane.trouble = ""
            except Exception as error:  # the pane says it and the next round tries again
                pane.trouble = f"the log cannot be read: {clean(str(error), limit=400)}"
            if lines:
                pane.append([(log_prefix(line.host, line.slot), line.text) for line in lines])
            await asyncio.sleep(0 if len(lines) >= _BATCH else _LOGS_S)

    async def _probe_forever(self) -> None:
        """Asks the hosts for their figures while someone looks at them, one round at a time."""
        while True:
            self._probe_wanted.clear()
            if self._is_shown:
                try:
                    await self._client.probe_hosts()
                    self._probe_trouble = ""
                except Exception as error:  # the screen says it and the next round tries again
                    self._probe_trouble = f"hosts cannot be asked: {clean(str(error), limit=400)}"
                self._say_trouble()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._probe_wanted.wait(), _PROBE_S)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None greys a key out."""
        can = {"cancel": self.can_cancel, "pause": self.can_pause}
        return True if can.get(action, True) else None

    def action_pause(self) -> None:
        """What becomes of it is for the next snapshots to say."""
        if (job := self.job) is None:
            return
        is_paused = job.state is JobState.PAUSED
        ask: Callable[[str], None] = (
            self._client.resume_job if is_paused else self._client.pause_job
        )
        wish = "go on" if is_paused else "pause"
        self.run_worker(self._ask(job.id, wish, ask), group="requests", exit_on_error=False)

    def action_cancel(self) -> None:
        job, snapshot = self.job, self.snapshot
        if job is None or snapshot is None:
            return

        def answered(confirmed: bool | None) -> None:
            if confirmed:
                self.run_worker(
                    self._ask(job.id, "stop", self._client.cancel_job),
                    group="requests",
                    exit_on_error=False,
                )

        self.app.push_screen(ConfirmCancel(job, snapshot.at), answered)

    async def _ask(self, job_id: str, wish: str, ask: Callable[[str], None]) -> None:
        """Asks; what becomes of it is for the next snapshots to say."""
        try:
            await asyncio.to_thread(ask, job_id)
        except Exception as error:  # said to the person who asked; the job is as it was
            self.notify(
                clean(str(error), limit=400),
                title=f"{clean(job_id)} was not asked to {wish}",
                severity="error",
                timeout=15,
                markup=False,
            )
        else:
            self.notify(f"asked {clean(job_id)} to {wish}", markup=False)

    def action_filter(self) -> None:
        self.query_one(LogPane).open_filter()

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

    def action_copy(self) -> None:
        key = self._hosts_table.key_under_cursor if self._hosts_table.has_focus else self.job_id
        if key is None:
            return
        self.app.copy_to_clipboard(clean(key, limit=200))
        self.notify(f"copied {clean(key, limit=200)}", timeout=2, markup=False)
