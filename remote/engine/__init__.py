"""How ranks agree and add gradients: the interface that every engine keeps. Knows no model."""

from dataclasses import astuple, dataclass
from typing import Protocol

import torch

from remote.run import Rank

WORD_BYTES = 1024


class WorldError(RuntimeError):
    """The ranks cannot work together; the message names who and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Who takes part in the next step, in rank order, and which of them we are."""

    ranks: tuple[Rank, ...]
    own: Rank

    @property
    def place(self) -> int:
        """Our place among the members, which is the share that we compute."""
        return self.ranks.index(self.own)

    @property
    def is_first(self) -> bool:
        """Whether we speak for the job: the lowest slot among the members does."""
        return self.own.slot == min(rank.slot for rank in self.ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was really computed in a step. Travels in fp64 and is summed over the members."""

    samples: float = 0.0
    tokens: float = 0.0
    loss_sum: float = 0.0
    not_finite: float = 0.0  # how many members met a loss or gradient that is not finite
    stop_wanted: float = 0.0  # how many members were told to stop

    def vector(self) -> torch.Tensor:
        return torch.tensor(astuple(self), dtype=torch.float64)

    @classmethod
    def of_vector(cls, vector: torch.Tensor) -> "Tally":
        samples, tokens, loss_sum, not_finite, stop_wanted = vector.tolist()
        return cls(
            samples=samples,
            tokens=tokens,
            loss_sum=loss_sum,
            not_finite=not_finite,
            stop_wanted=stop_wanted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLost:
    """The step's sums did not come together: it is not committed and will be done again."""

    reason: str


class Engine(Protocol):
    def say_alive(self) -> None:
        """Tells the others that this rank lives and is getting ready. Takes a few seconds at most,
        never raises, and is called from a thread of its own."""
        ...

    def join(self) -> None:
        """Waits for the planned ranks as long as they live; a WorldError names the silent."""
        ...

    def members(self) -> Members:
        """Who takes part in the next step."""
        ...

    def reduce(self, flat: torch.Tensor, tally: Tally) -> Tally | StepLost:
        """Sums `flat` in place, and the tally, over the members."""
        ...

    def exchange(self, word: str) -> dict[int, str]:
        """Gives every member's word (at most WORD_BYTES of UTF-8) to all, by slot."""
        ...

    def copy_from_first(self, flat: torch.Tensor) -> None:
        """Overwrites `flat` (CPU) by the first rank's."""
        ...

    def close(self) -> None: ...
