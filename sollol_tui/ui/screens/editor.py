"""Editors of the inventory and of a job file: what is wrong is said while one types, with its line
marked. Only what is right is taken, and a file is written only after its changes were shown."""

import asyncio
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea
from textual.worker import WorkType

from sollol_tui.editor import edited
from sollol_tui.model.columns import Tone
from sollol_tui.model.errors import InputError, Problem, SollolError
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.job_file import parse_job_file
from sollol_tui.model.text import clean
from sollol_tui.ui.screens.diff import ConfirmDiff
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.keys import Keys
from sollol_tui.ui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_QUIET_S: Final = 0.25  # without a key
_LISTED: Final = 3  # problems below the text


class Editor(ModalScreen[str | None]):
    """Answers with the text that was taken; None when it was left."""

    CSS_PATH = "editor.tcss"
    AUTO_FOCUS = "YamlArea"
    NAME: ClassVar[str]  # of the file in problems, and for an editor elsewhere
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", id="edit.save", priority=True,
                tooltip="Take the text, once nothing in it is wrong; a file after its changes"),
        Binding("f8", "next_problem", "Next problem", id="edit.problem",
                tooltip="To the next line in which something is wrong"),
        Binding("f4", "edit_elsewhere", "$EDITOR", id="edit.elsewhere",
                tooltip="The same text in the editor that $EDITOR names"),
        Binding("f1", "app.help", "Help", id="edit.help", show=False,
                tooltip="The keys of this editor"),
        Binding("escape", "leave", "Leave", id="edit.leave", key_display="esc", priority=True,
                tooltip="Leave and change nothing; twice when something was changed"),
    ]  # fmt: skip

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._old = text
        self._problems: tuple[Problem, ...] = ()
        self._may_leave = False

    def compose(self) -> ComposeResult:
        with Vertical(id="editor") as pane:
            pane.border_title = Text(clean(self._title))
            yield YamlArea(self._old)
            yield Static("", id="problems", markup=False)
        yield Keys()

    def on_mount(self) -> None:
        self._look()

    @property
    def _area(self) -> YamlArea:
        return self.query_one(YamlArea)

    @property
    def text(self) -> str:
        return self._area.text

    @abstractmethod
    def check(self, text: str) -> str:
        """What the text means, in a few words. Raises InputError with what is wrong."""

    @abstractmethod
    async def take(self, text: str) -> None:
        """Does with a good text what it was written for."""

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._may_leave = False
        self._look()

    def _look(self) -> None:
        work: WorkType[None] = self._judge
        self.run_worker(work, group="judge", exclusive=True, exit_on_error=False)

    async def _judge(self) -> None:
        await asyncio.sleep(_QUIET_S)
        await self._is_good(self.text)

    async def _is_good(self, text: str) -> bool:
        """Says whether the text can be taken, and shows what is wrong with it or what it means."""
        try:
            told = await asyncio.to_thread(self.check, text)
        except InputError as error:
            self._problems = error.problems
            self._show(self._told_problems(), Tone.BAD)
        except Exception as error:  # a defect of ours in a check takes nobody's text away
            self._problems = ()
            self._show([str(error) or type(error).__name__], Tone.BAD)
            return False
        else:
            self._problems = ()
            changes = "" if text != self._old else ", nothing changed"
            self._show([f"{told}{changes}"], Tone.GOOD)
        self._area.mark({problem.line for problem in self._problems})
        return not self._problems

    def _told_problems(self) -> list[str]:
        lines = []
        for problem in self._problems[:_LISTED]:
            place = f"line {problem.line}:{problem.column}  " if problem.line else ""
            lines.append(f"{place}{problem.message}")
        if more := len(self._problems) - _LISTED:
            lines += [f"and {more} more"] if more > 0 else []
        return lines

    def _show(self, lines: list[str], tone: Tone) -> None:
        text = Text("\n".join(clean(line) for line in lines), tone_style(self.app, tone))
        self.query_one("#problems", Static).update(text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "edit_elsewhere" and self.app.is_web)

    def action_next_problem(self) -> None:
        here = self._area.cursor_location[0] + 1
        lines = sorted({problem.line for problem in self._problems if problem.line})
        if lines:
            line = next((line for line in lines if line > here), lines[0])
            column = next(p.column for p in self._problems if p.line == line)
            self._area.move_cursor((line - 1, max(0, column - 1)))

    def action_edit_elsewhere(self) -> None:
        try:
            text = edited(self.text, self.NAME, meanwhile=self.app.suspend())
        except (SollolError, SuspendNotSupported) as error:
            told = "this terminal can be given to no other program"
            told = clean(str(error)) if isinstance(error, SollolError) else told
            self.notify(told, severity="error", markup=False)
            return
        if text != self.text:
            area = self._area
            area.replace(text, area.document.start, area.document.end)

    def action_leave(self) -> None:
        if self.text == self._old or self._may_leave:
            self.dismiss(None)
        else:
            self._may_leave = True
            self.notify("esc once more leaves what was changed", timeout=3, markup=False)

    def action_save(self) -> None:
        work: WorkType[None] = self._save
        self.run_worker(work, group="save", exclusive=True, exit_on_error=False)

    async def _save(self) -> None:
        text = self.text
        self.workers.cancel_group(self, "judge")
        if await self._is_good(text):
            await self.take(text)
        else:
            self.action_next_problem()


class JobFileEditor(Editor):
    """A job as a file; what it says goes back to where it came from."""

    NAME = "job.yaml"

    def __init__(self, text: str) -> None:
        super().__init__("the job as a file", text)

    def check(self, text: str) -> str:
        parse_job_file(text.encode(errors="replace"), self.NAME)
        return "a good job file"

    async def take(self, text: str) -> None:
        self.dismiss(text)


class InventoryEditor(Editor):
    """The inventory's own file."""

    NAME = "inventory.yaml"

    def __init__(self, client: "SOLLOLClient", path: Path, text: str) -> None:
        super().__init__(str(path), text)
        self._client = client
        self._path = path

    def check(self, text: str) -> str:
        inventory = parse_inventory(text.encode(errors="replace"), self._path.name)
        count = len(inventory.hosts)
        return f"a good inventory of {count} host{'s' * (count != 1)}"

    async def take(self, text: str) -> None:
        if text == self._old:
            self.notify("nothing changed, nothing to write", timeout=3, markup=False)
            return
        question = ConfirmDiff(self._old, text, str(self._path))
        if not await self.app.push_screen_wait(question):
            return
        try:
            await asyncio.to_thread(self._client.write_inventory, text, instead_of=self._old)
        except SollolError as error:
            self.notify(clean(str(error)), title="not written", severity="error", markup=False)
            await self._read_again()
        else:
            self.dismiss(text)

    async def _read_again(self) -> None:
        """What the file says by now is what the next changes are shown against."""
        try:
            self._old = await asyncio.to_thread(self._client.inventory_text)
        except SollolError:
            return  # which writing says as well
