"""Ranks that may join, die, freeze or be cut off between any two steps.

A lighthouse tells who is there; every rank rules by what all said about themselves who takes the
next step (`quorum`), the members meet in a gloo group of their own (`group`), and those who differ
are healed before they compute. No step is committed by fewer than a majority of the last one's
members: the rest waits, and only a higher generation in run.json releases it.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from remote.control import Action
from remote.engine import (
    DismissedError,
    MemberLostError,
    Members,
    State,
    StepLost,
    Tally,
    WorldError,
)
from remote.engine.group import Abandoned, Group, GroupLostError, OwnStore, Pace
from remote.engine.heal import copy_over, heal
from remote.engine.loading import tell_loading
from remote.engine.lookout import PAUSE_S, SILENT_S, Answer, Lookout
from remote.engine.memory import Memory
from remote.engine.orders import PATIENCE_S, Orders
from remote.engine.quorum import (
    Go,
    Left,
    Replaced,
    Shrink,
    Superseded,
    Unequal,
    Wait,
    missing_from,
    rule,
)
from remote.engine.shares import Shares
from remote.engine.sidelight import Sidelight
from remote.engine.voice import Record, Voice
from remote.engine.waiting import Waiting
from remote.engine.words import row_of, word_of
from remote.run import Lighthouse, Rank, Run

NO_STATE = -1  # the step of a rank whose state no longer counts


class ElasticEngine:
    heals = True

    def __init__(
        self,
        run: Run,
        own: Rank,
        *,
        run_dir: Path,
        launch: int,
        lighthouses: Sequence[Lighthouse],
        say: Callable[[str], None],
        wanted: Callable[[], Action],
    ) -> None:
        """`wanted` says what the coordinator wants of this rank now."""
        self._run = run
        self._own = own
        self._say = say
        self._launch = launch
        self._replica = f"{own.slot}.{launch}.{uuid.uuid4().hex}"
        self._store = OwnStore(own.address)
        self._sidelight = Sidelight(own.address)
        self._lighthouses = tuple(lighthouses)
        self._lookout = Lookout(lighthouses, self._replica, say)
        self._orders = Orders(wanted)
        self._leaving = False
        self._memory = Memory(run, run_dir, own.slot)
        self._group: Group | None = None
        self._abandoned = Abandoned()
        self._pace = Pace()
        self._voices: tuple[Voice, ...] = ()  # of our group's members, by place
        self._said: Voice | None = None
        self._turn = 0  # counts the collectives of the group, so that all add up the same one
        self._settled_step = NO_STATE
        self._shares = Shares(run.train.global_batch, [0.0])
        self._staging = torch.empty(0)
        self._waiting = Waiting(run, self._job, lighthouses, say)

    def say_alive(self) -> None:
        """Tells those who are ready that this rank is loading; nobody waits for it in a job that
        runs."""
        tell_loading(self._lighthouses, self._job, self._own.slot)

    def join(self) -> None:
        """From now on this rank is waited for. Who is planned and silent is told by `settle`."""
        if not self._lookout.begin(self._run.start_timeout_s, self._orders.obey):
            raise WorldError(
                f"no lighthouse answered {self._own.host} for {self._run.start_timeout_s:g} s: "
                f"{self._lookout.where}; see the logs of the agents there, and whether their "
                "firewalls admit this host"
            )

    def leave(self) -> None:
        self._leaving = True

    def settle(self, state: State) -> Members:
        self._note_commit(state)
        self._waiting.begin()
        waiting_since = time.monotonic()
        while True:
            own = self._voice(state)
            answer = self._lookout.ask(own, self._orders.obey)
            if own not in answer.voices:
                continue  # an answer to what we said earlier
            if any(voice.back for voice in answer.voices):
                self._come_back()
            ruling = rule(answer.voices, own)
            match ruling:
                case Go():
                    self._memory.confirm(ruling.record)
                    if ruling.aside:
                        self._lookout.ask_aside()
                    if self._take_part(answer.quorum_id, ruling, state):
                        self._waiting.is_over()
                        self._settled_step = state.step
                        self._shares.begin_step()
                        return self.members()
                case Wait():
                    if not ruling.at_once:
                        waiting_since = self._wait(ruling, answer, waiting_since)
                case Shrink():
                    self._take_record(ruling.record)
                    if not own.leaving:
                        self._lookout.greet(ruling.keeper)
                case Left():
                    self._take_record(ruling.record)
                    self._lookout.close()  # the sooner it is forgotten
                    raise DismissedError(Action.LEAVE)
                case Superseded():
                    self._follow(ruling.record, "another rank has")
                case Replaced():
                    raise WorldError(f"slot {self._own.slot} has a later process; this one leaves")
                case Unequal():
                    raise WorldError(ruling.sentence)

    def members(self) -> Members:
        ranks = tuple(voice.rank(place) for place, voice in enumerate(self._voices))
        own = next((rank for rank in ranks if rank.slot == self._own.slot), self._own)
        return Members(ranks=ranks or (own,), own=own, weights=self._shares.weights)

    def reduce(self, flat: torch.Tensor, tally: Tally) -> Tally | StepLost:
        """Sums `flat` in place; after a StepLost it is as it was, because gloo only ever saw a
        copy."""
        members = self.members()
        tally = self._shares.with_speed(tally, members.place)
        try:
            group = self._gather("sum")
            if self._staging.shape != flat.shape or self._staging.dtype != flat.dtype:
                self._staging = torch.empty(
                    flat.shape, dtype=flat.dtype, pin_memory=flat.device.type == "cuda"
                )
            self._staging.copy_(flat)
            vector = tally.vector()
            began = time.monotonic()
            group.sum(self._staging, vector, limit_s=self._pace.limit_s(self._staging.nbytes))
            took_s = time.monotonic() - began
        except GroupLostError as error:
            return StepLost(reason=self._lose(error))
        self._pace.add(self._staging.nbytes, took_s)
        flat.copy_(self._staging)
        total = Tally.of_vector(vector)
        self._shares.deal_by(total.speeds)
        return total

    def exchange(self, word: str) -> dict[int, str]:
        own = row_of(word)
        try:
            group = self._gather("words")
            rows = group.collect(own, self._pace.limit_s(own.nbytes * group.size))
        except GroupLostError as error:
            raise MemberLostError(self._lose(error)) from error
        return {voice.slot: word_of(row) for voice, row in zip(self._voices, rows, strict=True)}

    def copy_from_first(self, flat: torch.Tensor) -> None:
        try:
            group = self._gather("copy")
            received = copy_over(group, flat.clone() if group.rank == 0 else None, self._pace)
        except GroupLostError as error:
            raise MemberLostError(self._lose(error)) from error
        flat.copy_(received)

    def close(self) -> None:
        self._lookout.close()
        self._leave_group()

    def _voice(self, state: State) -> Voice:
        """What we say when a step may begin."""
        self._said = Voice(
            job=self._job,
            replica=self._replica,
            slot=self._own.slot,
            launch=self._launch,
            host=self._own.host,
            address=self._own.address,
            gpu=self._own.gpu,
            store_port=self._store.port,
            step=NO_STATE if self._memory.dropped else state.step,
            digest="" if self._memory.dropped else state.digest(),
            numerics=state.numerics,
            terms=dict(state.terms),
            holds=self._memory.holds,
            record=self._memory.record,
            attempt=self._memory.attempt,
            group=self._group.key if self._group else "",
            group_size=self._group.size if self._group else 0,
            speed=self._shares.own_speed,
            # At a sidelight all are because of another, who has to be forgotten first.
            leaving=self._leaving and not self._lookout.is_aside,
            sidelight=self._sidelight.port,
            greeted=self._lookout.greeted,
            back=self._lookout.may_come_back,
        )
        return self._said

    @property
    def _job(self) -> str:
        return f"{self._run.job}.{self._run.nonce}"

    def _take_part(self, quorum_id: int, ruling: Go, state: State) -> bool:
        """Meets the members and brings those who differ to the source's state; False when somebody
        went away meanwhile."""
        try:
            if ruling.fresh_group:
                self._meet(quorum_id, ruling)
            assert self._group is not None
            if ruling.patients and heal(ruling, self._group, state, self._pace, self._abandoned):
                self._memory.dropped = False
                self._say(f"took over the weights of step {state.step} from {ruling.source.name}")
        except GroupLostError as error:
            self._lose(error)
            return False
        self._memory.keep(ruling.record)
        self._memory.holds = True
        return True

    def _meet(self, quorum_id: int, ruling: Go) -> None:
        self._leave_group()
        self._memory.attempt = ruling.attempt + 1
        self._voices = ruling.members
        self._turn = 0
        first = ruling.members[0]
        slots = [voice.slot for voice in ruling.members]
        self._group = Group(
            f"{ruling.record.generation}/{quorum_id}/{self._memory.attempt}",
            first.address,
            first.store_port,
            self._own.address,
            slots.index(self._own.slot),
            len(slots),
            self._pace.meeting_s,
        )
        self._shares = Shares(
            self._run.train.global_batch,
            [voice.speed for voice in ruling.members],
            self._shares.own_speed,
        )
        if self._settled_step != NO_STATE or len(slots) != len(self._run.world):
            names = ", ".join(voice.name for voice in ruling.members)
            self._say(f"the next step is shared by {len(slots)}: {names}")

    def _gather(self, kind: str) -> Group:
        """Waits until every member has computed its part. Who dies meanwhile is found by its
        heartbeats, so the collective itself is only given the time that its bytes need."""
        if self._group is None or self._said is None:
            raise GroupLostError("there is no group")
        self._turn += 1
        own = replace(
            self._said,
            doing=f"{kind} {self._turn}",
            group=self._group.key,
            group_size=self._group.size,
        )
        while own not in (answer := self._lookout.ask(own, self._obey_in_a_step)).voices:
            continue
        if missing := missing_from(answer.voices, own, self._voices):
            raise GroupLostError(f"{', '.join(voice.name for voice in missing)} is gone")
        return self._group

    def _lose(self, error: GroupLostError) -> str:
        if error.gave_up:
            self._pace.gave_up()
        others = [voice.name for voice in self._voices if voice.slot != self._own.slot]
        self._leave_group()
        reason = f"the sum with {', '.join(others)} broke off ({error})"
        self._say(f"{reason}; those who are there go on")
        return reason

    def _leave_group(self) -> None:
        if self._group is not None:
            self._abandoned.take(self._group)
            self._group = None
            self._staging = torch.empty(0)  # gloo may still write into the old one

    def _note_commit(self, state: State) -> None:
        """A step was committed since we last asked: those who added it up are the ones of whom the
        next needs a majority."""
        if self._memory.holds and not self._memory.dropped and state.step > self._settled_step:
            slots = tuple(voice.slot for voice in self._voices)
            self._memory.keep(self._memory.record.after_commit(self._memory.attempt, slots))

    def _wait(self, ruling: Wait, answer: Answer, since: float) -> float:
        """Waits for an instant, and returns since when the lighthouse has been giving nothing."""
        now = time.monotonic()
        self._waiting.tell(ruling, answer.voices, self._memory.record.members)
        if record := self._memory.released():
            self._follow(record, f"the supervisor released {len(record.members)} ranks")
        self._orders.obey(alone=True)
        self._leaving = self._leaving or self._orders.wanted is Action.LEAVE
        time.sleep(PAUSE_S)
        # Before the start all stay where the others will look for them.
        joins = self._memory.holds or self._launch > 1
        if now - since <= (SILENT_S if joins else self._run.start_timeout_s / 4):
            return since
        self._lookout.move_on()
        return now

    def _come_back(self) -> None:
        """All who were in the answer do, so that they meet at the usual lighthouse."""
        if self._lookout.greeted == self._replica:
            self._sidelight.renew()
        self._lookout.come_back()

    def _obey_in_a_step(self) -> None:
        """The others wait for this rank's part of the sum, unless there is no one to tell it to."""
        self._orders.obey(awaited=self._lookout.silent_for_s <= PATIENCE_S[Action.STOP])

    def _take_record(self, record: Record) -> None:
        """What was agreed on without a step; a group of the old members is none any more."""
        self._memory.keep(record)
        self._memory.attempt = max(self._memory.attempt, record.attempt)
        self._leave_group()

    def _follow(self, record: Record, why: str) -> None:
        self._say(f"going on as generation {record.generation}: {why}")
        self._memory.follow(record)
        if self._memory.dropped:
            self._say(
                f"generation {record.generation} has begun without slot {self._own.slot}: what it "
                "holds of an earlier one no longer counts"
            )
        self._leave_group()
