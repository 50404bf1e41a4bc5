"""What an adapter changes: the loss on rows that were not learnt, and answers, without and with it.
Measures nothing."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from sollol_tui.model.snapshot import Keyed

SCHEMA: Final = "sollol.evaluation/1"
_HIGHEST_EXPONENT: Final = 700.0  # of what a float holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(Keyed):
    """One question, from a held-out row (`place`) or of the job's own prompts ("prompt"), what
    should be answered ("" where nobody knows), and what the model says `before` and `after`."""

    place: str
    prompt: str
    expected: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Keyed):
    """`source` is what was evaluated, in words; `job` and `checkpoint` where it came from, as far
    as that is known here. `held_out` says that the rows are those that the job itself held out of
    `dataset`; losses are per token, those of the base alone `_before`."""

    at: float
    source: str
    job: str | None
    checkpoint: int | None
    model: str
    dataset: str
    held_out: bool
    rows: int
    tokens: int
    loss_before: float
    loss: float
    perplexity_before: float
    perplexity: float
    host: str
    device: str
    seconds: float
    examples: tuple[Example, ...] = ()

    @property
    def sentence(self) -> str:
        """The outcome in a line."""
        rows = "held-out rows" if self.held_out else f"rows of {self.dataset.rpartition('/')[2]}"
        return (
            f"loss {self.loss_before:.3f} to {self.loss:.3f} (perplexity "
            f"{self.perplexity_before:.2f} to {self.perplexity:.2f}) on {self.rows:,} {rows}"
        )

    def as_data(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def perplexity_of(loss: float) -> float:
    """How many tokens it wavers between, of a loss per token."""
    return math.exp(min(loss, _HIGHEST_EXPONENT))
