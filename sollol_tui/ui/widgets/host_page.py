"""The page of one host: its devices, what it does for us, and what the doctor or provisioning says
of it now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    host_reason,
    host_tone,
    progress_bar,
    teacher_words,
)
from sollol_tui.model.diagnosis import Check, Outcome, Stage
from sollol_tui.model.snapshot import GpuReading, HostView, JobView
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes, format_usage
from sollol_tui.ui.theme import tone_style

if TYPE_CHECKING:
    from sollol_tui.hosts.steps import Step

NO_HOST = "the page of the host under the cursor appears here"
_MARKS = {
    Outcome.OK: ("[x]", Tone.GOOD),
    Outcome.WARNING: ("[!]", Tone.BUSY),
    Outcome.FAILED: ("[-]", Tone.BAD),
    Outcome.SKIPPED: ("[ ]", Tone.MUTED),
}
_STEPS = ("workdir", "payload", "python", "environment", "selfcheck")  # uv, wheels where needed
_BUSY = ("checking", "working")
_BAR_WIDTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done about a host: `title` names it. The doctor makes `checks`; provisioning `steps`,
    which map names to how far each has come."""

    title: str
    is_doctor: bool = False
    checks: Sequence[Check] = ()
    steps: Mapping[str, "Step"] = field(default_factory=dict)
    problem: str = ""
    is_busy: bool = True

    @property
    def counted(self) -> tuple[int, int]:
        """How many checks or steps are behind it, and of how many."""
        if self.is_doctor:
            return len(self.checks), len(Stage)
        names = dict.fromkeys((*_STEPS, *self.steps))
        done = [n for n in names if n in self.steps and self.steps[n].state not in _BUSY]
        return len(done), len(names)

    @property
    def fraction(self) -> float:
        """How much of it is done, of 1: of a step whose size is known the part that is."""
        if not self.is_busy:
            return 1.0
        done, count = self.counted
        part = self.at.fraction if self.at is not None and self.at.state in _BUSY else None
        return (done + (part or 0.0)) / count

    @property
    def at(self) -> "Step | None":
        """The step that was heard of last."""
        return None if not self.steps else list(self.steps.values())[-1]

    @property
    def newest(self) -> str:
        """What it has come to last, in a few words."""
        if self.is_doctor:
            return self.checks[-1].stage.value if self.checks else "connecting"
        if self.at is None:
            return "connecting"
        share = "" if self.at.fraction is None else f" {int(100 * self.at.fraction)}%"
        return f"{self.at.name} {self.at.state}{share}"


