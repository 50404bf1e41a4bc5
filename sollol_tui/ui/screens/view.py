"""What the numbered screens share: the header, and the keys that act on the job one looks at.

A view hears of news only while somebody can see it. What it asks for is never taken for done: the
next snapshots say what became of it.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from sollol_tui.model.columns import jobs_in_order
from sollol_tui.model.snapshot import HostView, JobView, Snapshot
from sollol_tui.model.states import TERMINAL, JobState
from sollol_tui.model.text import clean
from sollol_tui.ui.screens.confirm import ConfirmCancel, ConfirmKill
from sollol_tui.ui.screens.workers import Wanted, Workers
from sollol_tui.ui.widgets.header import Header
from sollol_tui.ui.widgets.keyed_table import KeyedTable

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.ui.app import SollolApp

TOO_SMALL: Final = "sollol needs 50 columns and 12 rows\nq leaves; jobs go on"
_UNPAUSABLE: Final = TERMINAL | {JobState.PAUSING, JobState.STOPPING, JobState.FINISHING}


class View(Screen[None]):
    """`job_id` is the job under the cursor; it stays when another view is opened."""

    NAME: ClassVar[str]
    SHOWS_HOSTS: ClassVar[bool] = False  # so they are asked for their figures while it is shown
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume", id="job.pause",
                tooltip="Pause the job under the cursor after a checkpoint, or let it go on"),
        Binding("x", "cancel", "Cancel job", id="job.cancel",
                tooltip="Stop the job under the cursor after a checkpoint; asks first"),
        Binding("X", "kill", "Kill job", id="job.kill", show=False,
                tooltip="Stop the job under the cursor at once, without a checkpoint; asks for "
                "its name first"),
        Binding("w", "workers", "Workers", id="job.workers", show=False,
                tooltip="Who takes part in the job under the cursor; to join and to leave"),
        Binding("y", "copy", "Copy id", id="row.copy", show=False,
                tooltip="Copy the job's id or host's name"),
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

    def __init__(self, client: "SOLLOLClient", *, readonly: bool) -> None:
        super().__init__()
        self._client = client
        self._readonly = readonly
        self._wanted_job: str | None = None  # what another view looked at, until it is found here

    def compose(self) -> ComposeResult:
        header = Header(self.sollol.views, self.NAME, id="header")
        yield header.data_bind(View.snapshot, View.trouble)
        yield from self.panes()
        yield Footer(show_command_palette=False, compact=True)
        yield Static(TOO_SMALL, id="too-small", markup=False)

    def panes(self) -> Iterable[Widget]:
        """What the view shows between header and footer."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.watch(self.app, "snapshot", self._hear)
        self.watch(self.app, "trouble", self._say_trouble)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        self._wanted_job = self.sollol.job_id
        self.show_columns()
        self._hear()

    def show_columns(self) -> None:
        """Leaves out of each table what is not wanted."""
        for table in self.query(KeyedTable):
            table.hide(self.sollol.hidden_columns(table.title))

    def await_job(self, job_id: str) -> None:
        """Looks at this job as soon as it is among those that the view shows."""
        self._wanted_job = job_id
        self._hear()

    def _hear(self) -> None:
        if self.is_shown and (snapshot := self.sollol.snapshot) is not None:
            self.take(snapshot)

    def take(self, snapshot: Snapshot) -> None:
        """A snapshot that somebody can see."""
        self.snapshot = snapshot
        if self._wanted_job is not None and self.choose(self._wanted_job):
            self._wanted_job = None
        self.judge_actions()

    def choose(self, job_id: str) -> bool:
        """Looks at this job from now on; False while it is not among those that the view shows."""
        self.job_id = job_id
        return True

    def step_job(self, places: int) -> None:
        """Looks at the job `places` further in the order of the jobs table."""
        ids = [job.id for job in self.jobs]
        if ids:
            at = ids.index(self.job_id) if self.job_id in ids else 0
            self.job_id = ids[(at + places) % len(ids)]

    def _say_trouble(self) -> None:
        self.trouble = self.sollol.trouble

    @property
    def sollol(self) -> "SollolApp":
        return self.app  # type: ignore[return-value]

    @property
    def is_shown(self) -> bool:
        """Whether a person can see this view, be it behind a question."""
        opaque = (screen for screen in reversed(self.app.screen_stack) if not screen.is_modal)
        return next(opaque, None) is self

    @property
    def job(self) -> JobView | None:
        """The job that keys act on, as the last snapshot shows it: one that a person sees."""
        return self.find_job(self.job_id)

    def find_job(self, job_id: str | None) -> JobView | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    @property
    def jobs(self) -> tuple[JobView, ...]:
        return jobs_in_order(self.snapshot.jobs) if self.snapshot else ()

    @property
    def hosts(self) -> tuple[HostView, ...]:
        return self.snapshot.hosts if self.snapshot else ()

    def watch_job_id(self) -> None:
        if self.is_mounted and self.is_shown:
            self.sollol.job_id = self.job_id
            self.judge_actions()

    def judge_actions(self) -> None:
        """What ended or ends cannot be paused or cancelled, and --readonly acts on nothing."""
        job = self.job
        self.can_pause = not self._readonly and job is not None and job.state not in _UNPAUSABLE
        self.can_cancel = (
            not self._readonly
            and job is not None
            and not job.state.is_terminal
            and job.state is not JobState.STOPPING
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None greys a key out."""
        can = {
            "cancel": self.can_cancel,
            "pause": self.can_pause,
            "kill": self.can_kill,
            "workers": self.can_kill,
        }
        return True if can.get(action, True) else None

    @property
    def can_kill(self) -> bool:
        """Also what stops already: a kill cuts the wait for its checkpoint short."""
        job = self.job
        return not self._readonly and job is not None and not job.state.is_terminal

    def action_pause(self) -> None:
        if (job := self.job) is None:
            return
        if job.state is JobState.PAUSED:
            self.ask(job, "go on", self._client.resume_job)
        else:
            self.ask(job, "pause", self._client.pause_job)

    def action_cancel(self) -> None:
        job, snapshot = self.job, self.snapshot
        if job is None or snapshot is None:
            return

        def answered(confirmed: bool | None) -> None:
            if confirmed:
                self.ask(job, "stop", self._client.cancel_job)

        self.app.push_screen(ConfirmCancel(job, snapshot.at), answered)

    def action_kill(self) -> None:
        job, snapshot = self.job, self.snapshot
        if job is None or snapshot is None:
            return

        def answered(confirmed: bool | None) -> None:
            if confirmed:
                self.ask(job, "stop at once", lambda id_: self._client.cancel_job(id_, now=True))

        self.app.push_screen(ConfirmKill(job, snapshot.at), answered)

    def action_workers(self) -> None:
        job, snapshot = self.job, self.snapshot
        if job is None or snapshot is None:
            return

        def answered(wanted: Wanted | None) -> None:
            for host in () if wanted is None else wanted.join:
                self.ask(job, f"take in {host}", partial(self._client.join_job, host=host))
            for host in () if wanted is None else wanted.leave:
                self.ask(job, f"let {host} go", partial(self._client.leave_job, host=host))

        self.app.push_screen(Workers(job, snapshot.hosts, snapshot.at), answered)

    def ask(self, job: JobView, wish: str, ask: Callable[[str], object]) -> None:
        """Asks something of a job, beside what the screen does."""
        self.run_worker(self._ask(job.id, wish, ask), group="requests", exit_on_error=False)

    async def _ask(self, job_id: str, wish: str, ask: Callable[[str], object]) -> None:
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

    def action_copy(self) -> None:
        if (key := self.key_to_copy) is not None:
            self.app.copy_to_clipboard(clean(key, limit=200))
            self.notify(f"copied {clean(key, limit=200)}", timeout=2, markup=False)

    @property
    def key_to_copy(self) -> str | None:
        return self.job_id
