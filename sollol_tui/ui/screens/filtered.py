"""A view of one table that a filter narrows with every letter typed."""

from abc import abstractmethod
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from sollol_tui.ui.widgets.keyed_table import KeyedTable


class FilteredView(View):
    """Its panes hold one KeyedTable and one FilterEntry."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="rows.filter", key_display="/",
                tooltip="Show only rows with this text; !text, re:pattern, for jobs state:running"),
        Binding("escape", "back", "Clear", id="rows.clear", show=False,
                tooltip="Clear the filter, then back to the table"),
    ]  # fmt: skip

    def on_mount(self) -> None:
        entry = self.query_one(FilterEntry)
        entry.display = False
        entry.value = self.sollol.kept_filter(self.NAME)  # which is shown in the title

    @property
    def filter_text(self) -> str:
        return self.query_one(FilterEntry).value

    @property
    def table(self) -> KeyedTable:
        return self.query_one(KeyedTable)

    @abstractmethod
    def show_only(self, text: str) -> None:
        """Narrows the table to what was typed."""

    def action_filter(self) -> None:
        entry = self.query_one(FilterEntry)
        entry.display = True
        entry.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.show_only(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.table.focus()
        self.query_one(FilterEntry).display = False

    def action_back(self) -> None:
        entry = self.query_one(FilterEntry)
        entry.value = ""
        self.table.focus()
        entry.display = False
