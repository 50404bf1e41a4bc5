"""What a job's events add up to: who is ready, how far it is, who failed. Pure: a replay of the
same events gives the same progress, so a restarted supervisor knows what the old one knew."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from sollol_tui.model.events import Event
from sollol_tui.model.plan import Plan
from sollol_tui.model.text import clean, clean_lines

_UNCOUNTED_STEPS: Final = 1_000_000_000
# What no training reaches. Where a step says more, or less than nothing, it says nothing.
_LIMITS: Final = {
    "loss": (-1e6, 1e6),
    "samples_per_s": (0.0, 1e9),
    "eta_s": (0.0, 1e9),
    "world_size": (1.0, 4096.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One thing that went wrong: where, one sentence, and the traceback where the sentence does not
    say it all. `distance` is how far it lies from the cause: 0 tells it, 1 what came of it, 2 is a
    peer that lost whoever met it. A `foreseen` one says by itself what to do; a host that is `gone`
    has lost its agent, by nothing that the job did."""

    host: str
    reason: str
    traceback: str = ""
    distance: int = 1
    foreseen: bool = False
    gone: bool = False


@dataclass(slots=True)
class Progress:
    """Takes the events of one generation. A host speaks for its own slots only. `plan` is another
    one when workers of an elastic job have come or gone."""

    plan: Plan
    generation: int
    ready: dict[int, Event] = field(default_factory=dict)
    finished: dict[int, Event] = field(default_factory=dict)
    stopped: dict[int, Event] = field(default_factory=dict)
    agents_finished: dict[str, Event] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # hosts without an agent, and why
    wanted_back: set[str] = field(default_factory=set)  # hosts whose agent somebody there has ended
    failures: list[Failure] = field(default_factory=list)
    full: dict[str, str] = field(default_factory=dict)  # hosts whose disk has no room, and why
    stuck: dict[int, str] = field(default_factory=dict)  # slots that take no steps, and why
    scores: dict[str, Event] = field(default_factory=dict)  # what each host needs of a teacher's
    damaged: set[tuple[str, str]] = field(default_factory=set)  # hosts, and shards sent in vain
    said: Counter[int] = field(default_factory=Counter)  # events of each slot
    step: Event | None = None
    steps_heard: int = 0
    agents: dict[str, int] = field(default_factory=dict)  # the newest attempt of each host's agent
    first_loss: float | None = None

    def apply(self, host: str, event: Event) -> None:
        """Takes one event of `host`; what does not belong to this generation or host is no news."""
        if event.generation != self.generation:
            return
        if event.slot is not None and self.host_of(event.slot) != host:
            return
        if event.slot is not None:
            self.said[event.slot] += 1
        match event.kind, event.slot:
            case "ready", int(slot):
                self.ready[slot] = event
            case "step", int(slot) if self.plan.is_elastic or slot == self.plan.first_slot:
                self._take_step(event)
            case "scores", int():
                self.scores[host] = event
            case "scores_corrupt", int():
                self.damaged.add((host, clean(event.text("file"), limit=40)))
            case "finished", int(slot):
                self.finished[slot] = event
            case "stopped", int(slot):
                self.stopped[slot] = event
            case "failed", int(slot):
                self._fail(host, f"rank {slot}: {clean(event.text('error'))}", event)
            case "disk_full", None:
                self.full[host] = clean(event.text("reason"))
            case "stuck" | "waiting" | "unstuck", None:
                self._take_stuck(host, event)
            case "rank_exited", None:
                self._take_exit(host, event)
            case "agent_started", None if event.attempt > self.agents.get(host, 0):
                self.agents[host] = event.attempt
                self._take_back(host)
            case "agent_finished", None if event.attempt >= self.agents.get(host, 0):
                self.agents_finished[host] = event
                if event.text("outcome") in ("failed", "killed"):
                    reason = clean(event.text("reason")) or "its agent gave up"
                    if event.data.get("problem") == "wanted_back":
                        self.wanted_back.add(host)
                    self._fail(host, reason, event)
                    if self.plan.is_elastic:  # else it may merely have lost another one
                        self.lost[host] = reason
            case _:
                pass

    def host_of(self, slot: int) -> str | None:
        for worker in self.plan.workers:
            if any(rank.slot == slot for rank in worker.ranks):
                return worker.host
        return None

    @property
    def slots(self) -> set[int]:
        return {rank.slot for worker in self.plan.workers for rank in worker.ranks}

    @property
    def all_ready(self) -> bool:
        return self.ready.keys() >= self.slots

    @property
    def all_finished(self) -> bool:
        return self.finished.keys() >= self.slots

    @property
    def result_host(self) -> str | None:
        """The host on which a rank has left the result."""
        left = (slot for slot, event in sorted(self.finished.items()) if event.text("result"))
        return next(map(self.host_of, left), None)

    @property
    def is_complete(self) -> bool:
        """Whether the training has come to its end. Of an elastic job one rank's result is enough:
        none leaves it before all that are there hold the last step."""
        return self.result_host is not None if self.plan.is_elastic else self.all_finished

    def world_problem(self) -> Failure | None:
        """A rank that sees another world than the plan's: it would train apart, unnoticed. Elastic
        ones settle that among themselves, and later ones may well be fewer."""
        if self.plan.is_elastic:
            return None
        for slot, event in self.ready.items():
            seen = event.count("world_size")
            if seen != (size := 1 if self.plan.apart else self.plan.world_size):
                return Failure(
                    host=self.host_of(slot) or "",
                    reason=f"rank {slot} sees a world of {seen}, the plan has "
                    f"{size}; ranks would train apart",
                )
        return None

    def weights_problem(self) -> Failure | None:
        """Ranks that ended with different weights though they are of one class of machine."""
        digests: dict[tuple[str, str], tuple[int, str]] = {}
        if self.plan.apart:
            return None
        for slot, event in sorted(self.finished.items()):
            ready = self.ready.get(slot, event)
            kind = (ready.text("device").split(":")[0], ready.text("torch"))
            first, digest = digests.setdefault(kind, (slot, event.text("digest")))
            if digest != event.text("digest"):
                return Failure(
                    host=self.host_of(slot) or "",
                    reason=f"rank {slot} ended with other weights than rank {first}",
                )
        return None

    @property
    def samples_done(self) -> int:
        """As the newest step tells it."""
        return (self.step.count("samples_done") or 0) if self.step else 0

    def figures(self) -> dict[str, Any]:
        """The columns of the job's row that steps tell."""
        if self.step is None:
            return {}
        values: dict[str, Any] = {
            "loss": self.step.number("loss"),
            "first_loss": self.first_loss,
            "samples_per_s": self.step.number("samples_per_s"),
            "eta_s": self.step.number("eta_s"),
        }
        for key in ("step", "max_steps", "samples_done", "samples_total", "world_size"):
            value = self.step.count(key)
            if value is not None and value <= self._most.get(key, value):
                values[key] = value
        return values

    @property
    def _most(self) -> dict[str, int]:
        """The most that the plan allows; workers may train less, when they skip rows. Where only
        they can count the rows, the plan allows whatever they say."""
        steps = self.plan.max_steps or _UNCOUNTED_STEPS
        samples = steps * self.plan.global_batch
        return {
            "step": steps,
            "max_steps": steps,
            "samples_done": samples,
            "samples_total": samples,
        }

    def _is_possible(self, step: Event) -> bool:
        if any((step.count(key) or 0) > self._most[key] for key in ("step", "samples_done")):
            return False
        return all(
            low <= value <= high
            for key, (low, high) in _LIMITS.items()
            if (value := step.number(key)) is not None
        )

    def _take_step(self, event: Event) -> None:
        step, newest = event.count("step"), self.step.count("step") if self.step else None
        if step is None or not self._is_possible(event) or (newest is not None and step < newest):
            return
        self.step = event
        self.steps_heard += 1
        if self.first_loss is None:
            self.first_loss = event.number("loss")

    def _take_stuck(self, host: str, event: Event) -> None:
        slot = event.count("of_slot")
        if slot is None or self.host_of(slot) != host:
            return
        self.stuck.pop(slot, None)
        if event.kind != "unstuck":
            self.stuck[slot] = f"rank {slot}: {clean(event.text('reason'))}"

    def _take_exit(self, host: str, event: Event) -> None:
        """A rank that had said its last word may crash while its libraries unload."""
        slot = event.count("of_slot")
        if slot is None or self.host_of(slot) != host:
            return
        self.stuck.pop(slot, None)
        if event.data.get("code") != 0 and slot not in (*self.finished, *self.stopped):
            self._fail(host, f"rank {slot}: {clean(event.text('reason'))}", event)

    def _fail(self, host: str, reason: str, event: Event) -> None:
        traceback = "\n".join(clean_lines(event.text("traceback")))
        distance = 2 if _lost_peer(traceback or reason) else 0 if traceback else 1
        if event.data.get("foreseen") is True:
            traceback = ""  # its log has it
        self.failures.append(
            Failure(
                host=host,
                reason=reason,
                traceback=traceback,
                distance=distance,
                foreseen=event.data.get("foreseen") is True,
                gone=host in self.wanted_back,
            )
        )

    def lose_agent(self, host: str) -> None:
        """Takes note that the agent of `host` is gone and everything that it said is known."""
        if host not in self.agents_finished:
            reason = "its agent is gone: it was killed, or the host restarted"
            self.lost[host] = reason
            self.failures.append(Failure(host=host, reason=reason, gone=True))

    def await_again(self, host: str) -> None:
        """Its agent is launched anew in this generation: what its ranks said before is no news."""
        for worker in self.plan.workers:
            if worker.host == host:
                for rank in worker.ranks:
                    self.ready.pop(rank.slot, None)
        self._take_back(host)

    def _take_back(self, host: str) -> None:
        self.lost.pop(host, None)
        self.wanted_back.discard(host)
        self.agents_finished.pop(host, None)
        self.failures = [failure for failure in self.failures if failure.host != host]

    def has_saved_the_last_step(self, host: str) -> bool:
        """Whether a rank of this host has stopped at a step beyond which no other rank goes."""
        return any(
            self.host_of(slot) == host and event.data.get("together") is True
            for slot, event in self.stopped.items()
        )

    def is_ready(self, host: str) -> bool:
        """Whether all ranks of a host take part."""
        return all(rank.slot in self.ready for rank in self.plan.worker(host).ranks)

    @property
    def has_begun(self) -> bool:
        """Whether this generation has committed a step, or was about to."""
        return self.step is not None or self.all_ready

    @property
    def all_step(self) -> bool:
        """Whether everybody who was planned took part in the newest step that was heard of."""
        if self.step is None:
            return False
        return not self.plan.is_elastic or self.step.count("world_size") == self.plan.world_size

    @property
    def step_s(self) -> float:
        """How long a step takes, as far as it was told."""
        speed = self.step.number("samples_per_s") if self.step else None
        return self.plan.global_batch / speed if speed else 0.0

    @property
    def failure(self) -> Failure | None:
        """The failure to show: the first of those that are nearest to the cause. One rank's death
        makes its peers' collectives fail; theirs is not the cause. None while an elastic job can go
        on: it has begun, and not every worker is lost."""
        if self.plan.is_elastic and self._others_go_on:
            return None
        return min(self.failures, key=lambda failure: failure.distance, default=None)

    @property
    def _others_go_on(self) -> bool:
        there = {worker.host for worker in self.plan.workers} - self.lost.keys()
        return not self.lost or (self.has_begun and bool(there))

    @property
    def cause_is_known(self) -> bool:
        return any(failure.distance == 0 for failure in self.failures)


def _lost_peer(text: str) -> bool:
    signs = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "gloo")
    return any(sign in text for sign in signs)
