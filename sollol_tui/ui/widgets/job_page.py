"""The page of one job: how it stands, how far it is, who computes what, and what is left of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from sollol_tui.model.columns import (
    NOTHING,
    Tone,
    age,
    job_sentence,
    job_tone,
    progress_bar,
    teacher_words,
)
from sollol_tui.model.evidence import Evidence
from sollol_tui.model.metrics import StepPoint, sparkline
from sollol_tui.model.ranking import RANKING_HEAD, Ranked, ranking_cells
from sollol_tui.model.snapshot import HostView, JobView
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_duration, format_rate
from sollol_tui.ui.theme import tone_style
from sollol_tui.ui.widgets.crew_table import crew_table

if TYPE_CHECKING:
    from sollol_tui.ui.widgets.loss_plot import LossPlot

NO_JOB = "the page of the job under the cursor appears here"
_BAR_WIDTHS = (10, 40)
_SCORED_BAR = 12
_LONGEST_LINE = 60
_PLOT_ROWS: Final = 12  # of a plot that says more than the line of blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the ranks of a job have told of themselves so far."""

    job: str
    curve: tuple[tuple[int, float], ...]  # (step, loss)
    evidence: Evidence
    newest: StepPoint | None = None
    ranking: tuple[Ranked, ...] = ()

    @property
    def losses(self) -> list[float]:
        return [loss for _, loss in self.curve]

    @property
    def speeds(self) -> dict[str, float]:
        """Samples a second of each host, as measured last."""
        speeds: dict[str, float] = {}
        for rank in () if self.evidence.speed is None else self.evidence.speed.ranks:
            speeds[rank.host] = speeds.get(rank.host, 0.0) + rank.samples_per_s
        return speeds


