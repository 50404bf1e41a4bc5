"""The keys that act on the job under the cursor, in every numbered view: pause, stop, kill, join
and leave. What they ask for is never taken for done: the next snapshots say what became of it.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen

from sollol_tui.model.snapshot import JobView, Snapshot
from sollol_tui.model.states import TERMINAL, JobState
from sollol_tui.model.text import clean
from sollol_tui.ui.rounds import sentence
from sollol_tui.ui.screens.confirm import ConfirmCancel, ConfirmKill
from sollol_tui.ui.screens.workers import Wanted, Workers

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_UNPAUSABLE: Final = TERMINAL | {JobState.PAUSING, JobState.STOPPING, JobState.FINISHING}


class JobKeys(Screen[None]):
    """Acts on `job`, as the last `snapshot` shows it."""

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
    ]  # fmt: skip

    snapshot: reactive[Snapshot | None] = reactive(None)
    can_cancel: reactive[bool] = reactive(False, bindings=True)
    can_pause: reactive[bool] = reactive(False, bindings=True)

    def __init__(self, client: "SOLLOLClient", *, readonly: bool) -> None:
        super().__init__()
        self._client = client
        self._readonly = readonly

    @property
    @abstractmethod
    def job(self) -> JobView | None:
        """The one that keys act on."""

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
                sentence(error),
                title=f"{clean(job_id)} was not asked to {wish}",
                severity="error",
                timeout=15,
                markup=False,
            )
        else:
            self.notify(f"asked {clean(job_id)} to {wish}", markup=False)
