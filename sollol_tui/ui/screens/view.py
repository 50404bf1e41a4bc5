"""What the numbered screens share: the header, the job one looks at, and the keys that tell of what
is under the cursor. A view hears of news only while somebody can see it.
"""

import subprocess
from abc import abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual import events
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from sollol_tui.hosts.shell import quote
from sollol_tui.model.columns import jobs_in_order
from sollol_tui.model.errors import SollolError
from sollol_tui.model.snapshot import HostView, JobView, Snapshot
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.ui.screens.job_keys import JobKeys
from sollol_tui.ui.screens.sheet import Sheet
from sollol_tui.ui.widgets.header import Header
from sollol_tui.ui.widgets.keyed_table import KeyedTable
from sollol_tui.ui.widgets.keys import Keys

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.ui.app import SollolApp

TOO_SMALL: Final = "sollol needs 50 columns and 12 rows\nq leaves; jobs go on"
_SSH_FAILED: Final = 255  # of its own; else it is the status of the last command


class View(JobKeys):
    """`job_id` is the job under the cursor; it stays when another view is opened."""

    NAME: ClassVar[str]
    SHOWS_HOSTS: ClassVar[bool] = False  # so they are asked for their figures while it is shown
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Log", id="job.log", show=False,
                tooltip="The log of the job under the cursor"),
        Binding("d", "describe", "Describe", id="row.describe", show=False,
                tooltip="All that is said of what is under the cursor: a job's settings, a host"),
        Binding("s", "enter_host", "Shell", id="host.shell", show=False,
                tooltip="A shell on the host under the cursor, by ssh; exit comes back"),
        Binding("y", "copy", "Copy id", id="row.copy", show=False,
                tooltip="Copy the job's id or host's name"),
        Binding("Y", "copy_command", "Copy command", id="view.command", show=False,
                tooltip="Copy the command line that shows what stands here"),
        Binding("ctrl+s", "keep", "Keep view", id="view.keep", show=False,
                tooltip="Keep this view's filter for the next time, or its having none"),
        Binding("tab", "app.focus_next", "Next pane", id="pane.next", show=False,
                tooltip="Next pane"),
        Binding("shift+tab", "app.focus_previous", "Previous pane", id="pane.previous", show=False,
                tooltip="Previous pane"),
    ]  # fmt: skip

    trouble: reactive[str] = reactive("")
    job_id: reactive[str | None] = reactive(None)

    def __init__(self, client: "SOLLOLClient", *, readonly: bool) -> None:
        super().__init__(client, readonly=readonly)
        self._wanted_job: str | None = None  # what another view looked at, until it is found here

    def compose(self) -> ComposeResult:
        header = Header(self.sollol.views, self.NAME, id="header")
        yield header.data_bind(View.snapshot, View.trouble)
        yield from self.panes()
        yield Keys()
        yield Static(TOO_SMALL, id="too-small", markup=False)

    @abstractmethod
    def panes(self) -> Iterable[Widget]:
        """What the view shows between header and footer."""

    def on_mount(self) -> None:
        self.watch(self.app, "snapshot", self._hear)
        self.watch(self.app, "trouble", self._say_trouble)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        self._wanted_job = self.sollol.job_id
        self.show_columns()
        self._hear()
        self.refresh_bindings()

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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None greys a key out. One pressed while the view is still being built finds nothing under
        a cursor, and acts on nothing."""
        if not self.is_mounted:
            return None
        can = {
            "log": self.job is not None,
            "describe": self.described_host is not None or self.job is not None,
            "enter_host": self.described_host is not None and not self._readonly,
        }
        return super().check_action(action, parameters) if can.get(action, True) else None

    @property
    def described_host(self) -> HostView | None:
        """The host under the cursor, where that is on one."""
        return None

    def action_log(self) -> None:
        if (job := self.job) is not None:
            self.sollol.show_job(job.id, "logs")

    def action_describe(self) -> None:
        if (host := self.described_host) is not None:
            self.app.push_screen(Sheet(f"host {host.name}", partial(self._told_of_host, host)))
        elif (job := self.job) is not None:
            self.app.push_screen(Sheet(f"job {job.id}", partial(self._told_of_job, job)))

    def _told_of_job(self, job: JobView) -> list[str]:
        """What was asked for, as a job file."""
        from sollol_tui.model.form import file_of_form, form_of_spec

        return file_of_form(form_of_spec(self._client.job_spec(job.id))).splitlines()

    def _told_of_host(self, host: HostView) -> list[str]:
        from sollol_tui.model.inventory import settings_of

        return list(settings_of(self._client.inventory().with_coordinator().host(host.name)))

    def action_enter_host(self) -> None:
        """Gives the terminal to a shell on the host; the screen is back when that ends."""
        from sollol_tui.hosts.login import login_words

        if (view := self.described_host) is None:
            return
        try:
            host = self._client.inventory().with_coordinator().host(view.name)
            words = login_words(host, [self._client.home.known_hosts])
            with self.app.suspend():
                status = subprocess.run(words, check=False).returncode
        except SuspendNotSupported:
            told = "this terminal can be given to no other program"
        except (SollolError, OSError, ValueError) as error:
            told = clean(str(error), limit=400)
        else:
            told = f"ssh {view.name} ended with {status}" if status == _SSH_FAILED else ""
        if told:
            self.notify(told, severity="error", markup=False)

    def action_keep(self) -> None:
        self.sollol.keep_filter(self.NAME, self.filter_text)

    @property
    def filter_text(self) -> str:
        """The filter that is on, as it was typed."""
        return ""

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the command that shows the same."""
        return ("sollol", "status", "-w")

    def action_copy_command(self) -> None:
        command = quote(*(clean(word, limit=200) for word in self.command))
        self.app.copy_to_clipboard(command)
        self.notify(f"copied: {command}", timeout=4, markup=False)

    def action_copy(self) -> None:
        if (text := self.key_to_copy) is not None:
            self.app.copy_to_clipboard("\n".join(clean_lines(text)))
            self.notify(f"copied {clean(text, limit=80)}", timeout=2, markup=False)

    @property
    def key_to_copy(self) -> str | None:
        return self.job_id