class JobPage(VerticalScroll):
    """Shows what `show` hands in, and the loss as a plot where rows are left for it."""

    can_focus = True

    def compose(self) -> ComposeResult:
        yield Static(NO_JOB, markup=False)

    def on_mount(self) -> None:
        self._shown: tuple[object, ...] = ()
        self._curve: tuple[tuple[int, float], ...] = ()
        self._plot: LossPlot | None = None
        self._drawn: tuple[object, ...] = ()
        self.border_title = "job"

    def show(
        self,
        job: JobView | None,
        hosts: Sequence[HostView],
        now: float,
        proof: Proof | None = None,
    ) -> None:
        """A job, the hosts that work for it and what its ranks say of themselves; None is no job,
        or nothing said yet."""
        if proof is not None and (job is None or proof.job != job.id):
            proof = None
        by_name = {host.name: host for host in hosts}
        busy: list[str] = []
        if job is not None:
            busy += [worker.host for worker in job.workers]
            busy += [teacher.host for teacher in job.teachers]
        figures = tuple(map(by_name.get, busy))
        shown = (job, figures, int(now), self.app.theme, self.size.width, proof)
        if shown == self._shown:
            return
        self._shown = shown
        name = "" if job is None else f" {clean(job.id, limit=80)} {clean(job.name, limit=80)}"
        self.border_title = Text(f"job{name}")
        page = Text(NO_JOB, "dim") if job is None else self._page(job, figures, now, proof)
        self.query_one(Static).update(page)
        self._curve = () if proof is None else proof.curve
        self.call_after_refresh(self._draw_plot)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw_plot)

    def _draw_plot(self) -> None:
        """In the rows that the sentences leave, if those are enough."""
        rows = self.scrollable_content_region.height - self.query_one(Static).outer_size.height
        fits = len(self._curve) > 1 and rows >= _PLOT_ROWS
        if self._plot is not None:
            self._plot.display = fits
        if not fits or self._drawn == (self._curve, self.size):
            return
        # Late: what draws curves takes longer to load than the first screen.
        from sollol_tui.ui.widgets.loss_plot import Curve, LossPlot

        if self._plot is None:
            self._plot = LossPlot()
            self.mount(self._plot)
        self._drawn = (self._curve, self.size)
        self._plot.show([Curve(label="loss", points=self._curve)])

    def _page(
        self,
        job: JobView,
        figures: Sequence[HostView | None],
        now: float,
        proof: Proof | None,
    ) -> RenderableType:
        parts: list[RenderableType] = [
            Text(job_sentence(job, now), tone_style(self.app, job_tone(job)))
        ]
        if job.samples_total:
            parts.append(Text(_progress(job, self._room)))
        parts.append(
            Text(_in_lines(_times(job, now), self._room), tone_style(self.app, Tone.MUTED))
        )
        if job.workers and not job.state.is_terminal:
            there = {host.name: host for host in figures if host is not None}
            speeds = {} if proof is None else proof.speeds
            parts += [Text(""), crew_table(job, there, speeds, now, self._room)]
        if (facts := self._facts(job, proof)).row_count:
            parts += [Text(""), facts]
        if proof is not None and proof.ranking:
            parts += [Text(""), self._ranking(proof.ranking)]
        if job.traceback:
            lines = [Text(line) for line in clean_lines(job.traceback)]
            parts += [Text(""), *lines]
        return Group(*parts)

    @property
    def _room(self) -> int:
        return self.scrollable_content_region.width

    def _ranking(self, ranked: Sequence[Ranked]) -> Table:
        """Students who learn apart, the best first."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for title in RANKING_HEAD[:-1]:
            table.add_column(title, no_wrap=True)
        table.add_column(RANKING_HEAD[-1])  # the settings fold
        best = tone_style(self.app, Tone.GOOD)
        for place, cells in enumerate(ranking_cells(ranked)):
            is_best = place == 0 and ranked[0].loss is not None
            table.add_row(*map(Text, cells), style=best if is_best else None)
        return table

    def _facts(self, job: JobView, proof: Proof | None) -> Table:
        """How far its teacher is, the loss as a line of blocks and what it is made of, and the
        sentences of the evidence."""
        table = Table.grid(padding=(0, 2))
        for teacher in job.teachers:
            part = teacher.done / teacher.total if teacher.total else 0.0
            bar = f"{part:4.0%} {progress_bar(part, _SCORED_BAR)}  " if teacher.total else ""
            told = f"{bar}{clean(teacher.host, limit=80)} {teacher_words(teacher)}"
            table.add_row("teacher", Text(told))
        if proof is None:
            return table
        if len(proof.losses) > 1:
            width = min(_LONGEST_LINE, max(20, self.size.width - 40))
            ends = f"{proof.losses[0]:.3f} -> {proof.losses[-1]:.3f}"
            table.add_row("loss", f"{sparkline(proof.losses, width)}  {ends}")
        if (point := proof.newest) is not None and None not in (point.ce, point.kl):
            table.add_row(
                "of it", f"cross-entropy {point.ce:.3f}, divergence from the teacher {point.kl:.3f}"
            )
        for name, sentence in proof.evidence.facts():
            table.add_row(name, Text(sentence))
        return table


def _progress(job: JobView, width: int) -> str:
    """The bar gets the room that the figures leave it."""
    facts = [f"{job.samples_done:,} of {job.samples_total:,} samples"]
    if not job.state.is_terminal:
        facts.append(format_rate(job.samples_per_s))
        if job.eta_s is not None:
            facts.append(f"{format_duration(job.eta_s)} to go")
    facts = [fact for fact in facts if fact != NOTHING]
    # Rounded down as in the table: all is done only when all is.
    part = f"{int(job.progress * 100)}% "
    least, most = _BAR_WIDTHS
    bar_width = min(most, max(least, width - len(part) - sum(len(fact) + 3 for fact in facts)))
    return _in_lines([f"{part}{progress_bar(job.progress, bar_width)}", *facts], width)


def _times(job: JobView, now: float) -> list[str]:
    facts = [f"made {age(now - job.created_at)} ago"]
    if job.started_at is not None:
        end = now if job.ended_at is None else job.ended_at
        facts.append(f"ran {format_duration(end - job.started_at)}")
    if job.model:
        facts.append(f"model {clean(job.model, limit=200)}")
    if job.dataset:
        facts.append(f"data {clean(job.dataset, limit=200)}")
    return facts


def _in_lines(facts: Sequence[str], width: int) -> str:
    """Facts beside each other as far as they go; none is broken that fits a line."""
    lines = [""]
    for fact in facts:
        longer = f"{lines[-1]}   {fact}" if lines[-1] else fact
        if lines[-1] and cell_len(longer) > width:
            lines.append(fact)
        else:
            lines[-1] = longer
    return "\n".join(lines)
