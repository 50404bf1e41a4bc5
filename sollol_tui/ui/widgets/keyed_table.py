"""A table whose rows have keys: it changes only the cells that changed, so that cursor and scroll
survive every snapshot. It knows no job and no host."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from sollol_tui.model.columns import GAP, Column, Tone, fit_columns
from sollol_tui.ui.theme import tone_style

_MARK: Final = "* "
_UNMARKED: Final = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    key: str
    cells: tuple[str, ...]
    tones: tuple[Tone, ...]


class KeyedTable(DataTable[Text]):
    """Rows come in by `show_rows`; out go `CursorMoved` and `Opened`, both with the row's key. With
    `marks` rows can be marked, so that one key acts on several."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down,n", "cursor_down", "Down", id="table.down", show=False,
                tooltip="Next row; of a filter the next that passes"),
        Binding("k,up,N", "cursor_up", "Up", id="table.up", show=False, tooltip="Previous row"),
        Binding("ctrl+d", "page(0.5)", "Half down", id="table.half_down", show=False,
                tooltip="Half a page down"),
        Binding("ctrl+u", "page(-0.5)", "Half up", id="table.half_up", show=False,
                tooltip="Half a page up"),
        Binding("space", "mark", "Mark", id="table.mark", show=False,
                tooltip="Mark the row, so that keys act on all that are marked; again unmarks it"),
        Binding("g", "scroll_top", "First", id="table.first", show=False, tooltip="First row"),
        Binding("G", "scroll_bottom", "Last", id="table.last", show=False, tooltip="Last row"),
        Binding("enter", "select_cursor", "Read log", id="table.open", show=False,
                tooltip="Into the log of this job, or of this host's job"),
        Binding("C", "choose_columns", "Columns", id="table.columns", show=False,
                tooltip="Which columns this table shows"),
    ]  # fmt: skip

    @dataclass
    class CursorMoved(Message):
        table: "KeyedTable"
        key: str | None

    @dataclass
    class Opened(Message):
        table: "KeyedTable"
        key: str

    @dataclass
    class ColumnsWanted(Message):
        """Somebody wants to choose among these."""

        table: "KeyedTable"
        columns: tuple[Column, ...]

    @dataclass
    class Marked(Message):
        """A mark came or went."""

        table: "KeyedTable"

    def __init__(self, *, id: str, marks: bool = False) -> None:  # noqa: A002
        super().__init__(cursor_type="row", cell_padding=GAP // 2, id=id)
        self._marks = marks
        self._marked: frozenset[str] = frozenset()
        self._all_columns: tuple[Column, ...] = ()
        self._rows: tuple[Row, ...] = ()
        self._widths: tuple[int, ...] = ()
        self._hidden: frozenset[str] = frozenset()
        self._fitted_to = 0
        self._reported: str | None = None

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._rebuild())

    @property
    def key_under_cursor(self) -> str | None:
        return self._rows[self.cursor_row].key if 0 <= self.cursor_row < len(self._rows) else None

    @property
    def marked(self) -> tuple[str, ...]:
        """Keys of the rows that are marked and shown, in their order."""
        return tuple(row.key for row in self._rows if row.key in self._marked)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Keys of the rows that a key acts on: those that are marked, else the one under the
        cursor."""
        here = self.key_under_cursor
        return self.marked or (() if here is None else (here,))

    def unmark(self) -> None:
        """Leaves no row marked."""
        if self._marked:
            self._marked = frozenset()
            self._rebuild()
            self.post_message(self.Marked(self))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._marks if action == "mark" else True

    @property
    def title(self) -> str:
        """What its rows are."""
        return (self.id or "").removesuffix("-table")

    def hide(self, columns: frozenset[str]) -> None:
        """Does without the columns with these keys, until it is told otherwise."""
        if columns != self._hidden:
            self._hidden = columns
            self._widths = ()
            if self._all_columns:
                self.show_rows(self._all_columns, self._rows)

    def move_to(self, key: str) -> bool:
        """Puts the cursor on a row; False when there is no such row."""
        for index, row in enumerate(self._rows):
            if row.key == key:
                self.move_cursor(row=index)
                return True
        return False

    def show_rows(self, columns: tuple[Column, ...], rows: Sequence[Row]) -> None:
        """Makes these the rows, in this order, in those of the columns that have room."""
        old, self._rows = self._rows, tuple(rows)
        if [column.key for column in columns] != [column.key for column in self._all_columns]:
            self._widths = ()
        self._all_columns = columns
        widths = self._fit()
        if widths != self._widths or [row.key for row in old] != [row.key for row in rows]:
            self._widths = widths
            self._rebuild(old)
        else:
            self._update_cells(old)
        # In its own turn: what is posted while a parent hands data down does not bubble up to it.
        self.call_later(self._report_cursor)

    def _fit(self) -> tuple[int, ...]:
        # Each column has GAP / 2 blanks on both sides, so the table is one GAP wider than the text.
        room = self.scrollable_content_region.width - GAP
        wanted = [
            at
            for at, each in enumerate(self._all_columns)
            if each.key not in self._hidden or not at
        ]
        cells = [[row.cells[at] for at in wanted] for row in self._rows]
        if self._marked:
            cells = [[f"{_MARK}{first}", *rest] for first, *rest in cells]
        widths = fit_columns([self._all_columns[at] for at in wanted], cells, room)
        by_place = dict(zip(wanted, widths, strict=True))
        fitted = tuple(by_place.get(at, 0) for at in range(len(self._all_columns)))
        same = self._fitted_to == room and [w > 0 for w in fitted] == [w > 0 for w in self._widths]
        self._fitted_to = room
        # A column that could be narrower keeps its width: a table that jumps cannot be read.
        if same and all(new <= old for new, old in zip(fitted, self._widths, strict=True)):
            return self._widths
        return fitted

    def _shown(self) -> list[tuple[int, Column, int]]:
        return [
            (at, column, width)
            for at, (column, width) in enumerate(zip(self._all_columns, self._widths, strict=True))
            if width
        ]

    def _update_cells(self, old: Sequence[Row]) -> None:
        shown = self._shown()
        for before, row in zip(old, self._rows, strict=True):
            if before == row:
                continue
            for at, column, width in shown:
                if (before.cells[at], before.tones[at]) != (row.cells[at], row.tones[at]):
                    self.update_cell(row.key, column.key, self._text(row, at, width))

    def _rebuild(self, old: Sequence[Row] | None = None) -> None:
        """Fills the table anew, the cursor on the row it was on and the scroll where it was."""
        if not self._widths:
            return
        rows_before = self._rows if old is None else old
        cursor, scroll_y = self.cursor_row, self.scroll_y
        key = rows_before[cursor].key if 0 <= cursor < len(rows_before) else None
        shown = self._shown()
        self.clear(columns=True)
        for _, column, width in shown:
            self.add_column(Text(column.title), width=width, key=column.key)
        for row in self._rows:
            self.add_row(*(self._text(row, at, width) for at, _, width in shown), key=row.key)
        places = {row.key: index for index, row in enumerate(self._rows)}
        self.move_cursor(row=places.get(key or "", min(cursor, len(self._rows) - 1)), scroll=False)
        self.scroll_to(y=scroll_y, animate=False, force=True)

    def _text(self, row: Row, at: int, width: int) -> Text:
        # Marked is said by a sign, never by colour alone; a row that is not keeps its place.
        sign = "" if at or not self._marked else _MARK if row.key in self._marked else _UNMARKED
        text = Text(
            f"{sign}{row.cells[at]}", style=tone_style(self.app, row.tones[at]), no_wrap=True
        )
        text.truncate(width, overflow="ellipsis")
        return text

    def _report_cursor(self) -> None:
        if (key := self.key_under_cursor) != self._reported:
            self._reported = key
            self.post_message(self.CursorMoved(self, key))

    def on_resize(self, event: events.Resize) -> None:
        if self._rows:
            self.show_rows(self._all_columns, self._rows)

    def action_page(self, pages: float) -> None:
        step = round(pages * max(2, self.scrollable_content_region.height - 1))
        self.move_cursor(row=max(0, min(len(self._rows) - 1, self.cursor_row + step)))

    def action_mark(self) -> None:
        if (key := self.key_under_cursor) is not None:
            self._marked = frozenset(self.marked) ^ {key}
            self._widths = ()
            self.show_rows(self._all_columns, self._rows)
            self.action_cursor_down()
            self.post_message(self.Marked(self))

    def action_choose_columns(self) -> None:
        if self._all_columns:
            self.post_message(self.ColumnsWanted(self, self._all_columns))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._report_cursor()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if key := self.key_under_cursor:
            self.post_message(self.Opened(self, key))
