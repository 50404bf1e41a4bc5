"""The application: hands snapshots to its screens, opens dialogues, and leaves jobs alone.

It reads no file and opens no connection of its own; a failing poll is a line on the screen.
"""

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen

from sollol_tui.model.snapshot import JobView, Snapshot
from sollol_tui.model.states import UNATTENDED, JobState
from sollol_tui.model.text import clean
from sollol_tui.preferences import PreferencesFile
from sollol_tui.ui.looks import Looks
from sollol_tui.ui.palette import Palette, Targets
from sollol_tui.ui.rounds import Rounds, sentence
from sollol_tui.ui.screens.columns import ChooseColumns
from sollol_tui.ui.screens.events import Events
from sollol_tui.ui.screens.help import HelpScreen
from sollol_tui.ui.screens.hosts import Hosts
from sollol_tui.ui.screens.jobs import Jobs
from sollol_tui.ui.screens.logs import Logs
from sollol_tui.ui.screens.metrics import Metrics
from sollol_tui.ui.screens.opening import Opening
from sollol_tui.ui.screens.overview import Overview
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.signals import lent_signals
from sollol_tui.ui.stylesheet import Stylesheet
from sollol_tui.ui.widgets.header import ViewStrip
from sollol_tui.ui.widgets.keyed_table import KeyedTable

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_OF_DIALOGUES: Final = (  # what they need, the largest parts first
    "sollol_tui.jobs.submit",
    "sollol_tui.jobs.survey",
    "sollol_tui.jobs.dataset",
    "sollol_tui.ui.dialogues",
)
_VIEWS: Final = (Overview, Jobs, Hosts, Logs, Metrics, Events)


