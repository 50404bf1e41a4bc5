"""What is done about one host, the doctor or provisioning: how far it is, and a line for each check
and step of it. Does nothing itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import App

from sollol_tui.model.columns import Tone, progress_bar
from sollol_tui.model.diagnosis import Check, Outcome, Stage, worst
from sollol_tui.model.text import clean
from sollol_tui.ui.theme import tone_style

if TYPE_CHECKING:
    from sollol_tui.hosts.steps import Step

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


def work_lines(app: App[object], work: Work) -> Iterator[RenderableType]:
    """Its title, how far it is, and a checklist whose long lines stay in their column."""
    yield Text(work.title, style="bold")
    if work.is_busy:
        yield Text(_bar(work))
    table = Table.grid(padding=(0, 1))
    for least in (3, 12, 7):
        table.add_column(no_wrap=True, min_width=least)
    table.add_column()
    for check in work.checks:
        _add_check(app, table, check)
    if work.is_doctor and work.is_busy:
        known = {check.stage for check in work.checks}
        for stage in Stage:
            if stage not in known:
                table.add_row("[ ]", stage.value, "", "", style=tone_style(app, Tone.MUTED))
    for step in work.steps.values():
        state, mark, tone = step.state.value, "[x]", Tone.GOOD
        if step.state in _BUSY and work.problem:
            state, (mark, tone) = "failed", _MARKS[Outcome.FAILED]
        elif step.state in _BUSY:
            mark, tone = "[ ]", Tone.BUSY
        told = Text(clean(step.progress, limit=200))
        name = Text(clean(step.name, limit=40))
        table.add_row(Text(mark, tone_style(app, tone)), name, state, told)
    if table.row_count:
        yield table
    if work.problem:
        yield Text(work.problem, tone_style(app, Tone.BAD))


def work_line(app: App[object], name: str, work: Work) -> Text:
    """One line for a host that one does not look at, also of what has ended there."""
    label = f"{clean(name, limit=40):<12} "
    if work.is_busy:
        return Text(f"[ ] {label}{_bar(work)}")
    mark, tone = _MARKS[Outcome.FAILED if work.problem else worst(work.checks)]
    return Text.assemble((f"{mark} ", tone_style(app, tone)), label, work.title)


def _add_check(app: App[object], table: Table, check: Check) -> None:
    """A line of the checklist, and below it what to do where something is amiss."""
    mark, tone = _MARKS[check.outcome]
    style = tone_style(app, tone)
    told = "; ".join(clean(part, limit=400) for part in (check.found, check.reason) if part)
    table.add_row(
        Text(mark, style), check.stage.value, Text(check.outcome.value, style), Text(told)
    )
    for sign, advice in (("->", check.remedy), ("fixed:", check.fixed)):
        if advice:
            table.add_row("", "", "", Text(f"{sign} {clean(advice, limit=400)}", "bold"))


def _bar(work: Work) -> str:
    """ "########............  2 of 5  environment working": of it all a percentage would be a
    guess, for steps take seconds or minutes."""
    done, count = work.counted
    return f"{progress_bar(work.fraction, _BAR_WIDTH)}  {done} of {count}  {work.newest}"
