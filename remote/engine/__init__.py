"""How ranks agree and add gradients: the interface that every engine keeps. Knows no model."""

from __future__ import annotations  # a lighthouse does without torch, whose names stand here

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

from remote.control import Action
from remote.run import Rank

if TYPE_CHECKING:
    import torch


class WorldError(RuntimeError):
    """The ranks cannot work together; the message names who and why."""


class MemberLostError(WorldError):
    """A collective outside of a step broke off. Where the engine heals, `settle` goes on without
    the lost member."""


class DismissedError(Exception):
    """This rank is to leave now, as the coordinator asked: no step is waited for any more. Nothing
    that was committed is lost by it, and no other rank waits for this one."""

    def __init__(self, action: Action) -> None:
        super().__init__(f"asked to {action}")
        self.action = action


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Who takes part in the next step, in rank order, and which of them we are. `weights` are what
    the samples are dealt by: the members' speeds, or a little older ones."""

    ranks: tuple[Rank, ...]
    own: Rank
    weights: tuple[float, ...]

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
    lacking: float = 0.0  # how many computed nothing, for want of their teacher's scores
    cross_entropy: float = 0.0  # of which, and of the divergence, a distilled loss is made
    divergence: float = 0.0
    speeds: tuple[float, ...] = ()  # samples/s by place; the engine fills in each member's own

    def vector(self) -> torch.Tensor:
        import torch

        counts = [getattr(self, name) for name in _COUNTS]
        return torch.tensor([*counts, *self.speeds], dtype=torch.float64)

    @classmethod
    def of_vector(cls, vector: torch.Tensor) -> Tally:
        values = vector.tolist()
        counts = dict(zip(_COUNTS, values, strict=False))
        return cls(**counts, speeds=tuple(values[len(_COUNTS) :]))


_COUNTS = tuple(field.name for field in fields(Tally) if field.name != "speeds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLost:
    """The step's sums did not come together: it is not committed and will be done again."""

    reason: str


class State(Protocol):
    """What a rank has learnt: the loop owns it, an engine that heals moves it between ranks."""

    @property
    def step(self) -> int:
        """How many steps are committed in it."""
        ...

    @property
    def numerics(self) -> str:
        """Ranks with the same text here stay bit-equal."""
        ...

    @property
    def terms(self) -> Mapping[str, str]:
        """What must be equal on all ranks before a step can be shared: versions, data."""
        ...

    def digest(self) -> str:
        """A short text that differs when the trained weights do. Asked for at every step."""
        ...

    def flatten(self) -> torch.Tensor:
        """A copy of everything that changes while training, as one fp32 vector in CPU memory."""
        ...

    def load(self, flat: torch.Tensor) -> None:
        """Becomes what another rank's `flatten` said, the step included."""
        ...


class Engine(Protocol):
    @property
    def heals(self) -> bool:
        """Whether `settle` brings all to one state, so that ranks may come with different ones."""
        ...

    def say_alive(self) -> None:
        """Tells the others that this rank lives and is getting ready. Takes a few seconds at most,
        never raises, and is called from a thread of its own."""
        ...

    def join(self) -> None:
        """Waits for the planned ranks as long as they live; a WorldError names the silent."""
        ...

    def leave(self) -> None:
        """Has the others go on without this rank after the step in flight: `settle` raises
        DismissedError once they do. Nothing happens where members cannot change."""
        ...

    def settle(self, state: State) -> Members:
        """Before each step, and after the last: settles who takes part, and gives all of them the
        same state. Waits as long as nothing may be committed, or until a DismissedError says that
        this rank is wanted no longer."""
        ...

    def members(self) -> Members:
        """Who takes part, as last settled."""
        ...

    def reduce(self, flat: torch.Tensor, tally: Tally) -> Tally | StepLost:
        """Sums `flat` in place, and the tally, over the members."""
        ...

    def exchange(self, word: str) -> dict[int, str]:
        """Gives every member's word (at most words.WORD_BYTES of UTF-8) to all, by slot."""
        ...

    def copy_from_first(self, flat: torch.Tensor) -> None:
        """Overwrites `flat` (CPU) by the first rank's."""
        ...

    def close(self) -> None: ...
