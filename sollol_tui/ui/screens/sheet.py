"""A few lines to read and nothing to decide: what a job was asked to be, its last log lines, what
the inventory says of a host. Whatever it shows is handed in."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static
from textual.worker import WorkType

from sollol_tui.model.columns import Tone
from sollol_tui.model.text import clean
from sollol_tui.ui.rounds import sentence
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.keys import Keys

READING = "being read"


class Sheet(ModalScreen[None]):
    """`read` may take a while and raise: it is asked in a thread, and its lines are cleaned. With
    `from_end` one sees the last of them first."""

    CSS_PATH = "sheet.tcss"
    AUTO_FOCUS = "#sheet"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,space,d,enter", "dismiss", "Close", id="sheet.close", key_display="esc",
                tooltip="Back to the screen"),
        Binding("j", "scroll(1)", "Down", id="sheet.down", show=False, tooltip="A line down"),
        Binding("k", "scroll(-1)", "Up", id="sheet.up", show=False, tooltip="A line up"),
        Binding("y", "copy", "Copy", id="sheet.copy", tooltip="Copy what stands here"),
    ]  # fmt: skip

    def __init__(
        self, title: str, read: Callable[[], Sequence[str]], *, from_end: bool = False
    ) -> None:
        super().__init__()
        self._title = title
        self._read = read
        self._from_end = from_end
        self._lines: list[str] = []

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="sheet") as pane:
            pane.border_title = Text(clean(self._title, limit=200))
            yield Static(READING, markup=False)
        yield Keys()

    def on_mount(self) -> None:
        work: WorkType[None] = self._fill
        self.run_worker(work, exit_on_error=False)

    async def _fill(self) -> None:
        try:
            lines = await asyncio.to_thread(self._read)
        except Exception as error:  # the sheet says it
            told = sentence(error)
            self.query_one(Static).update(Text(told, tone_style(self.app, Tone.BAD)))
            return
        self._lines = [clean(line) for line in lines]
        self.query_one(Static).update(Text("\n".join(self._lines) or "nothing yet"))
        if self._from_end:
            pane = self.query_one("#sheet")
            self.call_after_refresh(lambda: pane.scroll_end(animate=False))

    def action_scroll(self, lines: int) -> None:
        self.query_one("#sheet").scroll_relative(y=lines, animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard("\n".join(self._lines))
        self.notify(f"copied {len(self._lines)} lines", timeout=2, markup=False)
