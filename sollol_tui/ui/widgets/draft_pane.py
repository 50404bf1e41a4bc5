"""Beside a form: the plan of what was typed or why there is none, and the first rows of its data.
Everything it shows is handed in."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from sollol_tui.model.columns import Tone
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.ui.theme import tone_style

_ROW_LINES = 12  # of one row; the rest is counted
_LINE_CHARS = 240  # of one line, which is folded where the pane is narrower


class DraftPane(VerticalScroll):
    """What is old stays, greyed, until something new is shown."""

    can_focus = True

    def compose(self) -> ComposeResult:
        yield Static("", id="draft-plan", markup=False)
        yield Static("", id="draft-rows", markup=False)

    def on_mount(self) -> None:
        self.border_title = "plan"

    def grow_old(self, doing: str) -> None:
        """What is shown was true of something else; `doing` says what is being done about it."""
        self.add_class("-old")
        self.border_title = Text(f"plan - {doing}")

    def show_plan(
        self, parts: Sequence[tuple[str, Sequence[str]]], odd: Sequence[str] = ()
    ) -> None:
        """The lines of a plan behind the word that stands in front, then what is odd about it."""
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column()
        for name, lines in (*parts, ("odd", odd)):
            tone = Tone.BUSY if lines is odd else Tone.GOOD
            for number, line in enumerate(lines):
                head = Text(name if number == 0 else "", tone_style(self.app, tone))
                table.add_row(head, Text(clean(line)))
        self._show("plan", table)

    def refuse(self, sentences: Sequence[str], reasons: Mapping[str, str]) -> None:
        """Why there is no plan, and the reason of each host."""
        parts = [
            Text(line, tone_style(self.app, Tone.BAD))
            for sentence in sentences
            for line in clean_lines(sentence)
        ]
        parts += [Text(f"  {clean(host, limit=80)}: {clean(why)}") for host, why in reasons.items()]
        self._show("no plan", Group(*parts))

    def await_fields(self, keys: Sequence[str]) -> None:
        """There is too little for a plan yet, which is nobody's mistake."""
        self._show("plan", Text(f"the plan appears here: give {' and '.join(keys)}", style="dim"))

    def _show(self, title: str, content: RenderableType) -> None:
        self.remove_class("-old")
        self.border_title = Text(title)
        self.query_one("#draft-plan", Static).update(content)

    def show_rows(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """The first rows in pieces: what is learnt plain, what is only given dim."""
        parts: list[RenderableType] = [Text("")]
        for example in examples:
            parts.append(Text(f"row {example['row']}", style="bold"))
            table = Table.grid(padding=(0, 1))  # what is folded stays behind its mark
            for mark, line in _row(example):
                table.add_row(mark, line)
            parts.append(table)
        self.query_one("#draft-rows", Static).update(Group(*parts) if examples else "")


def _row(example: Mapping[str, Any]) -> list[tuple[str, Text]]:
    """Its lines, each with the mark of what is learnt."""
    lines: list[tuple[str, Text]] = []
    for piece in example["pieces"]:
        mark, style = (">", "") if piece["learnt"] else ("", "dim")
        for line in clean_lines(str(piece["text"])):
            more = len(line) - _LINE_CHARS
            told = line if more <= 0 else f"{line[:_LINE_CHARS]} [{more:,} more characters]"
            lines.append((mark, Text(told, style)))
        if left_out := piece.get("left_out"):
            lines.append((mark, Text(f"[{left_out:,} more characters]", style)))
    if (more := len(lines) - _ROW_LINES) > 1:
        lines = [*lines[:_ROW_LINES], ("", Text(f"[{more} more lines]", "dim"))]
    return lines