class HostPage(VerticalScroll):
    """Shows what `show` hands in."""

    can_focus = True

    def compose(self) -> ComposeResult:
        yield Static(NO_HOST, markup=False)

    def on_mount(self) -> None:
        self.border_title = "host"
        self._shown: tuple[object, ...] = ()

    def show(
        self, host: HostView | None, job: JobView | None, works: Mapping[str, Work], now: float
    ) -> None:
        """A host, the job that it works for, and what is done about it and others; None is none."""
        shown = (host, job, dict(works), int(now), self.app.theme)
        if shown == self._shown:
            return
        self._shown = shown
        self.border_title = Text("host" if host is None else f"host {clean(host.name, limit=80)}")
        page = NO_HOST if host is None else self._page(host, job, works, now)
        self.query_one(Static).update(page)

    def _page(
        self, host: HostView, job: JobView | None, works: Mapping[str, Work], now: float
    ) -> RenderableType:
        state = host.state.value
        if reason := host_reason(host, now):
            state += f": {reason}"
        parts: list[RenderableType] = [Text(state, tone_style(self.app, host_tone(host, now)))]
        if host.at is not None:
            parts.append(Text(_figures(host, now)))
        if host.gpus:
            parts += [Text(""), _gpu_table(host.gpus)]
        if duties := list(_duties(host, job)):
            parts += [Text(""), *map(Text, duties)]
        if (work := works.get(host.name)) is not None:
            parts += [Text(""), *self._work(work)]
        others = [name for name, each in works.items() if each.is_busy and name != host.name]
        if others:
            parts += [Text(""), Text("elsewhere", style="bold")]
            parts += [Text(_bar(works[name], clean(name, limit=40))) for name in others]
        return Group(*parts)

    def _work(self, work: Work) -> Iterator[Text]:
        yield Text(work.title, style="bold")
        if work.is_busy:
            yield Text(_bar(work))
        for check in work.checks:
            yield from self._check(check)
        if work.is_doctor and work.is_busy:
            known = {check.stage for check in work.checks}
            muted = tone_style(self.app, Tone.MUTED)
            yield from (Text(f"[ ] {stage}", muted) for stage in Stage if stage not in known)
        for step in work.steps.values():
            mark, tone = ("[ ]", Tone.BUSY) if step.state in _BUSY else ("[x]", Tone.GOOD)
            if step.state in _BUSY and work.problem:
                mark, tone = _MARKS[Outcome.FAILED]
            text = Text(f"{mark} ", tone_style(self.app, tone))
            told = clean(step.progress, limit=200)
            text.append(f"{clean(step.name, limit=40):<12} {step.state:<10}{told}", "none")
            yield text
        if work.problem:
            yield Text(work.problem, tone_style(self.app, Tone.BAD))

    def _check(self, check: Check) -> Iterator[Text]:
        """A line of the checklist, and below it what to do where something is amiss."""
        mark, tone = _MARKS[check.outcome]
        style = tone_style(self.app, tone)
        told = (clean(part, limit=400) for part in (check.found, check.reason) if part)
        yield Text.assemble(
            (f"{mark} ", style),
            f"{check.stage.value:<12} ",
            (f"{check.outcome.value:<8}", style),
            "; ".join(told),
        )
        for sign, advice in (("->", check.remedy), ("fixed:", check.fixed)):
            if advice:
                yield Text(f"{'':26}{sign} {clean(advice, limit=400)}", "bold")


def _bar(work: Work, name: str = "") -> str:
    """ "hydra        ########............  2 of 5  environment working": a percentage of it all
    would be a guess, for steps take seconds or minutes."""
    done, count = work.counted
    label = f"{name:<12} " if name else ""
    return f"{label}{progress_bar(work.fraction, _BAR_WIDTH)}  {done} of {count}  {work.newest}"


def _duties(host: HostView, job: JobView | None) -> Iterator[str]:
    """What it does for us: for a job, as a worker, a teacher or both, and for an adapter."""
    if host.job:
        told = f"works for {clean(host.job, limit=80)}"
        if job is not None and job.id == host.job:
            told += f" {clean(job.name, limit=80)}"
        if host.share is not None:
            told += f", {host.share:.0%} of each step"
        yield told
    teachers = () if job is None else job.teachers
    if teacher := next((each for each in teachers if each.host == host.name), None):
        yield f"its teacher: {teacher_words(teacher)}"
    elif host.errand:
        yield f"busy with {clean(host.errand, limit=200)}"


def _figures(host: HostView, now: float) -> str:
    parts = []
    if host.cpu_percent is not None:
        cores = "" if host.cpu_cores is None else f" of {host.cpu_cores} cores"
        parts.append(f"CPU {host.cpu_percent:.0f}%{cores}")
    parts.append(f"RAM {format_usage(host.ram_used_bytes, host.ram_total_bytes)}")
    if host.disk_free_bytes is not None:
        parts.append(f"{format_bytes(host.disk_free_bytes)} free on its disk")
    if host.at is not None:
        parts.append(f"read {age(now - host.at)} ago")
    return "   ".join(parts)


def _gpu_table(gpus: Sequence[GpuReading]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("GPU", "NAME", "UTIL", "VRAM", "TEMP"):
        table.add_column(title, no_wrap=True)
    for gpu in gpus:
        table.add_row(
            str(gpu.index),
            clean(gpu.name, limit=80),
            NOTHING if gpu.util_percent is None else f"{gpu.util_percent:.0f}%",
            format_usage(gpu.vram_used_bytes, gpu.vram_total_bytes),
            NOTHING if gpu.temp_c is None else f"{gpu.temp_c:.0f}C",
        )
    return table
