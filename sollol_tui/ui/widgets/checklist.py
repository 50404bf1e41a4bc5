"""Lines to tick. It knows nothing of what they stand for."""

from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import OptionList

from sollol_tui.model.text import clean


class Checklist(OptionList):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "tick", "Tick", id="tick.toggle", tooltip="Tick or untick this line"),
        Binding("a", "all", "All or none", id="tick.all", tooltip="Tick all, or none"),
        Binding("j", "cursor_down", "Down", show=False, id="tick.down", tooltip="Next line"),
        Binding("k", "cursor_up", "Up", show=False, id="tick.up", tooltip="Line above"),
    ]  # fmt: skip

    def __init__(self, lines: Sequence[str], ticked: Collection[int] = ()) -> None:
        self._texts = lines
        self._ticked = set(ticked)
        super().__init__(*map(self._prompt, range(len(lines))))

    def on_mount(self) -> None:
        self.highlighted = 0 if self._texts else None

    @property
    def ticked(self) -> list[int]:
        """The positions that are ticked, in the order of the lines."""
        return sorted(self._ticked)

    def _prompt(self, position: int) -> Text:
        mark = "[x]" if position in self._ticked else "[ ]"
        return Text(f"{mark} {clean(self._texts[position])}", no_wrap=True, overflow="ellipsis")

    def _show(self) -> None:
        for position in range(len(self._texts)):
            self.replace_option_prompt_at_index(position, self._prompt(position))

    def action_tick(self) -> None:
        if self.highlighted is not None:
            self._ticked ^= {self.highlighted}
            self._show()

    def action_all(self) -> None:
        everything = set(range(len(self._texts)))
        self._ticked = set() if self._ticked == everything else everything
        self._show()