class SollolApp(App[str]):
    """Leaves with the sentence for the shell to print. `job_id` is the job that one looks at, in
    whatever view."""

    TITLE = "sollol"
    # textual types it as an instance variable, so it cannot be a ClassVar here.
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (50, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (12, "-tall")]  # noqa: RUF012
    COMMANDS = {Targets}  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Leave", id="app.leave", tooltip="Leave; jobs go on"),
        Binding(
            "ctrl+q,ctrl+c", "leave", "Leave", id="app.leave_now", show=False, system=True,
            priority=False, tooltip="Leave; jobs go on",
        ),
        Binding("question_mark,f1", "help", "Help", id="app.help", tooltip="The keys of this pane",
                key_display="?"),
        Binding("a", "new_job", "New job", id="app.new_job",
                tooltip="A form for a new job, with the plan that it would have"),
        Binding("c", "clone_job", "Clone job", id="app.clone_job", show=False,
                tooltip="The same form, begun with what the job under the cursor was"),
        Binding("e", "edit_inventory", "Edit inventory", id="app.edit_inventory", show=False,
                tooltip="The inventory's file, checked while you type"),
        Binding("i", "import_hosts", "Import hosts", id="app.import_hosts", show=False,
                tooltip="Add hosts of ~/.ssh/config to the inventory"),
        Binding("ctrl+p,colon", "command_palette", "Palette", id="app.palette", show=False,
                tooltip="Jobs, hosts and all that can be done here, by name"),
        Binding("ctrl+r", "look_again", "Refresh", id="app.refresh", show=False,
                tooltip="Ask the hosts and read the state now"),
        *(
            Binding(str(number), f"view('{view.NAME}')", view.NAME.capitalize(), show=False,
                    id=f"app.view_{view.NAME}", tooltip=f"The view {view.NAME.capitalize()}")
            for number, view in enumerate(_VIEWS, 1)
        ),
    ]  # fmt: skip

    snapshot: reactive[Snapshot | None] = reactive(None)
    trouble: reactive[str] = reactive("")

    def __init__(
        self, client: "SOLLOLClient", *, readonly: bool = False, job: str | None = None
    ) -> None:
        super().__init__()
        self.stylesheet = Stylesheet(variables=self.get_css_variables())
        self._client = client
        self._readonly = readonly
        self._looks = Looks(self, PreferencesFile(), keeps=not readonly)
        self.job_id = job
        self._rounds = Rounds(client, self, self._hosts_are_seen)
        self._is_probing = False
        self._poll_trouble = self._probe_trouble = ""

    def on_mount(self) -> None:
        self._looks.apply()
        self.stylesheet.set_variables(self.get_css_variables())  # of the theme that was chosen
        for view in _VIEWS:
            self.add_mode(view.NAME, partial(view, self._client, readonly=self._readonly))
        self.switch_mode(Overview.NAME)
        self.run_worker(self._rounds.poll(), group="poll", exit_on_error=False)

    @property
    def views(self) -> tuple[str, ...]:
        """Their names, in the order of the keys that open them."""
        return tuple(view.NAME for view in _VIEWS)

    def _hosts_are_seen(self) -> bool:
        return any(isinstance(s, View) and s.SHOWS_HOSTS and s.is_shown for s in self.screen_stack)

    def on_rounds_snapshot_taken(self, message: Rounds.SnapshotTaken) -> None:
        self._poll_trouble = message.snapshot.inventory_problem
        self._say_trouble()
        self.snapshot = message.snapshot
        self.call_after_refresh(self._begin_probing)

    def _begin_probing(self) -> None:
        """Once, when what is known is on the screen: to ask the hosts, SSH has to be loaded."""
        if not self._is_probing:
            self._is_probing = True
            self.run_worker(self._rounds.probe(), group="probe", exit_on_error=False)

    def on_rounds_poll_failed(self, message: Rounds.PollFailed) -> None:
        self._begin_probing()
        old = "" if self.snapshot is None else "what you see is old: "
        self._poll_trouble = f"{old}{message.reason}"
        self._say_trouble()

    def on_rounds_probed(self, message: Rounds.Probed) -> None:
        self._probe_trouble = message.trouble
        self._say_trouble()

    def _say_trouble(self) -> None:
        self.trouble = self._poll_trouble or self._probe_trouble

    def look_at(self, job_id: str) -> None:
        """Puts the cursor on this job as soon as the state has it."""
        self.job_id = job_id
        for screen in self.screen_stack:
            if isinstance(screen, View):
                screen.await_job(job_id)

    def hidden_columns(self, table: str) -> frozenset[str]:
        """Keys of the columns that this person does without."""
        return self._looks.hidden(table)

    def kept_filter(self, view: str) -> str:
        """With which filter this person wants the view to begin; "" for none."""
        return self._looks.filter_of(view)

    def keep_filter(self, view: str, text: str) -> None:
        """From now on the view begins with this filter."""
        if self._looks.keep_filter(view, text):
            kept = f"only '{clean(text)}'" if text else "no filter"
            self.notify(f"{view} begins with {kept} from now on", timeout=4, markup=False)

    def on_keyed_table_columns_wanted(self, message: KeyedTable.ColumnsWanted) -> None:
        table = message.table.title

        def chosen(hidden: frozenset[str] | None) -> None:
            if hidden is not None:
                self._looks.hide(table, hidden)
                for screen in self.screen_stack:
                    if isinstance(screen, View):
                        screen.show_columns()

        self.push_screen(ChooseColumns(table, message.columns, self.hidden_columns(table)), chosen)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """--readonly acts on nothing, and without a job there is none to clone."""
        if action in ("new_job", "clone_job", "edit_inventory", "import_hosts") and self._readonly:
            return None
        if action == "clone_job":
            return None if self._job_in_sight is None else True
        return True

    @property
    def _job_in_sight(self) -> JobView | None:
        """The one that keys act on, once the view that shows it stands."""
        view = self.screen
        return view.job if isinstance(view, View) and view.is_mounted else None

    # Forms and editors bring YAML, pydantic and SSH along, so they are loaded when one is opened.

    def action_new_job(self) -> None:
        self._open("new_job")

    def action_clone_job(self) -> None:
        if (job := self._job_in_sight) is not None:
            self._open("clone_job", job)

    def action_edit_inventory(self) -> None:
        self._open("edit_inventory")

    def action_import_hosts(self) -> None:
        self._open("import_hosts")

    def _open(self, name: str, *about: object, **how: object) -> None:
        """Begins a dialogue. Before the first one an empty frame is seen for as long as it takes
        to load what dialogues need."""

        frame = None
        if not all(module in sys.modules for module in _OF_DIALOGUES):
            # At once: the next key may be there already, and the screen below must not take it.
            self.push_screen(frame := Opening())

        async def dialogue() -> None:
            if frame is not None:
                for module in _OF_DIALOGUES:
                    await asyncio.to_thread(import_module, module)
                if self.screen is not frame:  # somebody did not want to wait
                    return
                await frame.dismiss()
            from sollol_tui.ui import dialogues

            await getattr(dialogues, name)(self, self._client, *about, **how)

        self._hold(dialogue())

    def cordon_hosts(self, names: Sequence[str], *, cordons: bool) -> None:
        """Keeps hosts out of new jobs, or lets them in again, after the change was shown."""
        self._open("cordon_hosts", names, cordons=cordons)

    def _hold(self, dialogue: Coroutine[None, None, None]) -> None:
        """Holds one dialogue, beside what the screen does; it ends with a sentence where it cannot
        go on."""

        async def hold() -> None:
            try:
                await dialogue
            except Exception as error:  # said to the person who began it
                self.notify(sentence(error), severity="error", timeout=10, markup=False)

        self.run_worker(hold(), group="dialogue", exclusive=True, exit_on_error=False)

    def action_look_again(self) -> None:
        self._rounds.look_now()
        self._rounds.probe_now()

    def action_view(self, name: str) -> None:
        self.switch_mode(name)
        self._rounds.probe_now()

    def show_job(self, job_id: str, view: str) -> None:
        """Looks at a job in the view of that name."""
        self.job_id = job_id
        self.action_view(view)

    async def show_host(self, name: str) -> None:
        """Looks at a host among all hosts."""
        await self.switch_mode(Hosts.NAME)
        self._rounds.probe_now()
        if isinstance(self.screen, Hosts):
            self.screen.look_at(name)

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Of those of the toolkit what no key of ours does."""
        kept = ("Theme", "Screenshot")
        return (each for each in super().get_system_commands(screen) if each.title in kept)

    def on_view_strip_chosen(self, message: ViewStrip.Chosen) -> None:
        self.action_view(message.view)

    def action_leave(self) -> None:
        self.exit(parting_words(self.snapshot.jobs if self.snapshot else ()))

    async def action_quit(self) -> None:
        self.action_leave()

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))


def parting_words(jobs: tuple[JobView, ...]) -> str:
    """What goes on after leaving and how to come back; empty when nothing does."""
    live = [job for job in jobs if job.state not in UNATTENDED]
    if not live:
        return ""
    if len(live) == 1:
        name = clean(live[0].id, limit=80)
        state = "running" if live[0].state is JobState.RUNNING else live[0].state.value
        return f"{name} is still {state}. follow: sollol attach {name}   stop: sollol cancel {name}"
    names = ", ".join(f"{clean(job.id, limit=80)} ({job.state.value})" for job in live)
    return f"{len(live)} jobs go on: {names}. follow: sollol attach JOB   stop: sollol cancel JOB"


def run_app(client: "SOLLOLClient", *, readonly: bool = False, job: str | None = None) -> str:
    """Runs until the user leaves; returns the sentence to print then, or ""."""
    with lent_signals():
        return SollolApp(client, readonly=readonly, job=job).run() or ""
