"""Bars on the terminal of stderr, one line for each thing that goes on, drawn in place. Where no
terminal is, with -q, and beside --json nothing is drawn. Never touches stdout."""

import os
import sys
import time
from typing import Final

import click
from rich.cells import set_cell_size

from sollol_tui.cli.terminal import has_colour, is_quiet, stderr_width

_FILLED: Final = 18  # characters of a whole bar
_SHORT: Final = 8  # of one on a narrow terminal
_NARROW: Final = 70
_EVERY_S: Final = 0.1


class Bars:
    """Lines by name, in the order in which they came. `settle` or `clear` before anything else is
    printed."""

    def __init__(self, *, beside_json: bool = False) -> None:
        self.is_drawn = (
            sys.stderr.isatty()
            and not (beside_json or is_quiet())
            and os.environ.get("TERM") != "dumb"
        )
        self._lines: dict[str, tuple[float | None, str]] = {}
        self._drawn = 0
        self._drawn_at = float("-inf")

    def show(self, name: str, fraction: float | None, text: str) -> None:
        """How far something is, from 0 to 1; None where nobody knows."""
        if not self.is_drawn:
            return
        is_news = name not in self._lines or (fraction is not None and fraction >= 1)
        self._lines[name] = (fraction, text)
        now = time.monotonic()
        if is_news or now - self._drawn_at >= _EVERY_S:
            self._drawn_at = now
            self._draw()

    def settle(self) -> None:
        """What was shown stays on the terminal."""
        if self._lines:
            self._draw()
        self._lines.clear()
        self._drawn = 0

    def clear(self) -> None:
        """Nothing of it stays."""
        self._lines.clear()
        self._draw()

    def _draw(self) -> None:
        sys.stdout.flush()  # what was printed before stands above
        width = stderr_width() - 1
        lines = [self._line(name, width) for name in self._lines]
        above = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        if above or lines:
            click.echo(above + "".join(f"{line}\n" for line in lines), nl=False, err=True)
        self._drawn = len(lines)

    def _line(self, name: str, width: int) -> str:
        fraction, text = self._lines[name]
        length = _FILLED if width >= _NARROW else _SHORT
        if fraction is None:
            return set_cell_size(f"  {name}  {text}".rstrip(), width).rstrip()
        share = min(max(fraction, 0.0), 1.0)
        filled = int(length * share)
        bar = "#" * filled + "." * (length - filled)
        head, tail = f"  {name}  ", f" {int(100 * share):>3}% {text}"
        line = set_cell_size(head + bar + tail, width).rstrip()
        if not has_colour(stderr=True) or not line.startswith(head + bar):
            return line
        return head + click.style("#" * filled, fg="cyan") + line[len(head) + filled :]
