"""The figures of a job over time: its loss as a curve, beside another job's where one wants it, and
what its ranks measured of themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rich.table import Table
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from sollol_tui.model.metrics import Series, StepPoint, sparkline, step_series
from sollol_tui.model.snapshot import EvaluationView, Snapshot
from sollol_tui.model.text import clean
from sollol_tui.ui.curves import Curves
from sollol_tui.ui.reading import Reading
from sollol_tui.ui.screens.view import View
from sollol_tui.ui.widgets.jobs_table import NO_JOBS

if TYPE_CHECKING:
    from sollol_tui.model.evidence import Evidence
    from sollol_tui.ui.widgets.loss_plot import Curve

NO_FIGURES = "no step has been told yet - the curve begins with the first one"
_SPARK_WIDTHS: Final = (20, 120)
_GAP: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of a job that the view shows; `other` is the loss of the job beside it."""

    job: str
    points: tuple[StepPoint, ...]
    evaluations: tuple[EvaluationView, ...]
    evidence: "Evidence"
    other_job: str | None = None
    other: tuple[StepPoint, ...] = ()


class Metrics(View):
    NAME = "metrics"
    CSS_PATH = ["view.tcss", "metrics.tcss"]  # noqa: RUF012
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "overlay", "Beside", id="metrics.overlay",
                tooltip="The loss of another job beside this one's; again for the next"),
        Binding("left_square_bracket", "job(-1)", "Job before", id="metrics.before", show=False,
                key_display="[", tooltip="The figures of the job before this one"),
        Binding("right_square_bracket", "job(1)", "Next job", id="metrics.next", show=False,
                key_display="]", tooltip="The figures of the next job"),
    ]  # fmt: skip

    def panes(self) -> Iterable[Widget]:
        # Late: what draws curves takes longer to load than the first screen.
        from sollol_tui.ui.widgets.loss_plot import LossPlot

        with Vertical(id="curves"):
            yield LossPlot()
            yield Static(NO_FIGURES, classes="empty", markup=False)
        yield Static("", id="figures", markup=False)

    def on_mount(self) -> None:
        self._other: str | None = None
        self._curves = Curves(self._client, jobs=2)
        self._shown: Figures | None = None
        self._reading = Reading(self, self._read, self._show, self._fail)

    def take(self, snapshot: Snapshot) -> None:
        super().take(snapshot)
        if self.job_id is None and self.jobs:
            self.job_id = self.jobs[0].id
        self._reading.want()

    def watch_job_id(self) -> None:
        super().watch_job_id()
        if self.is_mounted:
            self._reading.want()

    def _read(self) -> Figures | None:
        job, other = self.job_id, self._other
        if job is None:
            return None
        return Figures(
            job=job,
            points=self._curves.points(job),
            evaluations=self._client.evaluations(job),
            evidence=self._client.evidence(job),
            other_job=other,
            other=() if other is None else self._curves.points(other),
        )

    def _fail(self, sentence: str) -> None:
        self._shown = None  # so that the same figures take the sentence away again
        self.query_one("#curves").border_title = Text(f"metrics cannot be read: {sentence}")

    def _show(self, figures: Figures | None) -> None:
        from sollol_tui.ui.widgets.loss_plot import LossPlot

        pane = self.query_one("#curves")
        if figures is None:
            self._shown = None
            pane.add_class("-empty")
            pane.border_title = "loss"
            self.query_one(".empty", Static).update(NO_JOBS)
            return
        self.query_one(".empty", Static).update(NO_FIGURES)
        if figures == self._shown:
            return
        self._shown = figures
        curves = _curves(figures)
        pane.set_class(not any(curve.points for curve in curves), "-empty")
        names = {job.id: clean(job.name, limit=80) for job in self.jobs}
        beside = f" beside {figures.other_job}" if figures.other_job else ""
        pane.border_title = Text(f"loss of {figures.job} {names.get(figures.job, '')}{beside}")
        self.query_one(LossPlot).show(curves)
        self.query_one("#figures", Static).update(self._table(figures))

    def _table(self, figures: Figures) -> Table:
        rows = [
            (series.name, _figure(series, series.values[-1]), series.values, _range(series))
            for series in step_series(figures.points)
        ]
        least, most = _SPARK_WIDTHS
        texts = sum(max((len(row[at]) + _GAP for row in rows), default=0) for at in (0, 1, 3))
        width = min(most, max(least, self.query_one("#figures").content_size.width - texts))
        table = Table.grid(padding=(0, _GAP))
        for name, figure, values, span in rows:
            table.add_row(name, figure, sparkline(values, width), span)
        facts = Table.grid(padding=(0, _GAP))
        for name, said in _facts(figures):
            facts.add_row(name, Text(said))
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(facts)
        return whole

    def action_overlay(self) -> None:
        """Beside no job, then each of the others in the order of the jobs table."""
        others = [None, *(job.id for job in self.jobs if job.id != self.job_id)]
        at = others.index(self._other) if self._other in others else 0
        self._other = others[(at + 1) % len(others)]
        self._reading.want()

    @property
    def command(self) -> tuple[str, ...]:
        words = ("sollol", "metrics", self.job_id or "JOB")
        return words if self._other is None else (*words, "--compare", self._other)

    def action_job(self, places: int) -> None:
        self.step_job(places)


def _curves(figures: Figures) -> list["Curve"]:
    from sollol_tui.ui.widgets.loss_plot import Curve

    curves = [Curve(label=figures.job, points=_losses(figures.points))]
    if figures.evaluations:
        held_out = tuple((each.step, each.loss) for each in figures.evaluations)
        curves.append(Curve(label=f"{figures.job} held-out", points=held_out))
    if figures.other_job is not None:
        curves.append(Curve(label=figures.other_job, points=_losses(figures.other)))
    return curves


def _losses(points: Sequence[StepPoint]) -> tuple[tuple[int, float], ...]:
    return tuple((point.step, point.loss) for point in points if point.loss is not None)


def _facts(figures: Figures) -> list[tuple[str, str]]:
    held_out = [("held-out", figures.evaluations[-1].sentence)] if figures.evaluations else []
    return held_out + figures.evidence.facts()


def _figure(series: Series, value: float) -> str:
    return f"{value:.{series.digits}f} {series.unit}".strip()


def _range(series: Series) -> str:
    low, high = min(series.values), max(series.values)
    if low == high:
        return "always"
    return f"{low:.{series.digits}f} to {high:.{series.digits}f}"
