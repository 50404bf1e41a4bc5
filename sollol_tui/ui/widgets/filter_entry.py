"""Where a filter is typed; it acts with every letter."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class FilterEntry(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep filter", id="filter.keep", tooltip="Keep the filter"),
        Binding("escape", "screen.back", "Clear filter", id="filter.clear", tooltip="Show all"),
    ]  # fmt: skip
