"""A new job: the form of its settings, and beside it the plan that they would have now, or why they
have none. Nothing starts before ctrl+s, and then only what was checked once more."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus, Paste
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widgets import Input, Static
from textual.worker import WorkType

from sollol_tui.hosts.shell import quote
from sollol_tui.model.columns import Tone
from sollol_tui.model.errors import InputError
from sollol_tui.model.form import file_of_form, form_of_file, spec_of_form
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.text import clean
from sollol_tui.ui.draft_feed import DraftFeed
from sollol_tui.ui.screens.confirm import ConfirmOdd
from sollol_tui.ui.screens.editor import JobFileEditor
from sollol_tui.ui.screens.picker import Entry, Picker, data_files, model_folders
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.draft_pane import DraftPane
from sollol_tui.ui.widgets.form_field import FormField, TextEntry, lines_of
from sollol_tui.ui.widgets.job_form import JobForm
from sollol_tui.ui.widgets.keys import Keys

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_LISTED: Final[Mapping[str, Callable[[Path], list[Entry]]]] = {
    "model": model_folders,
    "dataset": data_files,
}

# While it is submitted:
_NOT_MEANWHILE: Final = ("submit", "pick", "edit_file", "all_fields", "begin_learnt", "ask_anew")


class Launch(ModalScreen[JobView | None]):
    """Answers with the job that was submitted; None when it was left. `typed` is what the form
    begins with."""

    CSS_PATH = "launch.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Start", id="launch.submit", priority=True,
                tooltip="Check everything once more and start the job, or put it into the queue"),
        Binding("ctrl+o", "pick", "Pick", id="launch.pick", priority=True,
                tooltip="Choose the model's folder or the dataset among the files here"),
        Binding("f2", "edit_file", "As a file", id="launch.file",
                tooltip="The same settings as a job file, to change or to paste one"),
        Binding("f3", "all_fields", "All", id="launch.all",
                tooltip="Every setting that a job has, or only the usual ones"),
        Binding("f5", "begin_learnt", "Checkpoint", id="launch.learnt",
                tooltip="Begin with what the job learnt of which this is a clone, at its newest "
                "checkpoint, or anew"),
        Binding("f6", "copy_command", "Copy command", id="launch.command", show=False,
                tooltip="Copy the command line that starts the same job"),
        Binding("pageup", "scroll_draft(-1)", "Plan up", id="launch.up", show=False,
                tooltip="Scroll the plan up"),
        Binding("pagedown", "scroll_draft(1)", "Plan down", id="launch.down",
                key_display="pgdn", tooltip="Scroll the plan down"),
        Binding("ctrl+r", "ask_anew", "Plan anew", id="launch.again", show=False,
                tooltip="Ask the hosts and read the dataset again"),
        # Before the field itself sees them: what is typed right behind, or comes with them in one
        # piece over a slow connection, is for the next field.
        Binding("down,enter", "move(1)", "Next", id="launch.next", show=False, priority=True,
                tooltip="The next field"),
        Binding("up", "move(-1)", "Previous", id="launch.previous", show=False, priority=True,
                tooltip="The field above"),
        Binding("tab", "app.focus_next", "Next", id="launch.tab", show=False, priority=True,
                tooltip="The next field"),
        Binding("shift+tab", "app.focus_previous", "Previous", id="launch.back_tab", show=False,
                priority=True, tooltip="The field before"),
        Binding("f1", "app.help", "Help", id="launch.help", show=False,
                tooltip="The keys of this form"),
        Binding("escape", "leave", "Leave", id="launch.leave", key_display="esc",
                tooltip="Leave without a job; twice when something was typed"),
    ]  # fmt: skip

    phase: reactive[str] = reactive("", bindings=True)  # of what was submitted; "" for nothing

    def __init__(
        self, client: "SOLLOLClient", title: str, typed: Mapping[str, str], *, learnt_by: str = ""
    ) -> None:
        """`learnt_by` is the job at whose newest checkpoint this one may begin."""
        super().__init__()
        self._learnt_by = learnt_by
        self._begins_learnt = False
        self._client = client
        self._title = title
        self._begun_with = typed
        self._may_leave = False
        self._left: FormField | None = None  # where the cursor was when it was submitted

    def compose(self) -> ComposeResult:
        yield Static(Text(clean(self._title)), id="launch-title", markup=False)
        with Container(id="launch"):
            yield JobForm(self._begun_with, id="fields")
            yield DraftPane(id="draft")
        yield Static("", id="about", markup=False)
        yield Keys()

    def on_mount(self) -> None:
        self._feed = DraftFeed(self._client, self, self._draft, self._mark)
        self._plan()

    def on_unmount(self) -> None:
        self._feed.close()

    @property
    def _form(self) -> JobForm:
        return self.query_one(JobForm)

    @property
    def _draft(self) -> DraftPane:
        return self.query_one(DraftPane)

    @property
    def typed(self) -> dict[str, str]:
        """What stands in the form, by key."""
        return self._form.typed

    def on_job_form_changed(self, message: JobForm.Changed) -> None:
        self._plan_changed()

    def _plan_changed(self) -> None:
        self._may_leave = False
        self._plan()

    def _plan(self) -> None:
        self._feed.plan(self.typed, self._resume)

    @property
    def _resume(self) -> str | None:
        """The job at whose newest checkpoint this one is to begin."""
        return self._learnt_by if self._begins_learnt else None

    def _mark(self, problems: Mapping[str, str]) -> None:
        self._form.mark(problems)
        self._say_about()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._say_about()
        self.refresh_bindings()

    def _say_about(self) -> None:
        """What the field is for, and what is wrong with it."""
        entered = self._form.entered
        text = Text()
        if entered is not None:
            text.append(entered.field.about)
            if entered.problem:
                text = Text(clean(entered.problem), tone_style(self.app, Tone.BAD))
        self.query_one("#about", Static).update(text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "begin_learnt" and not self._learnt_by:
            return False
        if not self.is_mounted or (self.phase and action in _NOT_MEANWHILE):
            return None
        if action == "pick":
            entered = self._form.entered
            return True if entered is not None and entered.field.key in _LISTED else None
        return True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_move(1)

    def action_move(self, places: int) -> None:
        self._form.move(places)

    def action_scroll_draft(self, pages: int) -> None:
        self._draft.scroll_relative(y=pages * max(1, self._draft.size.height - 1), animate=False)

    def action_begin_learnt(self) -> None:
        self._begins_learnt = not self._begins_learnt
        where = ", from its newest checkpoint: f5 begins anew" if self._begins_learnt else ""
        self.query_one("#launch-title", Static).update(Text(clean(self._title) + where))
        self._plan()

    def action_copy_command(self) -> None:
        words = ["sollol", "train"]
        if self._begins_learnt:
            words += ["--resume", self._learnt_by]
        words += [word for key, said in self.typed.items() for word in ("--set", f"{key}={said}")]
        command = clean(quote(*words))
        self.app.copy_to_clipboard(command)
        self.notify(f"copied: {command}", markup=False)

    def action_ask_anew(self) -> None:
        self._feed.ask_anew(self.typed, self._resume)

    async def action_all_fields(self) -> None:
        await self._form.turn()
        self._plan_changed()

    async def _fill(self, typed: Mapping[str, str]) -> None:
        await self._form.fill(typed)
        self._plan_changed()

    def action_pick(self) -> None:
        if (entered := self._form.entered) is None or entered.field.key not in _LISTED:
            return

        def picked(path: str | None) -> None:
            if path is not None:
                entered.fill(path)
                self._plan()

        question = f"{entered.field.key}: {entered.field.about}"
        self.app.push_screen(Picker(question, entered.typed, _LISTED[entered.field.key]), picked)

    def action_edit_file(self) -> None:
        def edited(text: str | None) -> None:
            if text is not None:
                self._take_file(text, "the job file")

        self.app.push_screen(JobFileEditor(file_of_form(self.typed)), edited)

    def on_text_entry_file_pasted(self, message: TextEntry.FilePasted) -> None:
        message.stop()
        self._take_file(message.text, "what was pasted")

    def on_paste(self, event: Paste) -> None:
        """Pasted where nothing is typed."""
        if "\n" in (text := lines_of(event.text)):
            self._take_file(text, "what was pasted")

    def _take_file(self, text: str, name: str) -> None:
        """The settings of a job file, in whoever's words, in place of what was typed."""
        try:
            typed = form_of_file(text.encode(errors="replace"), name)
        except InputError as error:
            first, *more = str(error).splitlines()
            told = f"{first}, and {len(more)} more" if more else first
            self.notify(clean(told), title="not taken", severity="error", markup=False)
            return
        self.call_later(self._fill, typed)
        self.notify(f"took {len(typed)} settings of {name}", markup=False)

    def action_leave(self) -> None:
        if self.phase == "checking":
            self.workers.cancel_group(self, "submit")
            self.phase = ""
            self._plan()
        elif self.phase:
            self.notify("it is being submitted", markup=False)
        elif not self._form.is_changed or self._may_leave:
            self.dismiss(None)
        else:
            self._may_leave = True
            self.notify("esc once more leaves what was typed", timeout=3, markup=False)

    def action_submit(self) -> None:
        if not self.phase:
            work: WorkType[None] = partial(self._submit, self.typed)
            self.run_worker(work, group="submit", exit_on_error=False)

    async def _submit(self, typed: Mapping[str, str]) -> None:
        """Asks everything anew, and the person about what is odd, then submits what came of it."""
        self.phase = "checking"
        try:
            spec = await asyncio.to_thread(spec_of_form, typed)
            prepared = await self._client.prepare_job(spec, resume=self._resume)
            if odd := prepared.oddities:
                self._feed.show(prepared)
                if not await self.app.push_screen_wait(ConfirmOdd(odd)):
                    self.phase = ""
                    return
            self.phase = "submitting"
            job = await asyncio.to_thread(self._client.start_job, prepared)
        except Exception as error:  # whatever it is, the form stays and says it
            self._feed.refuse(error, typed)
            self.phase = ""
        else:
            self.dismiss(job)

    def watch_phase(self) -> None:
        """What is being submitted is not changed meanwhile; then the cursor is where it was."""
        if not self.is_mounted:
            return
        if self.phase:
            self._left = self._form.entered or self._left
            self.workers.cancel_group(self, "plan")
            self._draft.grow_old("checking once more, then it starts")
        self.query_one("#fields").disabled = bool(self.phase)
        if not self.phase and self._left is not None:
            self._left.enter()
            self._left = None
