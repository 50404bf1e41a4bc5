"""The keys that work in the pane one came from, with a sentence each."""

from typing import ClassVar, Final

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from sollol_tui.ui.widgets.keys import Keys

_ROOMY: Final = 100  # cells from which the ids of keys have room


class HelpScreen(ModalScreen[None]):
    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "dismiss", "Close", id="help.close",
                key_display="esc",
                tooltip="Back to the screen"),
        Binding("j", "scroll(1)", "Down", id="help.down", show=False, tooltip="Scroll down"),
        Binding("k", "scroll(-1)", "Up", id="help.up", show=False, tooltip="Scroll up"),
    ]  # fmt: skip

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._bindings_below = tuple(of.active_bindings.values())

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help") as pane:
            pane.border_title = "keys"
            yield Static(self._keys())
        yield Keys()

    def _keys(self) -> Table:
        """Keys that do the same share a line; what has no sentence is the toolkit's business."""
        is_roomy = self.app.size.width >= _ROOMY
        lines: dict[tuple[str, str], list[str]] = {}
        for active in self._bindings_below:
            if active.tooltip and active.binding.id:
                note = active.tooltip if active.enabled else f"{active.tooltip} (not now)"
                # The id is what one writes to give it another key.
                keys = lines.setdefault((active.binding.id if is_roomy else "", note), [])
                keys.append(self.app.get_key_display(active.binding))
        table = Table.grid(padding=(0, 2))
        for (id_, note), keys in lines.items():
            table.add_row(" ".join(dict.fromkeys(keys)), note, Text(id_, style="dim"))
        return table

    def action_scroll(self, lines: int) -> None:
        self.query_one("#help").scroll_relative(y=lines, animate=False)
