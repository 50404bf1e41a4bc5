"""The question before a file is written: what changes in it. Answers; writes nothing."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from sollol_tui.model.columns import Tone
from sollol_tui.model.inventory_edit import unified_diff
from sollol_tui.model.text import clean
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.keys import Keys

_TONES = {"+": Tone.GOOD, "-": Tone.BAD, "@": Tone.MUTED}


class ConfirmDiff(ModalScreen[bool]):
    """Answers True only to an explicit yes."""

    CSS_PATH = "diff.tcss"
    AUTO_FOCUS = "#diff"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,ctrl+s", "answer(True)", "Write it", id="diff.yes", tooltip="Write the file"),
        Binding("n,escape,q", "answer(False)", "Back", id="diff.no", key_display="esc",
                tooltip="Write nothing"),
        Binding("j", "scroll(1)", "Down", id="diff.down", show=False, tooltip="A line down"),
        Binding("k", "scroll(-1)", "Up", id="diff.up", show=False, tooltip="A line up"),
    ]  # fmt: skip

    def __init__(self, old: str, new: str, file: str) -> None:
        super().__init__()
        self._file = file
        self._lines = unified_diff(old, new, file).splitlines()[2:]  # without the file's name twice

    def compose(self) -> ComposeResult:
        with Vertical(id="question") as question:
            question.border_title = Text(f"write {clean(self._file, limit=200)}?")
            with VerticalScroll(id="diff"):
                yield Static(self._diff(), markup=False)
            yield Static(self._count(), id="diff-count", markup=False)
        yield Keys()

    def _diff(self) -> Text:
        text = Text()  # long lines are folded: nothing is written unseen
        for line in self._lines:
            text.append(f"{clean(line)}\n", tone_style(self.app, _TONES.get(line[:1], Tone.PLAIN)))
        text.rstrip()
        return text

    def _count(self) -> str:
        more = sum(line.startswith("+") for line in self._lines)
        less = sum(line.startswith("-") for line in self._lines)
        return f"{more} line{'s' * (more != 1)} more, {less} less.  y writes it, esc goes back."

    def action_answer(self, confirmed: bool) -> None:
        self.dismiss(confirmed)

    def action_scroll(self, lines: int) -> None:
        self.query_one("#diff").scroll_relative(y=lines, animate=False)
