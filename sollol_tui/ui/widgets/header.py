"""The first line of the screen: the cluster at a glance, and below it what cannot be read now."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Static

from sollol_tui.model.columns import headline
from sollol_tui.model.snapshot import Snapshot
from sollol_tui.model.text import clean


class Header(Vertical):
    snapshot: reactive[Snapshot | None] = reactive(None)
    trouble: reactive[str] = reactive("", init=False)

    _line = ""

    def compose(self) -> ComposeResult:
        yield Static("SOLLOL  reading the state of the cluster", id="headline", markup=False)
        yield Static("", id="trouble", markup=False)

    def on_resize(self) -> None:
        self.watch_snapshot()

    def watch_snapshot(self) -> None:
        if self.snapshot is None or not self.size.width:
            return
        line = headline(self.snapshot, width=self.content_size.width)
        if line == self._line:
            return
        self._line = line
        text = Text(line, no_wrap=True, overflow="ellipsis")
        text.highlight_regex(r"^SOLLOL", "bold")
        self.query_one("#headline", Static).update(text)

    def watch_trouble(self) -> None:
        shown = self.query_one("#trouble", Static)
        shown.display = bool(self.trouble)
        shown.update(Text(clean(self.trouble), no_wrap=True, overflow="ellipsis"))
