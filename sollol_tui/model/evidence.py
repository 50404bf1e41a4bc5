"""What a job's ranks measured and compared of themselves: how fast they are together, where their
time goes, and that their weights are equal. Pure; believes no figure beyond reason.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sollol_tui.model.events import finite, whole
from sollol_tui.model.snapshot import Keyed
from sollol_tui.model.text import clean

EVIDENCE: Final = ("ready", "speed", "weights", "finished")
"""Kinds of events that are evidence."""
_MOST_RATE: Final = 1e9
_MOST_RANKS: Final = 4096
_DIGEST: Final = 12  # characters of one that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEvidence(Keyed):
    slot: int
    host: str
    samples_per_s: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedEvidence(Keyed):
    """Means over the last steps before `step`. `adding_s` is what adding the gradients took of each
    `step_s`, `waiting_s` what the ranks lost on average until the slowest had computed its part.
    `speedup` is over the best single host, `efficiency` of the sum of all ranks' speeds."""

    step: int
    samples_per_s: float
    step_s: float
    adding_s: float
    waiting_s: float
    slowest_host: str
    slowest_slot: int | None
    best_host: str
    speedup: float
    efficiency: float
    ranks: tuple[RankEvidence, ...]

    @property
    def sentence(self) -> str:
        if len(self.ranks) == 1:
            return f"{self.samples_per_s:.3g} smp/s on {self.best_host} alone"
        return (
            f"{self.samples_per_s:.3g} smp/s, {self.speedup:.2f}x {self.best_host} alone, "
            f"{self.efficiency:.0%} of the sum of all"
        )

    @property
    def losses(self) -> str:
        """Where the time of a step goes that is not computed in; empty where there is one rank."""
        if len(self.ranks) == 1:
            return ""
        return (
            f"of each step's {self.step_s:.3g} s, {self.adding_s:.2g} s adding up and "
            f"{self.waiting_s:.2g} s waiting for the slowest, {self.slowest_host}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsEvidence(Keyed):
    """Whose weights were compared after `step`, and who holds others. `digest` is the first's."""

    step: int
    ranks: int
    digest: str
    differing: tuple[str, ...] = ()

    @property
    def are_equal(self) -> bool:
        return not self.differing

    @property
    def sentence(self) -> str:
        when = f"after step {self.step:,}" if self.step else "before the first step"
        if self.differing:
            return f"differ on {', '.join(self.differing)} {when}: see sollol logs"
        if self.ranks == 1:
            return f"one rank, {self.digest[:_DIGEST]} {when}"
        return f"equal on {self.ranks} of {self.ranks} ranks {when} ({self.digest[:_DIGEST]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Keyed):
    """The newest of each. What is predicted is the plan's; `prediction` are all of its figures."""

    speed: SpeedEvidence | None = None
    weights: WeightsEvidence | None = None
    predicted_speedup: float | None = None
    predicted_efficiency: float | None = None
    prediction: Mapping[str, Any] | None = None

    def facts(self) -> list[tuple[str, str]]:
        """Sentences with their names: measured beside predicted speed-up, where time is lost, and
        that all ranks hold the same weights."""
        facts = []
        if (speed := self.speed) is not None:
            facts.append(("measured", self.speed_sentence))
            if speed.losses:
                facts.append(("", speed.losses))
        elif self.predicted_speedup is not None and self.predicted_speedup > 1:
            facts.append(("predicted", f"at most ~{self.predicted_speedup:.2f}x the best host"))
        if self.weights is not None:
            facts.append(("weights", self.weights.sentence))
        return facts

    @property
    def speed_sentence(self) -> str:
        """What was measured, beside what was predicted; empty while nothing was."""
        if self.speed is None:
            return ""
        if self.predicted_speedup is None or len(self.speed.ranks) < 2:
            return self.speed.sentence
        return f"{self.speed.sentence} (~{self.predicted_speedup:.2f}x predicted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An event as evidence: who said it, in which launch, and what."""

    kind: str
    host: str
    slot: int | None
    generation: int
    data: Mapping[str, Any]


def speed_of(data: Mapping[str, Any]) -> SpeedEvidence | None:
    """What a `speed` event tells, or None where it does not make sense."""
    figures = {
        key: value
        for key in ("samples_per_s", "step_s", "adding_s", "waiting_s", "speedup", "efficiency")
        if (value := _possible(data.get(key))) is not None
    }
    told = data.get("ranks")
    ranks = list(_ranks(told)) if isinstance(told, list) else []
    step = whole(data.get("step"))
    if step is None or len(figures) < 6 or not ranks:
        return None
    return SpeedEvidence(
        step=step,
        slowest_host=_name(data.get("slowest_host")),
        slowest_slot=whole(data.get("slowest_slot")),
        best_host=_name(data.get("best_host")),
        ranks=tuple(ranks),
        **figures,
    )


def weights_of(said: Iterable[Said]) -> WeightsEvidence | None:
    """What the newest launch says of its ranks' weights: at the end, else as compared with a
    checkpoint, else before the first step."""
    events = list(said)
    newest = max((each.generation for each in events), default=0)
    events = [each for each in events if each.generation == newest]
    kinds = {each.slot: _kind(each.data) for each in events if each.kind == "ready"}
    if ends := [each for each in events if each.kind == "finished"]:
        return _compared(ends, kinds)
    for each in reversed(events):
        step, ranks = whole(each.data.get("step")), whole(each.data.get("ranks"))
        if each.kind == "weights" and step is not None and ranks:
            return WeightsEvidence(step=step, ranks=ranks, digest=_name(each.data.get("digest")))
    begun = [each for each in events if each.kind == "ready"]
    # Who comes later starts where the others are by then.
    first = whole(begun[0].data.get("step")) if begun else None
    return _compared([each for each in begun if whole(each.data.get("step")) == first], kinds)


def _compared(
    said: list[Said], kinds: Mapping[int | None, tuple[str, str]]
) -> WeightsEvidence | None:
    """Bits are equal within a kind of machine only; between kinds ranks themselves compare."""
    if not said:
        return None
    said = sorted(said, key=lambda each: each.slot or 0)
    first: dict[tuple[str, str], str] = {}
    differing = []
    for each in said:
        digest = _name(each.data.get("digest"))
        if first.setdefault(kinds.get(each.slot, ("", "")), digest) != digest:
            differing.append(f"{each.host} (rank {each.slot})")
    return WeightsEvidence(
        step=whole(said[0].data.get("step")) or 0,
        ranks=len({each.slot for each in said}),
        digest=_name(said[0].data.get("digest")),
        differing=tuple(differing),
    )


def _kind(data: Mapping[str, Any]) -> tuple[str, str]:
    return _name(data.get("device")).partition(":")[0], _name(data.get("torch"))


def _ranks(told: list[Any]) -> Iterator[RankEvidence]:
    for entry in told[:_MOST_RANKS]:
        if not isinstance(entry, dict):
            continue
        slot, rate = whole(entry.get("slot")), _possible(entry.get("samples_per_s"))
        share = _possible(entry.get("share"))
        if slot is not None and rate is not None and share is not None:
            host = _name(entry.get("host"))
            yield RankEvidence(slot=slot, host=host, samples_per_s=rate, share=share)


def _possible(value: Any) -> float | None:
    number = finite(value)
    return number if number is not None and 0 <= number < _MOST_RATE else None


def _name(value: Any) -> str:
    return clean(value, limit=80) if isinstance(value, str) else ""
