"""Tells what a job is busy with before it trains: a line for each new thing, and of what has a
measure a bar on the terminal, or elsewhere now and then how far it is."""

import re
import time
from typing import Final

import click

from sollol_tui.cli.bars import Bars
from sollol_tui.cli.terminal import is_quiet
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.text import clean

_MEASURED: Final = re.compile(
    r"(?P<host>[^:]+): (?P<what>[^:]+): (?P<percent>\d{1,3})% (?P<rest>.*)"
)
_TOKENISED: Final = re.compile(r"\s*(?P<host>\S+): tokenised about (?P<rows>[\d,]+) rows so far")
_LINE_EVERY_S: Final = 10.0


def counted(notice: str, job: JobView, epochs: int) -> str | None:
    """The stage of a worker's notice about how many rows it has tokenised, if it is one."""
    said, rows = _TOKENISED.fullmatch(notice), job.samples_total // max(1, epochs)
    if said is None or not rows:
        return None
    percent = min(99, 100 * int(said["rows"].replace(",", "")) // rows)
    return f"{said['host']}: tokenising: {percent}% {said['rows']} of {rows:,} rows"


def scored(job: JobView) -> list[str]:
    """The stage of each host on which the job's teacher scores now."""
    return [
        f"{each.host}: scoring: {min(99, 100 * each.done // each.total)}% {each.progress}"
        for each in job.teachers
        if each.state == "scoring" and each.total
    ]


class Stages:
    """Takes stages as they come; `settle` before anything else is printed."""

    def __init__(self) -> None:
        self._bars = Bars()
        self._printed: dict[tuple[str, str], tuple[str, float]] = {}  # the line, and when
        self._stage = ""

    def show(self, stage: str) -> None:
        """What the job is busy with now."""
        if stage and stage != self._stage:
            self._stage = stage
            self.show_beside(stage)

    def show_beside(self, stage: str) -> None:
        """What goes on meanwhile: what the job is busy with is no news after it."""
        measured = _MEASURED.fullmatch(clean(stage))
        if measured is None:
            self.settle()
            click.echo(f"  {clean(stage)}")
        elif self._bars.is_drawn:
            self._bars.show(
                measured["host"],
                int(measured["percent"]) / 100,
                f"{measured['what']} {measured['rest']}",
            )
        elif not is_quiet():
            self._print_sometimes(measured, stage)

    def settle(self) -> None:
        """What was drawn stays as it is."""
        self._bars.settle()

    def give_way(self) -> None:
        """Nothing that was drawn stays above what is printed next; news is drawn below that."""
        self._bars.clear()

    def _print_sometimes(self, measured: re.Match[str], stage: str) -> None:
        key, now, told = (measured["host"], measured["what"]), time.monotonic(), clean(stage)
        last, printed_at = self._printed.get(key, ("", -_LINE_EVERY_S))
        if told != last and now - printed_at >= _LINE_EVERY_S:
            self._printed[key] = told, now
            click.echo(f"  {told}")
