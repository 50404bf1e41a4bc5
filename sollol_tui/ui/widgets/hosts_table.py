"""The pane of hosts: one row each in the inventory's order; a dead one is grey and says why."""

from collections.abc import Callable, Collection, Mapping

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Static

from sollol_tui.model.columns import HOST_COLUMNS, Tone, host_cells, host_tone
from sollol_tui.model.snapshot import HostState, HostView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.ui.log_filter import parse_filter
from sollol_tui.ui.widgets.keyed_table import KeyedTable, Row

NONE_ADMITTED = "no host passes the filter - esc clears it"
NO_HOSTS = "no hosts in the inventory - press e to edit it, i to import from ~/.ssh/config"


class HostsTable(Vertical):
    snapshot: reactive[Snapshot | None] = reactive(None)

    def __init__(self, *, id: str, marks: bool = False) -> None:  # noqa: A002
        super().__init__(id=id)
        self._marks = marks
        self._only = ""
        self._admits: Callable[[HostView], bool] = lambda host: True

    def compose(self) -> ComposeResult:
        yield KeyedTable(id="hosts-table", marks=self._marks)
        yield Static(NO_HOSTS, classes="empty", markup=False)

    def on_mount(self) -> None:
        self._title = ""
        self.explain("")

    def explain(self, note: str) -> None:
        """Says in the title what the row under the cursor has no room for."""
        only = f" - only {clean(self._only)}" if self._only else ""
        title = f"hosts{only} - {note}" if note else f"hosts{only}"
        if title != self._title:
            self._title = title
            self.border_title = Text(title)

    def show_only(self, text: str, tags: Mapping[str, Collection[str]]) -> None:
        """Shows the hosts that a filter admits: `state:down`, `tag:cuda` (`tags` has those of each
        host), or what `parse_filter` reads, held against what the table says of them."""
        try:
            self._admits = _host_filter(text, tags)
        except ValueError as error:
            self.explain(clean(str(error)))
            return
        self._only = text
        self.explain("")
        self.query_one(".empty", Static).update(NONE_ADMITTED if text else NO_HOSTS)
        self.watch_snapshot()

    def watch_snapshot(self) -> None:
        if self.snapshot is None:
            return
        hosts = [host for host in self.snapshot.hosts if self._admits(host)]
        self.set_class(not hosts, "-empty")
        rows = [_row(host, self.snapshot.at) for host in hosts]
        self.query_one(KeyedTable).show_rows(HOST_COLUMNS, rows)


def _host_filter(text: str, tags: Mapping[str, Collection[str]]) -> Callable[[HostView], bool]:
    kind, _, wanted = text.partition(":")
    wanted = wanted.strip().lower()
    if kind == "state":
        return lambda host: host.state.value.startswith(wanted)
    if kind == "tag":
        return lambda host: any(each.lower().startswith(wanted) for each in tags.get(host.name, ()))
    line_filter = parse_filter(text)
    return lambda host: line_filter.admits(" ".join(host_cells(host, host.at or 0.0)))


def _row(host: HostView, now: float) -> Row:
    tone = host_tone(host, now)
    rest = Tone.PLAIN if host.state is HostState.UP and tone is Tone.GOOD else Tone.MUTED
    tones = tuple(tone if column.key == "state" else rest for column in HOST_COLUMNS)
    return Row(key=host.name, cells=host_cells(host, now), tones=tones)
