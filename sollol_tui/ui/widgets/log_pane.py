"""The pane of one job's log: follows, freezes when one scrolls up, filters. It reads no file: lines
are handed in, already clean, and cleaned again if they are not."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final

from rich.cells import cell_len, chop_cells
from rich.highlighter import Highlighter
from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.reactive import Reactive, reactive
from textual.widgets import Input, Log, Static

from sollol_tui.model.columns import Tone, job_sentence, job_tone
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.text import MAX_LINE, clean, clean_lines
from sollol_tui.ui.log_filter import EVERYTHING, LogFilter, parse_filter
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.filter_entry import FilterEntry

KEPT_LINES: Final = 20_000
NO_JOB = "the log of the job under the cursor appears here"
_TRACEBACK_LINES = 4
_FOLD = "  ↪ "  # before what goes on
_LEAST_WRAPPED = 20
_BAR = "│"  # between whose line it is and what it says


_TROUBLE = re.compile(r"\b(\w*error|\w*exception|traceback|failed|killed)\b", re.IGNORECASE)
_WARNING = re.compile(r"\b\w*warn(ing)?\b", re.IGNORECASE)


class _LogStyle(Highlighter):
    """Dims whose line it is, and marks the words one looks for."""

    def __init__(self, app: App[object]) -> None:
        self._app = app
        self.wanted: re.Pattern[str] | None = None  # what the filter finds

    def highlight(self, text: Text) -> None:
        text.highlight_regex(rf"^\S+ {_BAR}", Style(dim=True))
        text.highlight_regex(_TROUBLE, tone_style(self._app, Tone.BAD))
        text.highlight_regex(_WARNING, tone_style(self._app, Tone.BUSY))
        if self.wanted is not None:
            text.highlight_regex(self.wanted, Style(reverse=True))


class LogView(Log):
    """The lines themselves. It follows what comes as long as one looks at its end."""

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

    def watch_virtual_size(self, size: Size) -> None:
        """Only a scrollbar that comes or goes changes the layout."""
        if (size.height > self.container_size.height) != self.show_vertical_scrollbar:
            self.refresh(layout=True)
        elif self.show_vertical_scrollbar:
            self.vertical_scrollbar.window_virtual_size = size.height

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
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

    def action_follow(self) -> None:
        self.scroll_end(animate=False, immediate=True, x_axis=False)

    def action_page(self, pages: float) -> None:
        self.scroll_relative(y=round(pages * self.size.height), animate=False)


class LogPane(Vertical):
    """Shows `job` and the lines that `append` hands in."""

    job: reactive[JobView | None] = reactive(None, init=False)
    now: reactive[float] = reactive(0.0, init=False)
    trouble: reactive[str] = reactive("", init=False)

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._waiting: deque[str] = deque(maxlen=KEPT_LINES)
        self._unseen = 0
        self._filter: LogFilter = EVERYTHING
        self._ranks: set[str] = set()
        self._rank = ""  # whose lines alone are shown; "" those of all
        self._searches = False  # the filter finds lines among all, and leaves none out
        self._found_at = -1
        self._wraps = False
        self._fold_width = 0
        self._complaint = ""
        self._title = Text()
        self._head = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="log-head", markup=False)
        yield Static(NO_JOB, classes="empty", markup=False)
        log = LogView(highlight=True, max_lines=KEPT_LINES, id="log-view")
        log.highlighter = self._style = _LogStyle(self.app)
        yield log
        yield FilterEntry(placeholder="text, !text or re:pattern", id="log-filter", compact=True)

    def on_mount(self) -> None:
        self.query_one(FilterEntry).display = False
        self.watch(self.query_one(LogView), "follows", self._followed)

    @property
    def rank(self) -> str:
        """Whose lines alone are shown, as "hydra/0"; "" those of all."""
        return self._rank

    @property
    def filter_text(self) -> str:
        """The filter that is on, as it was typed."""
        return self._filter.text

    @filter_text.setter
    def filter_text(self, text: str) -> None:
        self.query_one(FilterEntry).value = text

    @property
    def filtering(self) -> bool:
        """Whether a filter is on or being typed."""
        return self._filter is not EVERYTHING or self.query_one(FilterEntry).has_focus

    def start(self, job: JobView | None) -> None:
        """Begins with another job: nothing of the last one stays but the filter."""
        self._kept.clear()
        self._ranks.clear()
        self._rank = ""
        self.trouble = ""
        self.job = job
        self._rewrite()

    def append(self, lines: Sequence[tuple[str, str]]) -> None:
        """Adds (prefix, text) lines, or counts them while the pane is frozen."""
        fresh = [f"{prefix} {_BAR} {_safe(text)}" for prefix, text in lines]
        self._kept.extend(fresh)
        self._ranks.update(prefix for prefix, _ in lines)
        admitted = [line for line in fresh if self._admits(line)]
        log = self.query_one(LogView)
        if log.follows:
            log.add(self._folded(admitted))
        else:
            self._waiting.extend(admitted)
            self._unseen += len(admitted)
        self._say()

    def next_rank(self) -> None:
        """Only the lines of the next rank; after the last one those of all again."""
        ranks = ["", *sorted(self._ranks)]
        self._rank = ranks[(ranks.index(self._rank) + 1) % len(ranks)]
        self._rewrite()

    def all_ranks(self) -> None:
        if self._rank:
            self._rank = ""
            self._rewrite()

    def go_to_error(self) -> bool:
        """Shows the first line that tells of an error; False when none does."""
        return self._go_to(_tells_of_error, -1, 1)

    def step(self, way: int) -> bool:
        """Shows the next line that the filter finds, downwards (1) or upwards (-1), with what
        stands around it; without a filter the next that tells of an error."""
        if self._filter.text and not self._searches:
            self._searches = True
            self._rewrite()
        found = self._filter.admits if self._filter.text else _tells_of_error
        return self._go_to(found, self._found_at, way)

    def _go_to(self, found: Callable[[str], bool], after: int, way: int) -> bool:
        """Puts a line that is found at the top of the pane; False when there is none."""
        log = self.query_one(LogView)
        beginnings = [at for at, line in enumerate(log.lines) if not line.startswith(_FOLD)]
        wholes = zip(beginnings, [*beginnings[1:], len(log.lines)], strict=True)
        for begin, end in list(wholes)[::way]:
            is_further = begin > after if way > 0 else begin < after or after < 0
            if is_further and found("".join(_unfolded(line) for line in log.lines[begin:end])):
                log.scroll_to(y=begin, animate=False)
                self._found_at = begin
                return True
        return False

    def wrap(self) -> None:
        """Long lines on several rows, or cut at the edge again."""
        self._wraps = not self._wraps
        self._rewrite()
        self._fold_width = self.query_one(LogView).scrollable_content_region.width

    def on_resize(self) -> None:
        width = self.query_one(LogView).scrollable_content_region.width
        if self._wraps and width != self._fold_width:
            self._fold_width = width
            self._rewrite()

    def _folded(self, lines: Iterable[str]) -> list[str]:
        """The rows that these lines take."""
        width = self.query_one(LogView).scrollable_content_region.width
        if not self._wraps or width < _LEAST_WRAPPED:
            return list(lines)
        rows = []
        for line in lines:
            first, *more = chop_cells(line, width) if cell_len(line) > width else [line]
            rest = "".join(more)
            rows.append(first)
            rows += (
                [f"{_FOLD}{row}" for row in chop_cells(rest, width - len(_FOLD))] if rest else []
            )
        return rows

    def _admits(self, line: str) -> bool:
        return (self._searches or self._filter.admits(line)) and (
            not self._rank or line.startswith(f"{self._rank} {_BAR}")
        )

    def open_filter(self) -> None:
        entry = self.query_one(FilterEntry)
        entry.display = True
        entry.focus()

    def clear_filter(self) -> None:
        self.query_one(FilterEntry).value = ""
        self._close_filter()
        self._set_filter(EVERYTHING)

    def focus_lines(self) -> None:
        self.query_one(LogView).focus()

    def watch_job(self) -> None:
        self._say()

    def watch_now(self) -> None:
        self._say_head()

    def watch_trouble(self) -> None:
        self._say_head()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        try:
            self._set_filter(parse_filter(event.value))
        except ValueError as error:
            self._complaint = clean(str(error))
            self._say()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_filter()

    def _close_filter(self) -> None:
        entry = self.query_one(FilterEntry)
        if entry.has_focus:
            self.focus_lines()
        entry.display = False

    def _set_filter(self, wanted: LogFilter) -> None:
        self._complaint = ""
        if wanted.text != self._filter.text or self._searches:
            self._filter = wanted
            self._searches = False
            self._style.wanted = wanted.pattern
            self._rewrite()
        self._say()

    def _rewrite(self) -> None:
        """Shows what is kept and admitted, from its end."""
        self._waiting.clear()
        self._unseen = 0
        self._found_at = -1
        log = self.query_one(LogView)
        log.clear()
        log.follows = True
        log.add(self._folded(line for line in self._kept if self._admits(line)))
        self._say()

    def _followed(self, follows: bool) -> None:
        """Back at the end: what waited is shown."""
        if follows and self._waiting:
            batch = list(self._waiting)
            self._waiting.clear()
            self._unseen = 0
            self.query_one(LogView).add(self._folded(batch))
        self._say()

    def _say(self) -> None:
        """Head, title, badge, and what stands in for lines when there are none."""
        self._say_head()
        title = Text("log")
        log = self.query_one(LogView)
        if self.job is not None:
            title.append(f" {clean(self.job.id, limit=80)} {clean(self.job.name, limit=80)}")
        if self._rank:
            title.append(f" - only {self._rank}")
        if not log.follows:
            new = f"{self._unseen} new, " if self._unseen else ""
            title.append(f" - frozen: {new}G follows", style=tone_style(self.app, Tone.BUSY))
        if self._complaint:
            title.append(f" - {self._complaint}", style=tone_style(self.app, Tone.BAD))
        elif self._filter.text:
            how = "search" if self._searches else "only"
            title.append(f" - {how} {clean(self._filter.text)}")
        if self._wraps:
            title.append(" - wrapped")
        if title != self._title or title.spans != self._title.spans:
            self._title = title
            self.border_title = title
        empty = self.query_one(".empty", Static)
        empty.display = not log.lines
        if self.job is None:
            words = NO_JOB
        elif (self._filter.text or self._rank) and self._kept:
            words = "no line passes the filter - esc clears it"
        else:
            words = "no output" if self.job.state.is_terminal else "no output yet"
        if empty.display:
            empty.update(words)

    def _say_head(self) -> None:
        head = self.query_one("#log-head", Static)
        head.display = self.job is not None
        if self.job is None:
            return
        text = Text()
        text.append(job_sentence(self.job, self.now), tone_style(self.app, job_tone(self.job)))
        for line in clean_lines(self.job.traceback)[-_TRACEBACK_LINES:]:
            text.append(f"\n{line}", tone_style(self.app, Tone.MUTED))
        if self.trouble:
            text.append(f"\n{clean(self.trouble)}", tone_style(self.app, Tone.BAD))
        if (head_text := text.markup) != self._head:
            self._head = head_text
            # A layout of the whole screen costs more than all else here, and most news needs none.
            rows = len(text.wrap(self.app.console, max(1, head.content_size.width)))
            head.update(text, layout=rows != head.content_size.height)


def _tells_of_error(line: str) -> bool:
    return _TROUBLE.search(line) is not None


def _unfolded(row: str) -> str:
    return row.removeprefix(_FOLD)


def _safe(text: str) -> str:
    """What a reader hands in is clean already; this is where it would reach the terminal."""
    return text if len(text) <= MAX_LINE and text.isprintable() else clean(text)
