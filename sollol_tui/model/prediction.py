"""What a plan promises before anything runs: seconds per step and sync, shares, speed-up, who is in
the way. Pure arithmetic; every figure that goes in says where it comes from.

Refuses to guess a network: without a known bandwidth the sync stays unknown, and the speed-up is
what it would be without one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sollol_tui.model.events import whole
from sollol_tui.model.evidence import speed_of

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
class MeasuredSum:
    """What adding up `sum_bytes` of each of `ranks` took a job on `hosts`, in the order of their
    ring; `rest_s` is what its steps took beside computing and adding. All of them means."""

    hosts: tuple[str, ...]
    ranks: int
    sum_bytes: int
    adding_s: float
    rest_s: float
    source: str

    @classmethod
    def told_by(cls, event: Mapping[str, Any], source: str) -> "MeasuredSum | None":
        """From a `speed` event; None where it does not make sense, or tells of a single host."""
        speed, sum_bytes = speed_of(event), whole(event.get("sum_bytes"))
        if speed is None or not sum_bytes or not all(rank.samples_per_s for rank in speed.ranks):
            return None
        hosts = tuple(dict.fromkeys(rank.host for rank in speed.ranks))
        samples = speed.samples_per_s * speed.step_s
        # The last rank to have computed is the one that the sum waits for.
        compute_s = max(rank.share * samples / rank.samples_per_s for rank in speed.ranks)
        if len(hosts) < 2 or not speed.adding_s:
            return None
        return cls(
            hosts=hosts,
            ranks=len(speed.ranks),
            sum_bytes=sum_bytes,
            adding_s=speed.adding_s,
            rest_s=max(0.0, speed.step_s - speed.adding_s - compute_s),
            source=source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """`hosts` in the order of ranks, which is that of the ring in which gloo and NCCL add;
    `gradient_bytes` on the wire, None while the adapter's size is not known; `sample_tokens` is the
    mean; `rest_s` what a step takes beside computing and adding (optimizer, agreement);
    `measured_sum` what these hosts, or some more, took in an earlier job."""

    hosts: tuple[HostSpeed, ...]
    wires: tuple[Wire, ...]
    global_batch: int
    sample_tokens: float
    gradient_bytes: int | None
    wire: str = "bf16"
    rest_s: float = 0.0
    measured_sum: MeasuredSum | None = None

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
        return self._slowest([host.host for host in self.hosts])

    @property
    def sync_s(self) -> float | None:
        """Seconds to add up the gradients, as far as that was measured; else what the wires alone
        take. 0 within one host, whose memory is no network; None while size or bandwidth are not
        known."""
        if len(self.hosts) == 1:
            return 0.0
        if self.gradient_bytes is None:
            return None
        names = [host.host for host in self.hosts]
        expected = self._by_wires(names, self.world_size, self.gradient_bytes)
        if (then := self.measured_sum) is None:
            return expected
        larger = self.gradient_bytes / then.sum_bytes
        by_wires = self._by_wires(then.hosts, then.ranks, then.sum_bytes)
        if expected is None or by_wires is None:
            return then.adding_s * larger if {*names} == {*then.hosts} else None
        # What the wires do not explain is each rank's work on its own bytes: rounding, copying,
        # adding. It is the same however many they are.
        work_s = max(0.0, then.adding_s - by_wires) * larger
        return min(1.0, then.adding_s / by_wires) * expected + work_s

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

    def _slowest(self, ring: Sequence[str]) -> Wire | None:
        """Of the wires from each host to the next one; None where one of them is not known."""
        known = {(wire.origin, wire.target): wire for wire in self.wires}
        found = [known.get(pair) for pair in zip(ring, [*ring[1:], ring[0]], strict=True)]
        there = [wire for wire in found if wire is not None]
        if len(ring) < 2 or len(there) < len(found):
            return None
        return min(there, key=lambda wire: wire.bytes_per_s)

    def _by_wires(self, ring: Sequence[str], ranks: int, size: int) -> float | None:
        """Seconds by the network alone: bytes x 2(N-1)/N over the slowest wire of the ring
        (Patarasuk and Yuan 2009), and 2(N-1) messages' latency."""
        if (wire := self._slowest(ring)) is None:
            return None
        rounds = 2 * (ranks - 1)
        return size * rounds / ranks / wire.bytes_per_s + rounds * wire.latency_s

    def as_data(self) -> dict[str, Any]:
        """All figures, as JSON holds them."""
        wire = self.slowest_wire
        return {
            "hosts": [asdict(host) | {"share": self.shares[host.host]} for host in self.hosts],
            "slowest_wire": asdict(wire) if wire else None,
            "measured_sum": asdict(self.measured_sum) if self.measured_sum else None,
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
        else:
            parts.append(
                f"sync ~{_seconds(sync)} every ~{_seconds(self.step_s)} ({self.wire}, "
                f"{(self.gradient_bytes or 0) / 1e6:.3g} MB{self._basis()})"
            )
            parts.append(f"~{self.efficiency:.0%} of their sum")
        yield ", ".join(parts)

    def _basis(self) -> str:
        """What the time of a sync stands on."""
        if self.measured_sum is not None:
            return f", {self.measured_sum.source}"
        if (wire := self.slowest_wire) is None:
            return ""
        mark = "" if wire.is_measured else "~"
        return f" at {mark}{wire.bytes_per_s * 8 / 1e6:,.0f} Mbit/s, {wire.source}"

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
