"""The figures of a job over time, step by step and host by host, as its events tell them. Pure: it
picks, thins and draws with characters; who prints and who stores is elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sollol_tui.model.events import finite, whole
from sollol_tui.model.snapshot import Keyed

METRIC_KIND: Final = "step"
HOST_KIND: Final = "host_metrics"
BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS: Final = "_.-=+*#@"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPoint(Keyed):
    """One committed step. `loss` is per token, and so are `ce` and `kl`, of which that of a student
    is made; `sync_s` is what adding the gradients took. None is what the worker did not tell."""

    step: int
    samples_done: int | None = None
    tokens: int | None = None
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    samples_per_s: float | None = None
    sync_s: float | None = None
    world_size: int | None = None
    ce: float | None = None
    kl: float | None = None
    generation: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One figure over time, oldest first. `unit` stands behind its numbers."""

    name: str
    unit: str
    values: tuple[float, ...]
    digits: int = 1


def point_of(data: Mapping[str, Any], generation: int, attempt: int) -> StepPoint | None:
    """The point of a `step` event's data; None when it names no step."""
    step = whole(data.get("step"))
    if step is None:
        return None
    return StepPoint(
        step=step,
        samples_done=whole(data.get("samples_done")),
        tokens=whole(data.get("tokens")),
        loss=finite(data.get("loss")),
        lr=finite(data.get("lr")),
        grad_norm=finite(data.get("grad_norm")),
        samples_per_s=finite(data.get("samples_per_s")),
        sync_s=finite(data.get("sync_s")),
        world_size=whole(data.get("world_size")),
        ce=finite(data.get("ce")),
        kl=finite(data.get("kl")),
        generation=generation,
        attempt=attempt,
    )


class Trace:
    """A curve that grows: of very many steps it keeps the last of each equal stretch of them."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._stretch = 1
        self._kept: dict[int, StepPoint] = {}

    def add(self, points: Iterable[StepPoint]) -> None:
        for point in points:
            self._keep(point)
            while len(self._kept) > self._most:
                self._stretch *= 2
                kept, self._kept = self._kept, {}
                for each in kept.values():
                    self._keep(each)

    def _keep(self, point: StepPoint) -> None:
        at = point.step // self._stretch
        known = self._kept.get(at)
        if known is None or (point.step, _rank(point)) >= (known.step, _rank(known)):
            self._kept[at] = point

    @property
    def points(self) -> tuple[StepPoint, ...]:
        """In the order of steps."""
        return tuple(self._kept[at] for at in sorted(self._kept))


def curve(points: Iterable[StepPoint]) -> tuple[StepPoint, ...]:
    """The points in the order of steps, one for each: of a step done again the record with the
    highest generation and attempt."""
    best: dict[int, StepPoint] = {}
    for point in points:
        known = best.get(point.step)
        if known is None or _rank(point) >= _rank(known):
            best[point.step] = point
    return tuple(best[step] for step in sorted(best))


def _rank(point: StepPoint) -> tuple[int, int]:
    return point.generation, point.attempt


_FIGURES: Final = (  # attribute of a point, what people call it, unit, digits
    ("loss", "loss", "", 3),
    ("ce", "cross-entropy", "", 3),
    ("kl", "divergence", "", 3),
    ("lr", "learning rate", "", 7),
    ("grad_norm", "gradient norm", "", 3),
    ("samples_per_s", "speed", "smp/s", 1),
    ("sync_s", "sync per step", "s", 3),
    ("world_size", "ranks", "", 0),
)


def step_series(points: Sequence[StepPoint]) -> list[Series]:
    """What the steps say; a figure that nobody told is left out."""
    made = []
    for attribute, name, unit, digits in _FIGURES:
        values = tuple(
            float(value) for each in points if (value := getattr(each, attribute)) is not None
        )
        if values:
            made.append(Series(name=name, unit=unit, values=values, digits=digits))
    return made


def host_series(host: str, samples: Iterable[Mapping[str, Any]]) -> list[Series]:
    """CPU, memory and each GPU of a host, from the data of its `host_metrics` events."""
    gathered: dict[tuple[str, str], list[float]] = {}

    def add(name: str, unit: str, value: object, scale: float = 1.0) -> None:
        if (number := finite(value)) is not None:
            gathered.setdefault((name, unit), []).append(number / scale)

    for data in samples:
        add("CPU", "%", data.get("cpu_percent"))
        add("RAM", "GiB", data.get("ram_used_bytes"), 2**30)
        gpus = data.get("gpus")
        for gpu in gpus if isinstance(gpus, list) else ():
            if isinstance(gpu, dict) and (index := whole(gpu.get("index"))) is not None:
                add(f"GPU {index}", "%", gpu.get("util_percent"))
                add(f"GPU {index} memory", "GiB", gpu.get("vram_used_bytes"), 2**30)
                add(f"GPU {index} heat", "C", gpu.get("temp_c"))
    return [
        Series(name=f"{host} {name}", unit=unit, values=tuple(values))
        for (name, unit), values in gathered.items()
    ]


def thinned(values: Sequence[float], width: int) -> list[float]:
    """At most `width` numbers that look like `values`: the means of equal stretches of them."""
    if len(values) <= width:
        return list(values)
    edges = [at * len(values) // width for at in range(width + 1)]
    return [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]


def sparkline(values: Sequence[float], width: int, *, blocks: str = BLOCKS) -> str:
    """A line of blocks as high as the values; one that never changes is drawn at half height."""
    shown = thinned(values, width)
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high <= low:
        return blocks[len(blocks) // 2 - 1] * len(shown)
    top = len(blocks) - 1
    return "".join(blocks[round((value - low) / (high - low) * top)] for value in shown)
