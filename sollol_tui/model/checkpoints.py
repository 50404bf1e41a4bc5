"""A job's checkpoints as people see them: which there are, and who holds each whole. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One place that has a checkpoint: a worker, `coordinator` or `result`. `damage` is "" when it
    was verified."""

    place: str
    step: int
    at: float
    size_bytes: int
    damage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """`at` is when the coordinator heard of it, or what its first holder's clock says."""

    step: int
    at: float
    samples_done: int | None
    size_bytes: int
    holdings: tuple[Holding, ...]

    @property
    def whole_at(self) -> tuple[str, ...]:
        """The places that hold it verified."""
        return tuple(holding.place for holding in self.holdings if not holding.damage)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSurvey:
    """The checkpoints of a job, the newest first; `silent` maps workers that could not be asked to
    the reason."""

    job: str
    checkpoints: tuple[CheckpointView, ...]
    silent: Mapping[str, str]

    def as_data(self) -> dict[str, Any]:
        """The object behind `sollol checkpoints --json`."""
        return {
            "schema": "sollol.checkpoints/1",
            "job": self.job,
            "checkpoints": [
                {**asdict(each), "whole_at": list(each.whole_at)} for each in self.checkpoints
            ],
            "silent": dict(self.silent),
        }


def merge(
    job: str,
    holdings: Iterable[Holding],
    told: Mapping[int, tuple[float, int | None]],
    silent: Mapping[str, str],
) -> CheckpointSurvey:
    """All that is known of each step. `told` is what the ranks said when they saved it: when that
    was heard, and the samples learnt by then."""
    by_step: dict[int, list[Holding]] = {}
    for holding in holdings:
        by_step.setdefault(holding.step, []).append(holding)
    return CheckpointSurvey(
        job=job,
        checkpoints=tuple(
            CheckpointView(
                step=step,
                at=told[step][0] if step in told else held[0].at,
                samples_done=told[step][1] if step in told else None,
                size_bytes=max(holding.size_bytes for holding in held),
                holdings=tuple(held),
            )
            for step, held in sorted(by_step.items(), reverse=True)
        ),
        silent=silent,
    )
