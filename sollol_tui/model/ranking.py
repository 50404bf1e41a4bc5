"""Students who learned apart, the best first, and what is shown of each. Pure; measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sollol_tui.model.text import clean

RANKING_HEAD: Final = ("PLACE", "STUDENT", "HELD-OUT LOSS", "STEP", "SETTINGS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One student: its worker, the held-out loss that it measured last and after which step, what
    of the settings was its own, and where its adapter lies, or will. `loss` is None until it has
    measured one. `away` says what became of a worker that takes part no more, "lost" or "gone": its
    student's last checkpoint rests there, and no adapter comes."""

    host: str
    loss: float | None
    step: int | None
    settings: str
    folder: str
    away: str = ""

    @property
    def sentence(self) -> str:
        loss = "no held-out loss" if self.loss is None else f"held-out loss {self.loss:.4f}"
        return f"{self.host}  {loss}{f'  ({self.settings})' if self.settings else ''}"


def in_order(students: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """The best first, then those without a loss, and last those who are away."""
    return tuple(
        sorted(students, key=lambda each: (each.away != "", each.loss is None, each.loss or 0.0))
    )


def ranking_cells(ranked: Sequence[Ranked]) -> list[tuple[str, ...]]:
    """A row of text for each, below RANKING_HEAD."""
    return [
        (
            str(place) if each.loss is not None and not each.away else "-",
            clean(f"{each.host} ({each.away})" if each.away else each.host, limit=80),
            "-" if each.loss is None else f"{each.loss:.4f}",
            "-" if each.step is None else f"{each.step:,}",
            clean(each.settings, limit=200) or "-",
        )
        for place, each in enumerate(ranked, 1)
    ]


def ranking_lines(ranked: Sequence[Ranked]) -> list[str]:
    """The same as lines of one width; none where nobody is ranked."""
    if not ranked:
        return []
    rows = [RANKING_HEAD, *ranking_cells(ranked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
