"""What goes wrong with a run whose ranks live: too much memory, no steps, no room on the disk.
Looks once a second and says what must happen; ends nobody itself."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from remote import processes
from remote.disk import Room
from remote.ending import dumped_stack
from remote.events import EventWriter
from remote.launch import Launch
from remote.limits import Memory, sized
from remote.processes import FAULT_SIGNAL
from remote.pulse import (
    COMPILED_ENDED_AFTER_S,
    ENDED_AFTER_S,
    Attention,
    Doing,
    Stall,
    read_pulse,
)
from remote.remains import COOKIE
from remote.run import Run

LOOK_S = 1.0


class Problem(StrEnum):
    """Why a rank was ended, or ended, apart from its own mistakes."""

    OUT_OF_MEMORY = "out_of_memory"
    STUCK = "stuck"
    WANTED_BACK = "wanted_back"  # somebody on the host ended the agent: it is needed otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A rank that must be ended: the pid of its launcher, and the sentence that says why."""

    launcher: int
    problem: Problem
    reason: str


class Health:
    """Looks after the living ranks of one run, and tells in the agent's events what it sees."""

    def __init__(self, run_dir: Path, run: Run, events: EventWriter, memory: Memory) -> None:
        self._run_dir = run_dir
        self._run = run
        self._events = events
        self._memory = memory
        self._room = Room(run_dir)
        patience_s = COMPILED_ENDED_AFTER_S if run.train.torch_compile else ENDED_AFTER_S
        self._attention = Attention(longest_look_s=2 * LOOK_S, ended_after_s=patience_s)
        self._stalls: dict[int, tuple[Stall, int]] = {}  # by slot, told with their stacks
        self._look_at = 0.0
        self.shortage: str | None = None
        """Why the run has to pause, once the disk has no more room for it."""

    def look(self, launches: Mapping[int, Launch], now: float) -> list[Verdict]:
        """Who must be ended, by the pid of the launcher that `launches` is keyed by."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_S
        self._look_at_disk()
        hungry = self._over_the_limit(launches)
        return hungry or self._hopeless(launches, now)

    def last_word(self) -> None:
        """Makes sure that what was told can be read, however full the disk is."""
        if not self._events.catch_up():
            self._room.give()
            self._events.catch_up()

    def close(self) -> None:
        self._room.give()

    def _look_at_disk(self) -> None:
        shortage = self._room.shortage()
        if shortage is not None and self.shortage is None:
            free, needed = shortage
            self.shortage = (
                f"the disk of {self._run.host} is full: {sized(free)} free in {self._run_dir}, "
                f"{sized(needed)} needed"
            )
            self._events.emit(
                "disk_full", reason=self.shortage, free_bytes=free, needed_bytes=needed
            )
        self.last_word()

    def _over_the_limit(self, launches: Mapping[int, Launch]) -> list[Verdict]:
        """The rank that uses the most, when all together use more than the run may."""
        if not self._memory.is_watched or not launches:
            return []
        table = processes.process_table()
        used = self._memory.excess_bytes(processes.descendants([os.getpid()], table))
        if used is None:
            return []

        def use_of(launcher: int) -> int:
            return processes.own_bytes({launcher, *processes.descendants([launcher], table)})

        return [
            Verdict(
                launcher=max(launches, key=use_of),
                problem=Problem.OUT_OF_MEMORY,
                reason=self._memory.told(used),
            )
        ]

    def _hopeless(self, launches: Mapping[int, Launch], now: float) -> list[Verdict]:
        """Names the ranks that take no steps; who must be ended for it."""
        self._tell_stacks(launches)
        by_slot = {launch.rank.slot: pid for pid, launch in launches.items()}
        pulses = {
            launch.rank.slot: read_pulse(self._run_dir, launch.rank.slot, launch.attempt)
            for launch in launches.values()
        }
        stopped = [slot for slot, beat in pulses.items() if beat and _is_stopped(beat.pid)]
        verdicts = []
        for stall in self._attention.look(pulses, now, stopped):
            if stall.is_over:
                self._stalls.pop(stall.slot, None)
                self._events.emit("unstuck", of_slot=stall.slot, seconds=round(stall.seconds, 1))
            elif stall.is_hopeless:
                reason = f"stuck: {self._told(stall)}"
                launcher = by_slot[stall.slot]
                verdicts.append(Verdict(launcher=launcher, problem=Problem.STUCK, reason=reason))
            else:
                self._ask_for_stack(stall, launches[by_slot[stall.slot]])
        return verdicts

    def _ask_for_stack(self, stall: Stall, launch: Launch) -> None:
        """A rank writes where it stands into its log when it gets this signal: see remote.train."""
        log = launch.log
        self._stalls[stall.slot] = stall, log.stat().st_size if log.exists() else 0
        identity = processes.identify(stall.beat.pid)
        if identity and processes.environment_holds(identity.pid, COOKIE, str(self._run_dir)):
            processes.send_signal(identity, FAULT_SIGNAL)

    def _tell_stacks(self, launches: Mapping[int, Launch]) -> None:
        for launch in launches.values():
            if launch.rank.slot not in self._stalls:
                continue
            stall, size = self._stalls.pop(launch.rank.slot)
            waits = stall.beat.doing is Doing.WAITING and not _is_stopped(stall.beat.pid)
            self._events.emit(
                "waiting" if waits else "stuck",
                of_slot=stall.slot,
                of_attempt=launch.attempt,
                step=stall.beat.step,
                seconds=round(stall.seconds, 1),
                median_s=round(stall.beat.median_s, 3),
                reason=self._told(stall),
                stack=dumped_stack(launch.log, size),
            )

    def _told(self, stall: Stall) -> str:
        beat = stall.beat
        if _is_stopped(beat.pid):
            doing = "a signal has stopped it"
        elif beat.doing is Doing.WAITING:
            doing = "it waits for the other ranks"
        else:
            doing = "it computes"
        return (
            f"no step for {stall.seconds:.0f} s after step {beat.step}, where one takes "
            f"{beat.median_s:.2g} s; {doing}"
        )


def _is_stopped(pid: int) -> bool:
    process = processes.read_process(pid)
    return process is not None and process.stopped
