"""YAML that is being written: its words coloured by what they are, and the lines marked in which
something is wrong. It judges nothing."""

from collections.abc import Collection
from typing import ClassVar, Final

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

_VARIABLES: Final = {  # of the application's theme, by what the grammar finds
    "yaml.field": "primary",
    "string": "success",
    "number": "warning",
    "boolean": "warning",
    "constant.builtin": "warning",
}


class YamlArea(TextArea):
    """Lines in `wrong` (counted from 1) are underlined in the colour of errors."""

    # Where the toolkit's keys have no sentence they are not in the help; these are what one needs.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+z", "undo", "Undo", id="text.undo", show=False, tooltip="Undo"),
        Binding("ctrl+y", "redo", "Redo", id="text.redo", show=False, tooltip="Redo"),
        Binding("ctrl+home", "to_start", "Start", id="text.start", show=False,
                tooltip="To the first line"),
        Binding("ctrl+end", "to_end", "End", id="text.end", show=False,
                tooltip="To the last line"),
    ]  # fmt: skip

    def __init__(self, text: str) -> None:
        super().__init__(
            text,
            language="yaml",
            show_line_numbers=True,
            soft_wrap=False,
            tab_behavior="indent",
            compact=True,
        )
        self.indent_width = 2
        self._wrong: frozenset[int] = frozenset()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._colour())
        self._colour()

    @property
    def wrong(self) -> frozenset[int]:
        return self._wrong

    def mark(self, lines: Collection[int]) -> None:
        """Marks these lines and no others."""
        if (wrong := frozenset(lines)) != self._wrong:
            self._wrong = wrong
            self.notify_style_update()  # the lines that are drawn already are drawn anew
            self.refresh()

    def action_to_start(self) -> None:
        self.move_cursor(self.document.start)

    def action_to_end(self) -> None:
        self.move_cursor(self.document.end)

    def get_line(self, line_index: int) -> Text:
        text = super().get_line(line_index)
        if not text.plain.isprintable():  # a file may hold what would steer the terminal
            text.plain = "".join(
                c if c.isprintable() or c == "\t" else "\ufffd" for c in text.plain
            )
        if line_index + 1 in self._wrong:
            text.stylize(Style(underline=True, bold=True, color=self._tone("error").color))
        return text

    def _colour(self) -> None:
        """Words in the colours of the theme that is on now."""
        name = f"{self.app.theme} words"
        styles = {kind: self._tone(variable) for kind, variable in _VARIABLES.items()}
        styles |= {"comment": Style(dim=True, italic=True)}
        self.register_theme(TextAreaTheme(name=name, syntax_styles=styles))
        self.theme = name

    def _tone(self, variable: str) -> Style:
        return Style(color=Color.parse(self.app.theme_variables[variable]).rich_color)
