"""The questions before a job is cancelled or killed (which one, how old it is, what is kept), and
before one begins whose plan is odd."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from sollol_tui.model.columns import age
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_duration
from sollol_tui.ui.widgets.keys import Keys


class YesNo(ModalScreen[bool]):
    """Answers True only to an explicit yes. What goes on, or is not begun, without one is the
    button that has the cursor."""

    CSS_PATH = "confirm.tcss"
    AUTO_FOCUS = "#no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes", tooltip="Do what is asked about"),
        Binding("n,escape,q", "answer(False)", "No", id="confirm.no", key_display="n",
                tooltip="Leave all as it is"),
        Binding("left,right,h,l", "app.focus_next", "Other", id="confirm.other", show=False,
                tooltip="The other button"),
    ]  # fmt: skip

    def __init__(self, title: str, question: Text, *, no: str, yes: str) -> None:
        super().__init__()
        self._title, self._question, self._no, self._yes = title, question, no, yes

    def compose(self) -> ComposeResult:
        with Vertical(id="question") as question:
            question.border_title = Text(self._title)
            with VerticalScroll(id="asked", can_focus=False):
                yield Static(self._question, markup=False)
            with Horizontal(id="answers"):
                yield Button(f"{self._no} (n)", id="no", compact=True)
                yield Button(f"{self._yes} (y)", id="yes", variant="error", compact=True)
        yield Keys()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss(event.button.id == "yes")

    def action_answer(self, confirmed: bool) -> None:
        self.dismiss(confirmed)


class ConfirmCancel(YesNo):
    def __init__(self, job: JobView, now: float) -> None:
        super().__init__(
            f"cancel {clean(job.id, limit=80)}?",
            _question(job, now),
            no="No, let it go on",
            yes="Yes, cancel it",
        )


class ConfirmOdd(YesNo):
    """Before a job begins about whose plan something is `odd`, a sentence for each."""

    def __init__(self, odd: Sequence[str]) -> None:
        text = Text("\n").join(Text(f"- {clean(each, limit=400)}") for each in odd)
        super().__init__(
            "start it all the same?", text, no="No, back to the form", yes="Yes, start it"
        )


class ConfirmKill(ModalScreen[bool]):
    """Answers True only to the job's name, typed."""

    CSS_PATH = "confirm.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "Let it go on", id="kill.no", tooltip="Leave it as it is"),
    ]  # fmt: skip

    def __init__(self, job: JobView, now: float) -> None:
        super().__init__()
        self._job = job
        self._now = now
        self._name = clean(job.name, limit=80) or clean(job.id, limit=80)

    def compose(self) -> ComposeResult:
        with Vertical(id="question") as question:
            question.border_title = Text(f"kill {clean(self._job.id, limit=80)} at once?")
            yield Static(_kill_question(self._job, self._now), markup=False)
            yield Static(f"Type {self._name} and press enter, or esc to leave it.", markup=False)
            yield Input(compact=True)
        yield Keys()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip() in (self._name, self._job.id):
            self.dismiss(True)
        else:
            self.query_one(Input).value = ""

    def action_give_up(self) -> None:
        self.dismiss(False)


def _kill_question(job: JobView, now: float) -> Text:
    text = _standing(job, now)
    text.append("\n\nIts processes end now, without a checkpoint: what was learnt since the last "
                "one is lost. Kept: older checkpoints and logs.\n")  # fmt: skip
    return text


def _standing(job: JobView, now: float) -> Text:
    """Which job it is, how old and how far."""
    text = Text()
    text.append(clean(job.name, limit=80) or clean(job.id, limit=80), style="bold")
    begun = job.started_at or job.created_at
    text.append(f"\n{job.state.value}, ")
    text.append(
        f"started {age(now - begun)} ago" if job.started_at else f"made {age(now - begun)} ago"
    )
    if job.samples_total:
        text.append(f", {job.samples_done:,} of {job.samples_total:,} samples ({job.progress:.0%})")
    if job.eta_s is not None:
        text.append(f", {format_duration(job.eta_s)} to go")
    return text


def _question(job: JobView, now: float) -> Text:
    text = _standing(job, now)
    if job.state is JobState.QUEUED or not job.samples_done:
        text.append("\n\nNothing was learnt yet, so nothing is lost. Its log is kept.")
    elif job.state is JobState.PAUSED:
        text.append("\n\nNothing of it runs. Kept: its checkpoint and logs.")
    else:
        text.append("\n\nIt finishes its step and saves a checkpoint before it stops."
                    "\nKept: checkpoints and logs. Its hosts are free afterwards.")  # fmt: skip
    return text
