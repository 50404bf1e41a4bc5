"""What a plan promises before anything runs: seconds per step and sync, shares, speed-up, who is in
the way. Pure arithmetic; every figure that goes in says where it comes from.

Refuses to guess a network: without a known bandwidth the sync stays unknown, and the speed-up is
what it would be without one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

GOOD_EFFICIENCY: Final = 0.9
WORTH_LEAVING: Final = 0.97  # of the step's time: less gain than that is within the error
WIRE_BYTES: Final = {"bf16": 2, "fp32": 4}
_BATCH_STEP: Final = 8  # a global batch is suggested in multiples of it


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpeed:
    """Tokens that one host learns per second, all of its `ranks` together. `source` says where the
    figure comes from: a job in which it was measured, or the device by which it is estimated."""

    host: str
    ranks: int
    tokens_per_s: float
    is_measured: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One direction between two hosts: payload bytes per second, seconds one way for a small
    message."""

    origin: str
    target: str
    bytes_per_s: float
    latency_s: float
    is_measured: bool
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """`hosts` in the order of ranks, which is that of the ring in which gloo and NCCL add;
    `gradient_bytes` on the wire, None while the adapter's size is not known; `sample_tokens` is the
    mean; `step_s` what a step takes beside computing and adding (optimizer, agreement)."""

    hosts: tuple[HostSpeed, ...]
    wires: tuple[Wire, ...]
    global_batch: int
    sample_tokens: float
    gradient_bytes: int | None
    wire: str = "bf16"
    rest_s: float = 0.0

    @property
    def world_size(self) -> int:
        return sum(host.ranks for host in self.hosts)

    @property
    def shares(self) -> Mapping[str, float]:
        """Each host's part of a step, of 1."""
        whole = sum(host.tokens_per_s for host in self.hosts)
        return {host.host: host.tokens_per_s / whole for host in self.hosts}

    @property
    def compute_s(self) -> float:
        """Seconds until the last rank has computed its samples, which are dealt whole."""
        speeds = [host.tokens_per_s / host.ranks for host in self.hosts for _ in range(host.ranks)]
        dealt = _deal(self.global_batch, speeds)
        times = (count / speed for count, speed in zip(dealt, speeds, strict=True))
        return max(times) * self.sample_tokens

    @property
    def slowest_wire(self) -> Wire | None:
        """The one that the ring waits for; None within one host, or where one is not known."""
        found = list(self._ring())
        if not found or None in found:
            return None
        return min((wire for wire in found if wire), key=lambda wire: wire.bytes_per_s)

    @property
    def sync_s(self) -> float | None:
        """Seconds to add up the gradients: bytes x 2(N-1)/N over the slowest wire of the ring
        (Patarasuk and Yuan 2009), and 2(N-1) messages' latency. 0 within one host, whose memory is
        no network; None while size or bandwidth are not known."""
        if len(self.hosts) == 1:
            return 0.0
        wire, ranks = self.slowest_wire, self.world_size
        if wire is None or self.gradient_bytes is None:
            return None
        rounds = 2 * (ranks - 1)
        return self.gradient_bytes * rounds / ranks / wire.bytes_per_s + rounds * wire.latency_s

    @property
    def step_s(self) -> float:
        return self.compute_s + (self.sync_s or 0.0) + self.rest_s

    @property
    def samples_per_s(self) -> float:
        return self.global_batch / self.step_s

    @property
    def efficiency(self) -> float:
        """What they reach together of the sum of their speeds, of 1."""
        whole = sum(host.tokens_per_s for host in self.hosts)
        return self.global_batch * self.sample_tokens / whole / self.step_s

    @property
    def best(self) -> HostSpeed:
        return max(self.hosts, key=lambda host: host.tokens_per_s)

    @property
    def speedup(self) -> float:
        """Over the best single host, which has nobody to add up with."""
        alone_s = self.global_batch * self.sample_tokens / self.best.tokens_per_s + self.rest_s
        return alone_s / self.step_s

    @property
    def in_the_way(self) -> tuple[str, ...]:
        """Hosts without whom the others take less time for the same global batch, the worst
        first."""
        rest, found = self, []
        while len(rest.hosts) > 1:
            smaller = {host.host: rest.without(host.host) for host in rest.hosts}
            worst = min(smaller, key=lambda name: smaller[name].step_s)
            if smaller[worst].step_s >= WORTH_LEAVING * rest.step_s:
                break
            found.append(worst)
            rest = smaller[worst]
        return tuple(found)

    @property
    def wanted_batch(self) -> int | None:
        """The global batch at which they would reach GOOD_EFFICIENCY; None where they do, or where
        it is not known. Solves batch x tokens / sum = e x (batch x tokens / sum + sync + rest)."""
        if self.sync_s is None or self.efficiency >= GOOD_EFFICIENCY:
            return None
        lost_s = self.sync_s + self.rest_s
        whole = sum(host.tokens_per_s for host in self.hosts)
        wanted = GOOD_EFFICIENCY / (1 - GOOD_EFFICIENCY) * lost_s * whole / self.sample_tokens
        batch = max(self.global_batch, -(-int(wanted + 1) // _BATCH_STEP) * _BATCH_STEP)
        # Whole samples cannot be dealt exactly: a few more make up for that.
        for _ in range(64):
            if replace(self, global_batch=batch).efficiency >= GOOD_EFFICIENCY:
                return batch
            batch += max(_BATCH_STEP, batch // 16 // _BATCH_STEP * _BATCH_STEP)
        return None

    def without(self, *gone: str) -> "Prediction":
        return replace(self, hosts=tuple(h for h in self.hosts if h.host not in gone))

    def _ring(self) -> Iterator[Wire | None]:
        """The wires from each host to the next one; None for one that is not known."""
        if len(self.hosts) < 2:
            return
        known = {(wire.origin, wire.target): wire for wire in self.wires}
        names = [host.host for host in self.hosts]
        for origin, target in zip(names, [*names[1:], names[0]], strict=True):
            yield known.get((origin, target))

    def as_data(self) -> dict[str, Any]:
        """All figures, as JSON holds them."""
        wire = self.slowest_wire
        return {
            "hosts": [asdict(host) | {"share": self.shares[host.host]} for host in self.hosts],
            "slowest_wire": asdict(wire) if wire else None,
            "gradient_bytes": self.gradient_bytes,
            "global_batch": self.global_batch,
            "sample_tokens": self.sample_tokens,
            "compute_s": self.compute_s,
            "sync_s": self.sync_s,
            "step_s": self.step_s,
            "samples_per_s": self.samples_per_s,
            "efficiency": self.efficiency,
            "best_host": self.best.host,
            "speedup": self.speedup,
            "in_the_way": list(self.in_the_way),
            "wanted_global_batch": self.wanted_batch,
        }

    def lines(self) -> list[str]:
        """What a person reads, each figure that was not measured with `~` and its source."""
        return [*self._together(), self._apart(), *self._advice()]

    def _together(self) -> Iterator[str]:
        sync = self.sync_s
        if len(self.hosts) == 1:
            yield f"~{self.samples_per_s:.3g} smp/s, a step every ~{_seconds(self.step_s)}"
            return
        alone = f"{self.best.host} alone"
        parts = [f"at most ~{_times(self.speedup)}x {alone}: ~{self.samples_per_s:.3g} smp/s"]
        if sync is None:
            missing = "the network's speed is not known (sollol doctor --network measures it)"
            if self.gradient_bytes is None:
                missing = "the model's size is not known before a worker has it"
            parts.append(f"not counting the sums: {missing}")
        elif wire := self.slowest_wire:
            mark = "" if wire.is_measured else "~"
            parts.append(
                f"sync ~{_seconds(sync)} every ~{_seconds(self.step_s)} ({self.wire}, "
                f"{(self.gradient_bytes or 0) / 1e6:.3g} MB at {mark}"
                f"{wire.bytes_per_s * 8 / 1e6:,.0f} Mbit/s, {wire.source})"
            )
            parts.append(f"~{self.efficiency:.0%} of their sum")
        yield ", ".join(parts)

    def _apart(self) -> str:
        told = []
        for host in self.hosts:
            speed = host.tokens_per_s / self.sample_tokens
            told.append(f"{host.host} {'' if host.is_measured else '~'}{speed:.3g} ({host.source})")
        return f"smp/s of each: {', '.join(told)}"

    def _advice(self) -> Iterator[str]:
        if slow := self.in_the_way:
            it, makes = ("it", "makes") if len(slow) == 1 else ("they", "make")
            faster = self.step_s / self.without(*slow).step_s
            pattern = ",".join(f"!{host}" for host in slow)
            yield (
                f"leave {', '.join(slow)} out: {it} {makes} the job slower, which would be "
                f"~{faster:.2f}x as fast (--workers '{pattern}')"
            )
        if batch := self.wanted_batch:
            yield (
                f"global_batch: {batch} would reach {GOOD_EFFICIENCY:.0%} of their sum; it changes "
                "what is learnt, so it is yours to set"
            )


def _deal(count: int, speeds: Sequence[float]) -> list[int]:
    """`count` in proportion to the speeds, in whole numbers; the largest remainders round up."""
    whole = sum(speeds)
    exact = [count * speed / whole for speed in speeds]
    counts = [int(part) for part in exact]
    order = sorted(range(len(counts)), key=lambda place: counts[place] - exact[place])
    for place in order[: count - sum(counts)]:
        counts[place] += 1
    return counts


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
