"""The pane of hosts: one row each in the inventory's order; a dead one is grey and says why."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Static

from sollol_tui.model.columns import HOST_COLUMNS, Tone, host_cells, host_tone
from sollol_tui.model.snapshot import HostState, HostView, Snapshot
from sollol_tui.ui.widgets.keyed_table import KeyedTable, Row

NO_HOSTS = "no hosts in the inventory - press e to edit it, i to import from ~/.ssh/config"


class HostsTable(Vertical):
    snapshot: reactive[Snapshot | None] = reactive(None)

    def compose(self) -> ComposeResult:
        yield KeyedTable(id="hosts-table")
        yield Static(NO_HOSTS, classes="empty", markup=False)

    def on_mount(self) -> None:
        self._title = ""
        self.explain("")

    def explain(self, note: str) -> None:
        """Says in the title what the row under the cursor has no room for."""
        title = f"hosts - {note}" if note else "hosts"
        if title != self._title:
            self._title = title
            self.border_title = Text(title)

    def watch_snapshot(self) -> None:
        if self.snapshot is None:
            return
        self.set_class(not self.snapshot.hosts, "-empty")
        rows = [_row(host, self.snapshot.at) for host in self.snapshot.hosts]
        self.query_one(KeyedTable).show_rows(HOST_COLUMNS, rows)


def _row(host: HostView, now: float) -> Row:
    tone = host_tone(host, now)
    rest = Tone.PLAIN if host.state is HostState.UP and tone is Tone.GOOD else Tone.MUTED
    tones = tuple(tone if column.key == "state" else rest for column in HOST_COLUMNS)
    return Row(key=host.name, cells=host_cells(host, now), tones=tones)
