"""Chooses a file or a folder of this machine: a path that is typed, and what lies there. It only
looks; what is chosen may be no good, which others say."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.worker import WorkType

from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes
from sollol_tui.ui.widgets.keys import Keys

_MOST: Final = 500  # of a folder; typing narrows it down
_DATA: Final = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`note` says what it is good for, or how large it is."""

    name: str
    is_folder: bool
    note: str = ""
    is_wanted: bool = False


def data_files(folder: Path) -> list[Entry]:
    """Folders, and files of rows in front of all others."""
    return _entries(folder, lambda entry: entry.name.lower().endswith(_DATA), "")


def model_folders(folder: Path) -> list[Entry]:
    """Folders, those that hold a model in front."""
    return _entries(folder, lambda entry: (Path(entry.path) / "config.json").is_file(), "model")


def _entries(
    folder: Path, is_wanted: Callable[["os.DirEntry[str]"], bool], note: str
) -> list[Entry]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            wanted = is_wanted(entry)
            is_folder = entry.is_dir()
            told = note if wanted and note else ""
            if not is_folder and wanted:
                with suppress(OSError):  # a link to nothing
                    told = format_bytes(entry.stat().st_size)
            found.append(Entry(name=entry.name, is_folder=is_folder, note=told, is_wanted=wanted))
    return sorted(
        (entry for entry in found if entry.is_folder or entry.is_wanted),
        key=lambda entry: (not entry.is_wanted, not entry.is_folder, entry.name.lower()),
    )


class Picker(ModalScreen[str | None]):
    """Answers with a path, written as it was begun: from here, from home or whole."""

    CSS_PATH = "picker.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open or take", id="picker.open", priority=True,
                tooltip="Into the folder under the cursor, or take what is under it"),
        Binding("ctrl+s", "take", "Take this path", id="picker.take", priority=True,
                tooltip="Take the path as it is typed, also a folder"),
        Binding("up", "move(-1)", "Up", id="picker.up", show=False, priority=True,
                tooltip="The entry above"),
        Binding("down", "move(1)", "Down", id="picker.down", show=False, priority=True,
                tooltip="The entry below"),
        Binding("escape", "give_up", "Leave", id="picker.give_up", tooltip="Take nothing"),
    ]  # fmt: skip

    def __init__(
        self, question: str, begin: str, list_folder: Callable[[Path], list[Entry]]
    ) -> None:
        super().__init__()
        self._question = question
        # What lies beside a thing that is there is what one wants to see.
        folder, separator, _ = begin.rpartition(os.sep)
        self._begin = folder + separator if begin and _is_there(begin) else begin
        self._list = list_folder
        self._shown: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="picker") as pane:
            pane.border_title = Text(self._question)
            yield Input(clean(self._begin), compact=True, select_on_focus=False)
            yield Static("", id="picker-note", markup=False)
            yield OptionList()
        yield Keys()

    def on_mount(self) -> None:
        self._look_at(self.query_one(Input).value)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look_at(event.value)

    def _look_at(self, typed: str) -> None:
        work: WorkType[None] = partial(self._look, typed)
        self.run_worker(work, group="look", exclusive=True, exit_on_error=False)

    async def _look(self, typed: str) -> None:
        """Lists the folder of what is typed, narrowed to names that begin like its last part."""
        folder, begin = _split(typed)
        try:
            entries = await asyncio.to_thread(self._list, folder)
        except (OSError, ValueError) as error:
            self._show([], f"{folder} cannot be listed: {getattr(error, 'strerror', error)}")
            return
        found = [e for e in entries if e.name.lower().startswith(begin.lower())]
        if not begin:
            found = [entry for entry in found if not entry.name.startswith(".")]
        more = f", the first {_MOST} shown: type to narrow it down" if len(found) > _MOST else ""
        count = len([entry for entry in found if entry.is_wanted])
        note = f"{count:,} of {len(found):,} fit{more}" if found else "nothing here"
        if not begin and folder.parent != folder:
            found.insert(0, Entry(name="..", is_folder=True))
        self._show(found[:_MOST], note)

    def _show(self, entries: list[Entry], note: str) -> None:
        self._shown = entries
        self.query_one("#picker-note", Static).update(Text(clean(note)))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([_line(entry) for entry in entries])
        # A name is being typed: the best fit is under the cursor, not the way up.
        at = 1 if len(entries) > 1 and entries[0].name == ".." else 0
        options.highlighted = at if entries else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_open()

    def action_move(self, lines: int) -> None:
        options = self.query_one(OptionList)
        if lines > 0:
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_open(self) -> None:
        at = self.query_one(OptionList).highlighted
        if at is None:
            self.action_take()
            return
        entry, entered = self._shown[at], self.query_one(Input)
        path = _joined(entered.value, entry.name)
        if entry.is_folder and not entry.is_wanted:
            entered.value = clean(path) + os.sep
            entered.cursor_position = len(entered.value)
        else:
            self.dismiss(path)

    def action_take(self) -> None:
        if typed := self.query_one(Input).value.strip():
            self.dismiss(typed.rstrip(os.sep) or os.sep)

    def action_give_up(self) -> None:
        self.dismiss(None)


def _is_there(typed: str) -> bool:
    try:
        return Path(typed).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def _split(typed: str) -> tuple[Path, str]:
    """The folder of a path that is being typed, and the beginning of a name in it."""
    head, separator, name = typed.rpartition(os.sep)
    return Path(head + separator).expanduser() if separator else Path.cwd(), name


def _joined(typed: str, name: str) -> str:
    head, separator, _ = typed.rpartition(os.sep)
    if name != "..":
        return f"{head}{separator}{name}"
    folder = Path(head + separator).expanduser() if separator else Path.cwd()
    return str(folder.absolute().parent)


def _line(entry: Entry) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(clean(entry.name, limit=200), "bold" if entry.is_wanted else "")
    text.append(os.sep if entry.is_folder else "")
    if entry.note:
        text.append(f"  {entry.note}", "dim")
    return text
