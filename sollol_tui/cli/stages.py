"""Prints what a job is busy with before it trains: on a terminal one line per host, redrawn with a
bar; elsewhere a line for each new thing, and now and then how far a transfer is."""

import re
import shutil
import sys
import time
from typing import Final

import click

from sollol_tui.model.text import clean

_TRANSFER: Final = re.compile(
    r"(?P<host>[^:]+): (?P<what>[^:]+): (?P<percent>\d{1,3})% (?P<rest>.*)"
)
_LINE_EVERY_S: Final = 10.0
_BAR: Final = 18


class Stages:
    """Takes stages as they come; `settle` before anything else is printed."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._bars: dict[str, str] = {}
        self._printed_at: dict[tuple[str, str], float] = {}
        self._stage = ""

    def show(self, stage: str) -> None:
        if not stage or stage == self._stage:
            return
        self._stage = stage
        transfer = _TRANSFER.fullmatch(clean(stage))
        if transfer is None:
            self.settle()
            click.echo(f"  {clean(stage)}")
        elif self._is_terminal:
            self._draw(transfer)
        else:
            self._print_sometimes(transfer)

    def settle(self) -> None:
        """What was drawn stays as it is."""
        self._bars.clear()

    def _draw(self, transfer: re.Match[str]) -> None:
        drawn = len(self._bars)
        filled = _BAR * min(int(transfer["percent"]), 100) // 100
        bar = "#" * filled + "." * (_BAR - filled)
        self._bars[transfer["host"]] = (
            f"  {transfer['host']}  {bar} {transfer['percent']:>3}% "
            f"{transfer['what']} {transfer['rest']}"
        )
        width = shutil.get_terminal_size().columns - 1
        above = f"\x1b[{drawn}F\x1b[J" if drawn else ""
        click.echo(above + "\n".join(line[:width] for line in self._bars.values()))

    def _print_sometimes(self, transfer: re.Match[str]) -> None:
        key, now = (transfer["host"], transfer["what"]), time.monotonic()
        if now - self._printed_at.get(key, -_LINE_EVERY_S) >= _LINE_EVERY_S:
            self._printed_at[key] = now
            click.echo(f"  {clean(self._stage)}")
