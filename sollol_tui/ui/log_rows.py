"""How a line of a log becomes rows on the screen: whose it is, when it came, folded where it is
long. Pure; decides nothing about which lines are shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from rich.cells import cell_len, chop_cells

BAR: Final = "│"  # between whose line it is and what it says
_FOLD: Final = "  ↪ "  # before what goes on
_LEAST_FOLDED: Final = 20
_STAMP: Final = "%m-%d %H:%M:%S "
_NO_STAMP: Final = " " * len("01-31 23:59:59 ")  # of a line whose time nobody took down


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLine:
    """A clean line of `rank`, as "hydra/0": what it `said` is what filters look at, `at` when it
    came."""

    rank: str
    said: str
    at: float | None = None

    @classmethod
    def of(cls, rank: str, text: str, at: float | None) -> Self:
        return cls(rank=rank, said=f"{rank} {BAR} {text}", at=at)

    def shown(self, *, rank_width: int, stamped: bool) -> str:
        """The bar stands below those of the other ranks."""
        blanks = rank_width - cell_len(self.rank)
        row = (
            self.said if blanks <= 0 else f"{self.rank}{' ' * blanks}{self.said[len(self.rank) :]}"
        )
        return f"{self._stamp}{row}" if stamped else row

    @property
    def _stamp(self) -> str:
        if self.at is None:
            return _NO_STAMP
        return datetime.fromtimestamp(self.at).astimezone().strftime(_STAMP)


def folded(lines: Iterable[str], width: int) -> list[str]:
    """The rows of lines that are shown in full; where there is hardly room a row each."""
    if width < _LEAST_FOLDED:
        return list(lines)
    rows = []
    for line in lines:
        first, *more = chop_cells(line, width) if cell_len(line) > width else [line]
        rows.append(first)
        if rest := "".join(more):
            rows += [f"{_FOLD}{row}" for row in chop_cells(rest, width - len(_FOLD))]
    return rows


def first_rows(rows: Sequence[str]) -> list[int]:
    """Where lines begin."""
    return [at for at, row in enumerate(rows) if not row.startswith(_FOLD)]
