"""All hosts, and the page of the one under the cursor: its devices, the doctor, provisioning."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.widget import Widget

from sollol_tui.model.diagnosis import Check, Outcome
from sollol_tui.model.errors import SollolError
from sollol_tui.model.inventory import Host
from sollol_tui.model.snapshot import HostState, HostView, JobView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.ui.screens.filtered import FilteredView
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from sollol_tui.ui.widgets.host_page import HostPage
from sollol_tui.ui.widgets.host_work import Work
from sollol_tui.ui.widgets.hosts_table import HostsTable
from sollol_tui.ui.widgets.keyed_table import KeyedTable

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.hosts.steps import Step


class Hosts(FilteredView):
    NAME = "hosts"
    SHOWS_HOSTS = True
    CSS_PATH = ["view.tcss", "hosts.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#hosts-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        # Those of jobs act as well, but a narrow footer has room for those of hosts alone.
        Binding("p", "pause", "Pause/resume", id="job.pause", show=False,
                tooltip="Pause the job of the host under the cursor, or let it go on"),
        Binding("x", "cancel", "Cancel job", id="job.cancel", show=False,
                tooltip="Stop the job of the host under the cursor after a checkpoint; asks first"),
        Binding("D", "examine", "Doctor", id="host.doctor",
                tooltip="Go through the host under the cursor, or those marked, stage by stage, "
                "with remedies"),
        Binding("P", "provision", "Provision", id="host.provision",
                tooltip="Bring the training environment to the host under the cursor, or to those "
                "marked"),
        Binding("u", "cordon", "Cordon", id="host.cordon",
                tooltip="Keep the host under the cursor, or those marked, out of new jobs that do "
                "not name them; what runs there goes on; again lets them in"),
    ]  # fmt: skip

    is_working: reactive[bool] = reactive(False, bindings=True)

    def __init__(self, client: "SOLLOLClient", *, readonly: bool) -> None:
        super().__init__(client, readonly=readonly)
        self._works: dict[str, Work] = {}
        self._wanted_host: str | None = None

    def look_at(self, host: str) -> None:
        """Puts the cursor on a host, as soon as it is among the rows."""
        self._wanted_host = host
        self._find_host()

    def _find_host(self) -> None:
        if self._wanted_host is not None and self.table.move_to(self._wanted_host):
            self._wanted_host = None

    def panes(self) -> Iterable[Widget]:
        yield HostsTable(id="hosts", marks=True).data_bind(Hosts.snapshot)
        yield HostPage(id="page")
        yield FilterEntry(placeholder="text, !text, re:pattern, tag:cuda or state:down",
                          compact=True)  # fmt: skip

    def show_only(self, text: str) -> None:
        tags: dict[str, tuple[str, ...]] = {}
        if text.startswith("tag:"):
            with suppress(SollolError):  # an inventory that cannot be read is said elsewhere
                tags = {host.name: host.tags for host in self._client.inventory().hosts}
        self.query_one(HostsTable).show_only(text, tags)
        self._show_page()

    def action_back(self) -> None:
        """The marks go first."""
        if self.table.marked:
            self.table.unmark()
        else:
            super().action_back()

    @property
    def described_host(self) -> HostView | None:
        return self._host

    @property
    def _chosen(self) -> list[HostView]:
        """The hosts that a key acts on."""
        return [host for host in self.hosts if host.name in self.table.chosen]

    @property
    def _host(self) -> HostView | None:
        key = self.table.key_under_cursor
        return next((host for host in self.hosts if host.name == key), None)

    @property
    def job(self) -> JobView | None:
        """The one for which the host under the cursor works."""
        host = self._host
        return None if host is None else self.find_job(host.job)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        self._find_host()
        self._show_page()

    def _show_page(self) -> None:
        host = self._host
        self.judge_actions()
        self.is_working = bool(self._chosen) and not self._idle
        if self.snapshot is not None:
            self.query_one(HostPage).show(host, self.job, self._works, self.snapshot.at)

    def on_keyed_table_cursor_moved(self, message: KeyedTable.CursorMoved) -> None:
        self._show_page()

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        """Enter looks at the job that the host works for."""
        if (host := self._host) is not None and host.job is not None:
            self.sollol.job_id = host.job
            self.sollol.action_view("jobs")

    @property
    def _idle(self) -> list[HostView]:
        """Of those that a key acts on the ones about which nothing is being done."""
        works = self._works
        return [h for h in self._chosen if h.name not in works or not works[h.name].is_busy]

    def on_keyed_table_marked(self, message: KeyedTable.Marked) -> None:
        count = len(self.table.marked)
        self.query_one(HostsTable).explain(f"{count} marked, esc unmarks" if count else "")
        self._show_page()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("provision", "cordon") and self._readonly:
            return None
        if action in ("provision", "examine") and self.is_working:
            return None
        return super().check_action(action, parameters)

    def action_examine(self) -> None:
        self._begin("doctor", self._examine)

    def action_provision(self) -> None:
        self._begin("provisioning", self._provision)

    def _begin(self, title: str, work: Callable[[Host], Awaitable[str]]) -> None:
        """Begins something about the chosen hosts, all at once; those that are worked on already
        are left to it."""
        is_doctor = work == self._examine
        for view in self._idle:
            try:
                host = self._client.inventory().with_coordinator().host(view.name)
            except SollolError as error:  # it left the inventory a moment ago
                self.notify(clean(str(error)), severity="error", markup=False)
                continue
            self._works[host.name] = Work(title=f"{title}: begun", is_doctor=is_doctor)
            self.run_worker(self._carry_out(host, title, work), group="hosts", exit_on_error=False)
        self._show_page()

    def action_cordon(self) -> None:
        """What is cordoned already is let in again, unless another of those marked is not."""
        chosen = self._chosen
        cordons = any(host.state is not HostState.DISABLED for host in chosen)
        if chosen:
            self.sollol.cordon_hosts([host.name for host in chosen], cordons=cordons)

    async def _carry_out(
        self, host: Host, title: str, work: Callable[[Host], Awaitable[str]]
    ) -> None:
        try:
            ended, problem = await work(host), ""
        except Exception as error:  # the page says it; the host is as it was
            ended, problem = "failed", clean(str(error) or type(error).__name__, limit=600)
        self._change(host.name, title=f"{title}: {ended}", problem=problem, is_busy=False)

    async def _examine(self, host: Host) -> str:
        def report(name: str, check: Check) -> None:
            self._change(name, checks=(*self._works[name].checks, check))

        examined = await self._client.examine_hosts([host], report)
        outcome = examined.diagnoses[0].outcome
        return "all is well" if outcome is Outcome.OK else outcome.value

    async def _provision(self, host: Host) -> str:
        def report(step: "Step") -> None:
            self._change(host.name, steps={**self._works[host.name].steps, step.name: step})

        environment = await self._client.provision_host(host, report)
        return "ready" if environment.changed else "ready, nothing to change"

    def _change(self, host: str, **changes: Any) -> None:
        self._works[host] = replace(self._works[host], **changes)
        self._show_page()

    @property
    def key_to_copy(self) -> str | None:
        return self.table.key_under_cursor

    @property
    def command(self) -> tuple[str, ...]:
        return ("sollol", "doctor", *self.table.chosen)
