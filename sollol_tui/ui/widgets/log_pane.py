"""The pane of one job's log: follows, freezes when one scrolls up, filters. It reads no file: lines
are handed in, already clean, and cleaned again if they are not."""

from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Input, Static

from sollol_tui.model.columns import Tone
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.text import MAX_LINE, clean
from sollol_tui.ui.log_filter import EVERYTHING, LogFilter, parse_filter
from sollol_tui.ui.log_rows import KeptLine, first_rows, folded
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from sollol_tui.ui.widgets.log_head import LogHead
from sollol_tui.ui.widgets.log_view import LogStyle, LogView, tells_of_error

KEPT_LINES: Final = 20_000
_WIDEST_RANK: Final = 20
NO_JOB: Final = "the log of the job under the cursor appears here"


class LogPane(Vertical):
    """Shows `job` and the lines that `append` hands in."""

    job: reactive[JobView | None] = reactive(None, init=False)
    now: reactive[float] = reactive(0.0, init=False)
    trouble: reactive[str] = reactive("", init=False)

    def __init__(self, *, id: str, without_job: str = NO_JOB) -> None:  # noqa: A002
        """`without_job` stands in for lines where there is no job."""
        super().__init__(id=id)
        self._without_job = without_job
        self._kept: deque[KeptLine] = deque(maxlen=KEPT_LINES)
        self._waiting: deque[KeptLine] = deque(maxlen=KEPT_LINES)
        self._unseen = 0
        self._filter: LogFilter = EVERYTHING
        self._ranks: set[str] = set()
        self._rank_width = 0  # cells that every rank gets, so that bars stand below each other
        self._rank = ""  # whose lines alone are shown; "" those of all
        self._searches = False  # the filter finds lines among all, and leaves none out
        self._found_at = -1
        self._wraps = self._stamps = False
        self._fold_width = 0
        self._complaint = ""
        self._title = Text()

    def compose(self) -> ComposeResult:
        yield LogHead()
        yield Static(self._without_job, classes="empty", markup=False)
        log = LogView(highlight=True, max_lines=KEPT_LINES, id="log-view")
        log.highlighter = self._style = LogStyle(self.app)
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
        self._rank_width = 0
        self._rank = ""
        self.trouble = ""
        self.job = job
        self._rewrite()

    def append(self, lines: Sequence[tuple[str, str, float | None]]) -> None:
        """Adds lines (whose, text, when it came), or counts them while the pane is frozen."""
        fresh = [KeptLine.of(rank, _safe(text), at) for rank, text, at in lines]
        self._ranks.update(line.rank for line in fresh)
        width = min(_WIDEST_RANK, max(map(cell_len, self._ranks), default=0))
        if width > self._rank_width:
            with self._staying():
                self._rank_width = width
        self._kept.extend(fresh)
        admitted = [line for line in fresh if self._admits(line)]
        log = self.query_one(LogView)
        if log.follows:
            log.add(self._rows(admitted))
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
        return self._go_to(tells_of_error, -1, 1)

    def step(self, way: int) -> bool:
        """Shows the next line that the filter finds, downwards (1) or upwards (-1), with what
        stands around it; without a filter the next that tells of an error."""
        if self._filter.text and not self._searches:
            self._searches = True
            self._rewrite()
        found = self._filter.admits if self._filter.text else tells_of_error
        return self._go_to(found, self._found_at, way)

    def _go_to(self, found: Callable[[str], bool], after: int, way: int) -> bool:
        """Puts a line that is found at the top of the pane; False when there is none."""
        for begin, said in self._lines()[::way]:
            is_further = begin > after if way > 0 else begin < after or after < 0
            if is_further and found(said):
                self.query_one(LogView).go_to(begin)
                self._found_at = begin
                return True
        return False

    @property
    def _shown(self) -> list[KeptLine]:
        """The lines that stand in the view, but for oldest ones that it has no room for."""
        admitted = [line for line in self._kept if self._admits(line)]
        # Of those that wait some may be kept no more: those are not among the admitted.
        return admitted[: max(0, len(admitted) - len(self._waiting))]

    def _lines(self) -> list[tuple[int, str]]:
        """Of each line in the view its first row and what it said."""
        begins, shown = first_rows(self.query_one(LogView).lines), self._shown
        count = min(len(begins), len(shown))
        lines = zip(begins[len(begins) - count :], shown[len(shown) - count :], strict=True)
        return [(begin, line.said) for begin, line in lines]

    @property
    def line_here(self) -> str | None:
        """What was found last, else the newest line that is shown."""
        lines = self._lines()
        return dict(lines).get(self._found_at, lines[-1][1]) if lines else None

    def wrap(self) -> None:
        """Long lines on several rows, or cut at the edge again."""
        with self._staying():
            self._wraps = not self._wraps
        self._fold_width = self.query_one(LogView).scrollable_content_region.width

    def stamp(self) -> None:
        """Before each line when it came here, or without again."""
        with self._staying():
            self._stamps = not self._stamps

    def on_resize(self) -> None:
        width = self.query_one(LogView).scrollable_content_region.width
        if self._wraps and width != self._fold_width:
            with self._staying():
                self._fold_width = width

    @contextmanager
    def _staying(self) -> Iterator[None]:
        """Draws the same lines in another form, which is chosen meanwhile: who reads goes on at the
        line at the top."""
        log = self.query_one(LogView)
        begins = first_rows(log.lines)
        # Counted from the end: what is kept and what the view has room for begin elsewhere.
        found = len(begins) - bisect(begins, self._found_at) + 1 if self._found_at >= 0 else 0
        top = 0 if log.follows else len(begins) - bisect(begins, round(log.scroll_y)) + 1
        yield
        rows = self._rows(self._shown)[-KEPT_LINES:]
        begins = first_rows(rows)
        self._found_at = begins[-found] if 0 < found <= len(begins) else -1
        log.replace(rows, top=begins[-top] if 0 < top <= len(begins) else None)
        self._say()

    def _rows(self, lines: Iterable[KeptLine]) -> list[str]:
        """The rows that these lines take."""
        shown = [line.shown(rank_width=self._rank_width, stamped=self._stamps) for line in lines]
        width = self.query_one(LogView).scrollable_content_region.width
        return folded(shown, width) if self._wraps else shown

    def _admits(self, line: KeptLine) -> bool:
        return (self._searches or self._filter.admits(line.said)) and (
            not self._rank or line.rank == self._rank
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
        rows = self._rows(line for line in self._kept if self._admits(line))
        self.query_one(LogView).replace(rows)
        self._say()

    def _followed(self, follows: bool) -> None:
        """Back at the end: what waited is shown."""
        if follows and self._waiting:
            batch = list(self._waiting)
            self._waiting.clear()
            self._unseen = 0
            self.query_one(LogView).add(self._rows(batch))
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
            words = self._without_job
        elif (self._filter.text or self._rank) and self._kept:
            words = "no line passes the filter - esc clears it"
        else:
            words = "no output" if self.job.state.is_terminal else "no output yet"
        if empty.display:
            empty.update(words)

    def _say_head(self) -> None:
        self.query_one(LogHead).tell(self.job, self.now, self.trouble)


def _safe(text: str) -> str:
    """What a reader hands in is clean already; this is where it would reach the terminal."""
    return text if len(text) <= MAX_LINE and text.isprintable() else clean(text)
