"""One field of a form: its key, what is typed or chosen, and a mark when that cannot be. It knows
nothing of jobs."""

from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Static

from sollol_tui.model.form import Field
from sollol_tui.model.text import clean

_GAP = "  "
_NOTHING_CHOSEN = "-"  # stands for the choice of none
_WRONG = "! "


def lines_of(pasted: str) -> str:
    """What was pasted with the ends of its lines as a file has them: terminals send returns."""
    return pasted.replace("\r\n", "\n").replace("\r", "\n").strip()


class TextEntry(Input, inherit_bindings=False):
    """A line to type into. Several lines that are pasted are no entry, but a file."""

    # Not those by which any widget would scroll: up and down are the form's.
    BINDINGS: ClassVar[list[BindingType]] = [*Input.BINDINGS]

    @dataclass
    class FilePasted(Message):
        text: str

    def on_paste(self, event: events.Paste) -> None:
        text = lines_of(event.text)
        if "\n" in text:
            event.prevent_default()
            event.stop()
            self.post_message(self.FilePasted(text))
        else:
            event.text = clean(text)


class Choices(Widget, can_focus=True):
    """A few words of which one is chosen. They stand side by side as far as there is room."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l,space", "step(1)", "Next", id="choice.next", tooltip="The next choice",
                key_display="→"),
        Binding("left,h", "step(-1)", "Previous", id="choice.previous", show=False,
                tooltip="The previous choice"),
    ]  # fmt: skip

    value: reactive[str] = reactive("")

    @dataclass
    class Changed(Message):
        value: str

    def __init__(self, choices: tuple[str, ...], value: str) -> None:
        super().__init__()
        self._choices = choices
        self.set_reactive(Choices.value, value)

    def render(self) -> Text:
        text, at = Text(no_wrap=True, overflow="ellipsis"), self._at
        words = [choice or _NOTHING_CHOSEN for choice in self._choices]
        if sum(map(len, words)) + len(_GAP) * len(words) > self.size.width:
            words, at = words[at : at + 1], 0
            text.append("< ", Style(dim=True))
        for number, word in enumerate(words):
            chosen = Style(bold=True, reverse=self.has_focus, underline=not self.has_focus)
            text.append(word, chosen if number == at else Style(dim=True))
            text.append(_GAP)
        if len(words) < len(self._choices):
            text.append(">", Style(dim=True))
        return text

    @property
    def _at(self) -> int:
        return self._choices.index(self.value) if self.value in self._choices else 0

    def action_step(self, places: int) -> None:
        self.value = self._choices[(self._at + places) % len(self._choices)]
        self.post_message(self.Changed(self.value))

    def on_click(self, event: events.Click) -> None:
        begin = 0
        for choice in self._choices:
            end = begin + len(choice or _NOTHING_CHOSEN)
            if begin <= event.x < end and choice != self.value:
                self.value = choice
                self.post_message(self.Changed(choice))
            begin = end + len(_GAP)


class FormField(Horizontal):
    """A field and what is said in it: `typed`, empty where its default stands."""

    @dataclass
    class Changed(Message):
        field: "FormField"

    def __init__(self, field: Field, typed: str) -> None:
        super().__init__(classes="form-field")
        self.field = field
        self._typed = clean(typed)
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield Static(self._label(), classes="form-label", markup=False)
        if self.field.choices:
            yield Choices(self.field.choices, self._typed or self.field.default)
        else:
            yield TextEntry(
                self._typed, placeholder=self.field.default, compact=True, select_on_focus=False
            )

    @property
    def typed(self) -> str:
        return self._typed

    @property
    def problem(self) -> str:
        return self._problem

    def fill(self, typed: str) -> None:
        """Puts this in the field as if it had been typed."""
        self._typed = clean(typed)
        if self.field.choices:
            self.query_one(Choices).value = self._typed or self.field.default
        else:
            with self.prevent(Input.Changed):
                self.query_one(TextEntry).value = self._typed

    def mark(self, problem: str) -> None:
        """Says that this cannot be, and why; "" that it can."""
        if problem != self._problem:
            self._problem = problem
            self.set_class(bool(problem), "-wrong")
            self.query_one(".form-label", Static).update(self._label())

    def enter(self) -> None:
        """Puts the cursor there, at once: the next key is for this field."""
        self.screen.set_focus(self.query_one(Choices if self.field.choices else TextEntry))

    def _label(self) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(_WRONG if self._problem else " " * len(_WRONG))
        text.append(self.field.key)
        return text

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._say(event.value)

    def on_choices_changed(self, message: Choices.Changed) -> None:
        message.stop()
        self._say("" if message.value == self.field.default else message.value)

    def _say(self, typed: str) -> None:
        if typed != self._typed:
            self._typed = typed
            self.post_message(self.Changed(self))
