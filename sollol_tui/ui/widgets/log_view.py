"""The rows of a log: they follow what comes as long as one looks at their end, and freeze when one
scrolls up. Knows no filter; rows are handed in clean."""

import re
from collections.abc import Sequence
from typing import ClassVar, Final

from rich.highlighter import Highlighter
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import Reactive, reactive
from textual.widgets import Log

from sollol_tui.model.columns import Tone
from sollol_tui.ui.log_rows import BAR
from sollol_tui.ui.theme import tone_style

_TROUBLE: Final = re.compile(r"\b(\w*error|\w*exception|traceback|failed|killed)\b", re.IGNORECASE)
_WARNING: Final = re.compile(r"\b\w*warn(ing)?\b", re.IGNORECASE)


class LogStyle(Highlighter):
    """Dims whose line it is and when it came, and marks the words one looks for."""

    def __init__(self, app: App[object]) -> None:
        self._app = app
        self.wanted: re.Pattern[str] | None = None  # what the filter finds

    def highlight(self, text: Text) -> None:
        text.highlight_regex(rf"^[^{BAR}]*{BAR}", Style(dim=True))
        text.highlight_regex(_TROUBLE, tone_style(self._app, Tone.BAD))
        text.highlight_regex(_WARNING, tone_style(self._app, Tone.BUSY))
        if self.wanted is not None:
            text.highlight_regex(self.wanted, Style(reverse=True))


class LogView(Log):
    """`follows` says whether one looks at the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Down", id="log.down", show=False, tooltip="A line down"),
        Binding("k,up", "scroll_up", "Up", id="log.up", show=False, tooltip="A line up; freezes"),
        Binding("g,home", "scroll_home", "First", id="log.first", show=False,
                tooltip="The oldest line"),
        Binding("G,end", "follow", "Follow", id="log.follow", show=False,
                tooltip="The newest line, and follow what comes"),
        Binding("ctrl+d", "page(0.5)", "Half down", id="log.half_down", show=False,
                tooltip="Half a page down"),
        Binding("ctrl+u", "page(-0.5)", "Half up", id="log.half_up", show=False,
                tooltip="Half a page up; freezes"),
    ]  # fmt: skip

    follows: reactive[bool] = reactive(True)
    # Textual lays the whole screen out anew when this changes, which is with every batch of lines.
    virtual_size: Reactive[Size] = Reactive(Size(0, 0), layout=False)
    _holds = False  # while rows are replaced under somebody who reads

    def watch_virtual_size(self, size: Size) -> None:
        """Only a scrollbar that comes or goes changes the layout."""
        if (size.height > self.container_size.height) != self.show_vertical_scrollbar:
            self.refresh(layout=True)
        elif self.show_vertical_scrollbar:
            self.vertical_scrollbar.window_virtual_size = size.height

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._holds:
            self.follows = self.is_vertical_scroll_end

    def on_resize(self, event: events.Resize) -> None:
        if self.follows:
            self.action_follow()

    def add(self, lines: Sequence[str]) -> None:
        """Writes a batch, and stays at the end if it was there."""
        follows = self.follows
        self.write_lines(lines, scroll_end=False)
        if follows:
            self.action_follow()

    def replace(self, rows: Sequence[str], *, top: int | None = None) -> None:
        """Other rows, seen from their end; from row `top` on where that is given, as before."""
        self._holds = top is not None
        self.clear()
        self.write_lines(rows, scroll_end=False)
        if top is None:
            self.action_follow()
        else:
            self.go_to(top)
            self._holds = False
            self.follows = self.is_vertical_scroll_end  # fewer rows may all be seen

    def action_follow(self) -> None:
        self.follows = True  # also where all rows are seen: there nothing scrolls that would say so
        self.go_to(self.max_scroll_y)

    def go_to(self, row: int) -> None:
        """Puts a row at the top, or as far up as rows below it allow."""
        # Forced, as rows that have just begun to overflow have no scrollbar before the next layout.
        self.scroll_to(y=row, animate=False, force=True)

    def action_scroll_home(self) -> None:
        self.go_to(0)

    def action_scroll_up(self) -> None:
        self._turn_away()
        super().action_scroll_up()

    def action_page_up(self) -> None:
        self._turn_away()
        super().action_page_up()

    def _turn_away(self) -> None:
        """Follows no longer, now: where Textual glides there, a batch of lines that came meanwhile
        would lead back to the end."""
        if self.scroll_y > 0:
            self.follows = False

    def action_page(self, pages: float) -> None:
        self.scroll_relative(y=round(pages * self.size.height), animate=False)


def tells_of_error(line: str) -> bool:
    return _TROUBLE.search(line) is not None
