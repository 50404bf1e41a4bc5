"""The pane of one job's log: follows, freezes when one scrolls up, filters. It reads no file: lines
are handed in, already clean, and cleaned again if they are not."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from rich.highlighter import Highlighter
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widgets import Input, Log, Static

from sollol_tui.model.columns import Tone, job_sentence, job_tone
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.text import MAX_LINE, clean, clean_lines
from sollol_tui.ui.log_filter import EVERYTHING, LogFilter, parse_filter
from sollol_tui.ui.theme import tone_style

KEPT_LINES: Final = 20_000
NO_JOB = "the log of the job under the cursor appears here"
NO_LINES = "no output yet"
_TRACEBACK_LINES = 4


class _LogStyle(Highlighter):
    """Dims whose line it is, and marks the words one looks for."""

    def highlight(self, text: Text) -> None:
        text.highlight_regex(r"^\S+ │", "dim")
        text.highlight_regex(r"(?i)\b(\w*error|\w*exception|traceback|failed|killed)\b", "bold red")
        text.highlight_regex(r"(?i)\bwarn(ing)?\b", "yellow")


class LogView(Log):
    """The lines themselves. Frozen as soon as it is not at its end."""

    BINDINGS = [
        Binding("j", "scroll_down", "Down", id="log.down", show=False, tooltip="One line down"),
        Binding("k", "scroll_up", "Up", id="log.up", show=False, tooltip="One line up; freezes"),
        Binding("g", "scroll_home", "First", id="log.first", show=False, tooltip="Oldest line"),
        Binding("G,end", "follow", "Follow", id="log.follow", show=False,
                tooltip="Newest line, and follow what comes"),
        Binding("ctrl+d", "page(0.5)", "Half down", id="log.half_down", show=False,
                tooltip="Half a page down"),
        Binding("ctrl+u", "page(-0.5)", "Half up", id="log.half_up", show=False,
                tooltip="Half a page up; freezes"),
    ]  # fmt: skip

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

    def compose(self) -> ComposeResult:
        yield Static("", id="log-head", markup=False)
        log = LogView(highlight=True, max_lines=KEPT_LINES, id="log-view")
        log.highlighter = _LogStyle()
        yield log
        yield Static(NO_JOB, classes="empty", markup=False)
        yield Input(placeholder="text, !text or re:pattern", id="log-filter", compact=True)

    def on_mount(self) -> None:
        self.query_one(Input).display = False
        self.watch(self.query_one(LogView), "scroll_y", self._scrolled)
        self._say()

    @property
    def filtering(self) -> bool:
        """Whether a filter is on or being typed."""
        return self._filter is not EVERYTHING or self.query_one(Input).has_focus

    def start(self, job: JobView | None) -> None:
        """Begins with another job: nothing of the last one stays."""
        self._kept.clear()
        self.job = job
        self.trouble = ""
        self._rewrite()

    def append(self, lines: Sequence[tuple[str, str]]) -> None:
        """Adds (prefix, text) lines, or counts them while the pane is frozen."""
        fresh = [f"{prefix} │ {_safe(text)}" for prefix, text in lines]
        self._kept.extend(fresh)
        admitted = [line for line in fresh if self._filter.admits(line)]
        if self.query_one(LogView).is_vertical_scroll_end and not self._waiting:
            self._write(admitted)
        else:
            self._waiting.extend(admitted)
            self._unseen += len(admitted)
        self._say()

    def open_filter(self) -> None:
        entry = self.query_one(Input)
        entry.display = True
        entry.focus()

    def clear_filter(self) -> None:
        self.query_one(Input).value = ""
        self._close_filter()
        self._set_filter(EVERYTHING)

    def follow(self) -> None:
        self.query_one(LogView).action_follow()

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
            self.query_one(Input).add_class("-invalid")
            self.border_subtitle = Text(clean(str(error)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_filter()

    def _close_filter(self) -> None:
        entry = self.query_one(Input)
        if entry.has_focus:
            self.focus_lines()
        entry.display = False

    def _set_filter(self, wanted: LogFilter) -> None:
        self.query_one(Input).remove_class("-invalid")
        if wanted.text != self._filter.text:
            self._filter = wanted
            self._rewrite()

    def _rewrite(self) -> None:
        log = self.query_one(LogView)
        self._waiting.clear()
        self._unseen = 0
        log.clear()
        log.scroll_end(animate=False, immediate=True)
        self._write(line for line in self._kept if self._filter.admits(line))
        self._say()

    def _write(self, lines: Iterable[str]) -> None:
        if batch := list(lines):
            self.query_one(LogView).write_lines(batch, scroll_end=True)

    def _scrolled(self) -> None:
        if self._waiting and self.query_one(LogView).is_vertical_scroll_end:
            batch = list(self._waiting)
            self._waiting.clear()
            self._unseen = 0
            self._write(batch)
        self._say()

    def _say(self) -> None:
        """Title, badge, and what stands in for lines when there are none."""
        self._say_head()
        log = self.query_one(LogView)
        title = "log"
        if self.job is not None:
            title += f" {clean(self.job.id, limit=80)} {clean(self.job.name, limit=80)}"
        self.border_title = Text(title)
        notes = [f"filter {clean(self._filter.text)}"] if self._filter.text else []
        if not log.is_vertical_scroll_end or self._waiting:
            notes.append(
                f"frozen, {self._unseen} new - G follows" if self._unseen else "frozen - G follows"
            )
        elif self.job is not None and not self.job.state.is_terminal:
            notes.append("follows")
        self.border_subtitle = Text("   ".join(notes)) if notes else None
        empty = self.query_one(".empty", Static)
        empty.display = not log.lines
        log.display = bool(log.lines)
        if self.job is None:
            empty.update(NO_JOB)
        elif self._filter.text and self._kept:
            empty.update("no line passes the filter - esc clears it")
        else:
            empty.update(NO_LINES)

    def _say_head(self) -> None:
        head = self.query_one("#log-head", Static)
        if self.job is None:
            head.display = False
            return
        style = tone_style(self.app, job_tone(self.job))
        text = Text(
            job_sentence(self.job, self.now), style=style, no_wrap=True, overflow="ellipsis"
        )
        for line in clean_lines(self.job.traceback)[-_TRACEBACK_LINES:]:
            text.append("\n" + line, style=tone_style(self.app, Tone.MUTED))
        if self.trouble:
            text.append("\n" + clean(self.trouble), style=tone_style(self.app, Tone.BAD))
        head.display = True
        head.update(text)


def _safe(text: str) -> str:
    """Log drops empty lines, so a blank stands for one; anything unprintable is cleaned away."""
    if not text:
        return ""
    return text if len(text) <= MAX_LINE and text.isprintable() else clean(text)
