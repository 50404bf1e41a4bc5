"""Which columns of a table are shown: a checklist. Decides nothing about their widths."""

from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from sollol_tui.model.columns import Column
from sollol_tui.ui.widgets.checklist import Checklist
from sollol_tui.ui.widgets.keys import Keys


class ChooseColumns(ModalScreen[frozenset[str] | None]):
    """Answers with the keys of those that are not wanted; None when it was left. The first column
    names the row, so it stays."""

    CSS_PATH = "ticking.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "Show the ticked", id="columns.accept", priority=True,
                tooltip="Show the ticked columns, as far as there is room, now and next time"),
        Binding("escape,q", "give_up", "Leave", id="columns.give_up", key_display="esc",
                tooltip="Leave the columns as they are"),
    ]  # fmt: skip

    def __init__(self, table: str, columns: Sequence[Column], hidden: Collection[str]) -> None:
        super().__init__()
        self._table = table
        self._columns = columns[1:]
        self._hidden = hidden

    def compose(self) -> ComposeResult:
        ticked = [at for at, each in enumerate(self._columns) if each.key not in self._hidden]
        with Vertical(id="question") as question:
            question.border_title = Text(f"columns of {self._table}")
            yield Checklist([column.key for column in self._columns], ticked)
            yield Static("A narrow screen leaves some out all the same.", markup=False)
        yield Keys()

    def action_accept(self) -> None:
        shown = {self._columns[at].key for at in self.query_one(Checklist).ticked}
        self.dismiss(frozenset(each.key for each in self._columns if each.key not in shown))

    def action_give_up(self) -> None:
        self.dismiss(None)
