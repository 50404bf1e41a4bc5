"""The head of every view: the cluster at a glance, which view this is, and what cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Static

from sollol_tui.model.columns import headline
from sollol_tui.model.snapshot import Snapshot
from sollol_tui.model.text import clean

_GAP = "  "


class ViewStrip(Static):
    """ "1 Overview  2 Jobs ...": the views, this one marked. A click on a name asks for it."""

    @dataclass
    class Chosen(Message):
        view: str

    def __init__(self, views: Sequence[str], current: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self._views = views
        self._current = current

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        text = Text(no_wrap=True, overflow="ellipsis")
        for view, words in self._words():
            text.append(words, "bold reverse" if view == self._current else "dim")
            text.append(_GAP)
        self.update(text)

    def _words(self) -> list[tuple[str, str]]:
        """Each view and what stands for it: where there is little room the others are numbers."""
        words = [(view, f" {at} {view.capitalize()} ") for at, view in enumerate(self._views, 1)]
        if sum(len(each) + len(_GAP) for _, each in words) - len(_GAP) <= self.size.width:
            return words
        return [(v, each if v == self._current else f" {each.split()[0]} ") for v, each in words]

    def on_click(self, event: events.Click) -> None:
        begin = 0
        for view, words in self._words():
            end = begin + len(words)
            if begin <= event.x < end:
                self.post_message(self.Chosen(view))
            begin = end + len(_GAP)


class Header(Vertical):
    snapshot: reactive[Snapshot | None] = reactive(None)
    trouble: reactive[str] = reactive("", init=False)

    _line = ""

    def __init__(self, views: Sequence[str], current: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._views = views
        self._current = current

    def compose(self) -> ComposeResult:
        yield Static("SOLLOL  reading the state of the cluster", id="headline", markup=False)
        yield ViewStrip(self._views, self._current, id="views")
        yield Static("", id="trouble", markup=False)

    def on_resize(self) -> None:
        self.watch_snapshot()

    def watch_snapshot(self) -> None:
        if self.snapshot is None or not self.size.width:
            return
        line = headline(self.snapshot, width=self.content_size.width)
        if line == self._line:
            return
        self._line = line
        text = Text(line, no_wrap=True, overflow="ellipsis")
        text.highlight_regex(r"^SOLLOL", "bold")
        self.query_one("#headline", Static).update(text)

    def watch_trouble(self) -> None:
        shown = self.query_one("#trouble", Static)
        shown.display = bool(self.trouble)
        shown.update(Text(clean(self.trouble), no_wrap=True, overflow="ellipsis"))
