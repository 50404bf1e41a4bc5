"""What one rank tells all others when it asks who is there, and what it remembers of the last step.
Rules nothing: see `quorum`."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Self

from remote.run import Rank

GATHERING = "gathering"  # before a step: asks who takes part


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The last committed step as a rank remembers it.

    `members` are the slots that added it up; `before` those of the last step that a majority is
    known to hold. While the two differ, a group must hold a majority of both: or those who joined
    could go on without those who never heard of them. `group` are the slots of the last group that
    this rank was in: they may have committed a step of which it never heard.
    """

    generation: int
    attempt: int = 0  # of the group that committed it: of two versions of a step the higher stands
    members: tuple[int, ...]
    before: tuple[int, ...]
    group: tuple[int, ...] = ()

    def after_commit(self, attempt: int, members: Iterable[int]) -> "Record":
        """The record of those who added up one more step in the group of this attempt."""
        return replace(self, attempt=attempt, members=tuple(members))

    @property
    def is_confirmed(self) -> bool:
        """Whether a majority is known to hold it, so that the members may change again."""
        return self.before == self.members


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What one rank tells the lighthouse, and through it everybody, each time it asks."""

    job: str
    replica: str  # this process and no other, not even its successor
    slot: int
    launch: int  # which launch of its slot this is
    host: str
    address: str
    gpu: int | None
    store_port: int
    step: int  # committed
    digest: str
    numerics: str  # digests are equal bits among ranks of the same numerics only
    terms: Mapping[str, str]  # what must be equal before a step can be shared
    holds: bool  # has the weights from a group of this generation, not only from its disk
    record: Record
    attempt: int  # how many groups were tried in this generation, as far as this rank knows
    group: str = ""  # the key of its group, "" when it has none that works
    group_size: int = 0
    doing: str = GATHERING  # else the sum that it has computed its part of
    speed: float = 0.0
    leaving: bool = False  # wants the others to go on without it
    sidelight: int = 0  # the port of the lighthouse that it keeps for those who stay
    greeted: str = ""  # the replica at whose sidelight it is counted
    back: bool = False  # need not ask at a sidelight any longer

    @property
    def generation(self) -> int:
        return self.record.generation

    @property
    def name(self) -> str:
        return f"{self.host} (slot {self.slot})"

    def data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_data(cls, data: Any) -> Self | None:
        """Reads a voice; None when it is no rank's. Nobody checks who talks to a lighthouse. One of
        an older payload does not say all that has a default."""
        try:
            record = data["record"]
            said = [f.name for f in fields(cls) if f.name in data or f.default is MISSING]
            return cls(
                **{name: data[name] for name in said if name != "record"},
                record=Record(
                    generation=int(record["generation"]),
                    attempt=int(record["attempt"]),
                    members=tuple(map(int, record["members"])),
                    before=tuple(map(int, record["before"])),
                    group=tuple(map(int, record["group"])),
                ),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def rank(self, place: int) -> Rank:
        return Rank(slot=self.slot, rank=place, host=self.host, address=self.address, gpu=self.gpu)
