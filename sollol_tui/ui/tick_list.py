"""A list to tick, a few lines below the prompt: the answer to "which of these?" in a terminal.

It knows nothing of what is ticked, and leaves the screen above as it was.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static

from sollol_tui.ui.theme import CALM
from sollol_tui.ui.widgets.checklist import Checklist

_MAX_LINES: Final = 12


class TickList(App[list[int]]):
    """Leaves with the positions that were ticked, in the list's order; None when given up."""

    CSS = f"""
    Screen {{ height: auto; &:inline {{ border: none; }} }}
    Checklist {{ height: auto; max-height: {_MAX_LINES}; border: none; padding: 0; }}
    #question {{ text-style: bold; }}
    """
    INLINE_PADDING = 0
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Take the ticked", id="tick.accept", priority=True,
                tooltip="Go on with what is ticked"),
        Binding("escape,q,ctrl+c", "give_up", "Leave", id="tick.give_up", priority=True,
                key_display="esc", tooltip="Leave without any"),
    ]  # fmt: skip

    def __init__(self, question: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._question = question
        self._lines = lines

    def compose(self) -> ComposeResult:
        yield Static(self._question, id="question", markup=False)
        yield Checklist(self._lines)
        yield Footer()

    def on_mount(self) -> None:
        self.register_theme(CALM)
        self.theme = CALM.name

    def action_accept(self) -> None:
        self.exit(self.query_one(Checklist).ticked)

    def action_give_up(self) -> None:
        self.exit(None)


def ticked(question: str, lines: Sequence[str]) -> list[int] | None:
    """The positions that the person at the terminal ticks; None when they leave without any."""
    return TickList(question, lines).run(inline=True)
