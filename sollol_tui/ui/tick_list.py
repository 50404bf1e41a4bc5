"""A list to tick, a few lines below the prompt: the answer to "which of these?" in a terminal.

It knows nothing of what is ticked, and leaves the screen above as it was.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, OptionList, Static

from sollol_tui.model.text import clean
from sollol_tui.ui.theme import CALM

_MAX_LINES: Final = 12


class TickList(App[list[int]]):
    """Leaves with the positions that were ticked, in the list's order; None when given up."""

    CSS = f"""
    Screen {{ height: auto; &:inline {{ border: none; }} }}
    OptionList {{ height: auto; max-height: {_MAX_LINES}; border: none; padding: 0; }}
    #question {{ text-style: bold; }}
    """
    INLINE_PADDING = 0
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "tick", "Tick", id="tick.toggle", tooltip="Tick or untick this line"),
        Binding("a", "all", "All or none", id="tick.all", tooltip="Tick all, or none"),
        Binding("enter", "accept", "Take the ticked", id="tick.accept", priority=True,
                tooltip="Go on with what is ticked"),
        Binding("escape,q,ctrl+c", "give_up", "Leave", id="tick.give_up", priority=True,
                key_display="esc", tooltip="Leave without any"),
        Binding("j", "move(1)", "Down", show=False, id="tick.down", tooltip="Next line"),
        Binding("k", "move(-1)", "Up", show=False, id="tick.up", tooltip="Line above"),
    ]  # fmt: skip

    def __init__(self, question: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._question = question
        self._lines = lines
        self._ticked: set[int] = set()

    def compose(self) -> ComposeResult:
        yield Static(self._question, id="question", markup=False)
        yield OptionList(*map(self._prompt, range(len(self._lines))))
        yield Footer()

    def on_mount(self) -> None:
        self.register_theme(CALM)
        self.theme = CALM.name
        self._list.highlighted = 0

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    def _prompt(self, position: int) -> Text:
        mark = "[x]" if position in self._ticked else "[ ]"
        return Text(f"{mark} {clean(self._lines[position])}", no_wrap=True, overflow="ellipsis")

    def _show(self) -> None:
        for position in range(len(self._lines)):
            self._list.replace_option_prompt_at_index(position, self._prompt(position))

    def action_tick(self) -> None:
        if self._list.highlighted is not None:
            self._ticked ^= {self._list.highlighted}
            self._show()

    def action_all(self) -> None:
        everything = set(range(len(self._lines)))
        self._ticked = set() if self._ticked == everything else everything
        self._show()

    def action_move(self, lines: int) -> None:
        if lines > 0:
            self._list.action_cursor_down()
        else:
            self._list.action_cursor_up()

    def action_accept(self) -> None:
        self.exit(sorted(self._ticked))

    def action_give_up(self) -> None:
        self.exit(None)


def ticked(question: str, lines: Sequence[str]) -> list[int] | None:
    """The positions that the person at the terminal ticks; None when they leave without any."""
    return TickList(question, lines).run(inline=True)
