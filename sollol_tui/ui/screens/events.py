"""What happened and why, newest first: of the job one looks at, or of all."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, Final

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from sollol_tui.model.columns import EVENT_COLUMNS, Tone
from sollol_tui.model.happenings import Happening, occasion
from sollol_tui.model.snapshot import JobView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.ui.log_filter import EVERYTHING, parse_filter
from sollol_tui.ui.reading import Reading
from sollol_tui.ui.screens.filtered import FilteredView
from sollol_tui.ui.widgets.filter_entry import FilterEntry
from sollol_tui.ui.widgets.keyed_table import KeyedTable, Row

_MOST: Final = 1000  # of the newest
NOTHING_YET = "nothing has happened yet - a begins a new job"
NONE_ADMITTED = "no event passes the filter - esc clears it"
_TONES: Final = {None: Tone.PLAIN, "done": Tone.GOOD}  # of an occasion; of all others bad


class Events(FilteredView):
    NAME = "events"
    CSS_PATH = ["view.tcss", "events.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#events-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "job(-1)", "Job before", id="events.before", show=False,
                key_display="[", tooltip="The events of the job before this one"),
        Binding("right_square_bracket", "job(1)", "Next job", id="events.next", show=False,
                key_display="]", tooltip="The events of the next job"),
        Binding("y", "copy", "Copy event", id="events.copy", show=False,
                tooltip="Copy what the event under the cursor says"),
        Binding("o", "scope", "This job/all", id="events.scope",
                tooltip="The events of the job one looks at, or of all jobs"),
    ]  # fmt: skip

    def panes(self) -> Iterable[Widget]:
        with Vertical(id="happenings"):
            yield KeyedTable(id="events-table")
            yield Static(NOTHING_YET, classes="empty", markup=False)
            yield Static("", id="whole", markup=False)
        yield FilterEntry(placeholder="text, !text or re:pattern", compact=True)

    def on_mount(self) -> None:
        self._of_all = False
        self._filter = EVERYTHING
        self._happened: Sequence[Happening] = ()
        self._reading = Reading(self, self._read, self._show, self._fail)

    @property
    def job(self) -> JobView | None:
        """Among the events of all jobs the one of which the event under the cursor tells."""
        if not self._of_all:
            return super().job
        found = self._under_cursor
        return None if found is None else self.find_job(found.job)

    @property
    def _under_cursor(self) -> Happening | None:
        key = self.table.key_under_cursor
        return next((each for each in self._happened if each.key == key), None)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        self._reading.want()

    def _read(self) -> Sequence[Happening]:
        job = None if self._of_all else self.job_id
        return self._client.timeline(job)[-_MOST:][::-1]

    def _show(self, happened: Sequence[Happening]) -> None:
        self._happened = happened
        self._fill()

    def _fail(self, sentence: str) -> None:
        self._title(f"cannot be read: {sentence}")

    def _title(self, note: str = "") -> None:
        whose = "all jobs" if self._of_all or self.job_id is None else clean(self.job_id, limit=80)
        only = f" - only {clean(self._filter.text)}" if self._filter.text else ""
        more = f" - {note}" if note else ""
        self.query_one("#happenings").border_title = Text(f"events of {whose}{only}{more}")

    def _fill(self) -> None:
        table = self.table
        is_at_top = table.cursor_row <= 0
        rows = [
            row for row in map(_row, self._happened) if self._filter.admits(" ".join(row.cells))
        ]
        self.query_one("#happenings").set_class(not rows, "-empty")
        self.query_one(".empty", Static).update(NONE_ADMITTED if self._happened else NOTHING_YET)
        table.show_rows(EVENT_COLUMNS, rows)
        if is_at_top and rows:
            table.move_cursor(row=0)
        self._title()
        self._say_whole()

    def _say_whole(self) -> None:
        """The sentence under the cursor, in full."""
        found = self._under_cursor
        self.judge_actions()
        self.query_one("#whole", Static).update("" if found is None else Text(found.sentence))

    def on_keyed_table_cursor_moved(self, message: KeyedTable.CursorMoved) -> None:
        self._say_whole()

    def on_keyed_table_opened(self, message: KeyedTable.Opened) -> None:
        """Enter looks at the log of the event's job."""
        if (found := self._under_cursor) is not None:
            self.sollol.job_id = found.job
            self.sollol.action_view("logs")

    @property
    def command(self) -> tuple[str, ...]:
        words = ("sollol", "events")
        return words if self._of_all or self.job_id is None else (*words, self.job_id)

    @property
    def key_to_copy(self) -> str | None:
        return None if (found := self._under_cursor) is None else found.sentence

    def watch_job_id(self) -> None:
        super().watch_job_id()
        if self.is_mounted:
            self._reading.want()

    def action_job(self, places: int) -> None:
        """Also from the events of all jobs to those of one."""
        self._of_all = False
        self.step_job(places)
        self._reading.want()

    def action_scope(self) -> None:
        self._of_all = not self._of_all
        self._reading.want()

    def show_only(self, text: str) -> None:
        try:
            self._filter = parse_filter(text)
        except ValueError as error:
            self._title(clean(str(error)))
        else:
            self._fill()


def _row(happening: Happening) -> Row:
    at = datetime.fromtimestamp(happening.seen_at).astimezone()
    cells = (
        at.strftime("%m-%d %H:%M:%S"),
        clean(happening.job, limit=80),
        clean(happening.host, limit=80) or "-",
        clean(happening.sentence, limit=400),
    )
    tone = _TONES.get(occasion(happening), Tone.BAD)
    return Row(key=happening.key, cells=cells, tones=(Tone.MUTED, Tone.MUTED, Tone.PLAIN, tone))
