"""Who may take a step: the rule alone, and worlds of it that crash, split and heal at random."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from remote.engine.quorum import (
    Go,
    Left,
    Replaced,
    Shrink,
    Superseded,
    Unequal,
    Wait,
    is_majority,
    missing_from,
    rule,
)
from remote.engine.voice import Record, Voice


def record(*members: int, **more: Any) -> Record:
    return Record(**{"generation": 1, "members": members, "before": members, **more})


def voice(slot: int, **more: Any) -> Voice:
    usual = {
        "job": "j",
        "replica": f"{slot}.{more.get('launch', 1)}",
        "slot": slot,
        "launch": 1,
        "host": f"w{slot + 1}",
        "address": "127.0.0.1",
        "gpu": None,
        "store_port": 1,
        "step": 5,
        "digest": "same",
        "numerics": "cpu",
        "terms": {"rows": "60"},
        "holds": True,
        "record": record(0, 1, 2),
        "attempt": 1,
    }
    return Voice(**{**usual, **more})


def go(*voices: Voice) -> Go:
    ruling = rule(voices, voices[0])
    assert isinstance(ruling, Go), ruling
    assert all(rule(voices, voice) == ruling for voice in voices)
    return ruling


@pytest.mark.parametrize(
    ("present", "of", "enough"),
    [
        ((0, 1), (0, 1, 2), True),
        ((2,), (0, 1, 2), False),
        ((0,), (0, 1), True),
        ((1,), (0, 1), False),
        ((1, 4), (1, 2, 3, 4), True),
        ((3, 2), (1, 2, 3, 4), False),
        ((0, 5, 6, 7), (0, 1, 2), False),
    ],
)
def test_more_than_half_or_the_half_with_the_lowest_slot(present, of, enough):
    assert is_majority(present, of) is enough


def test_a_voice_survives_the_wire_and_what_is_none_is_passed_over():
    said = voice(1, gpu=0, record=record(0, 1, attempt=4), sidelight=9)
    assert Voice.of_data(json.loads(json.dumps(said.data()))) == said
    older = {key: value for key, value in said.data().items() if key != "sidelight"}
    assert Voice.of_data(older) == replace(said, sidelight=0)  # of a payload that knew of none
    assert Voice.of_data({"slot": 1}) is None
    assert Voice.of_data(None) is None
    assert Voice.of_data({**said.data(), "record": {"members": "x"}}) is None


def test_a_start_waits_for_every_planned_slot():
    fresh = [voice(slot, holds=False, step=0) for slot in range(3)]
    ruling = rule(fresh[:2], fresh[0])
    assert isinstance(ruling, Wait)
    assert ruling.absent == (2,)
    assert [member.slot for member in go(*fresh).members] == [0, 1, 2]


def test_a_rank_that_lost_its_memory_counts_only_when_nobody_is_missing():
    restarted = voice(1, launch=2, holds=False, step=0)
    ruling = rule([voice(2), restarted], restarted)
    assert isinstance(ruling, Wait)
    assert ruling.absent == (0,)
    assert go(voice(0), voice(2), restarted).patients == (restarted,)


def test_what_a_process_left_on_disk_about_the_members_outlives_it():
    grown = record(0, 1, 3, 4, attempt=9)
    restarted = [voice(s, launch=2, holds=False, step=0, record=grown) for s in (0, 1)]
    long_away = voice(2, step=5, record=record(0, 1, 2, attempt=1))
    ruling = rule([*restarted, long_away], long_away)
    assert isinstance(ruling, Wait)
    assert ruling.absent == (3, 4)


def test_who_joined_cannot_go_on_without_those_who_never_heard_of_them():
    joined = record(0, 1, 2, 3, attempt=2)
    heard = voice(3, step=6, record=replace(joined, before=(0,)))
    others = [voice(slot, record=record(0)) for slot in (1, 2)]
    ruling = rule([heard, *others], heard)
    assert isinstance(ruling, Wait)
    assert ruling.absent == (0,)
    assert go(voice(0, record=record(0))).members[0].slot == 0


def test_the_highest_step_is_the_source_and_of_two_versions_the_later_one():
    behind, ahead = voice(0, step=5), voice(1, step=6)
    ruling = go(behind, ahead, voice(2, step=6))
    assert (ruling.source, ruling.patients) == (ahead, (behind,))
    void = voice(0, digest="void", record=record(0, 1, 2, attempt=3))
    redone = [voice(slot, record=record(1, 2, attempt=4)) for slot in (1, 2)]
    ruling = go(void, *redone)
    assert (ruling.source, ruling.patients) == (redone[0], (void,))


def test_equal_steps_with_other_weights_are_healed_within_a_kind_of_numerics():
    strange = voice(2, digest="other")
    assert go(voice(0), voice(1), strange).patients == (strange,)
    gpu = voice(2, digest="other", numerics="cuda")
    assert go(voice(0), voice(1), gpu).patients == ()
    broken = voice(3, digest="third", numerics="cuda")
    assert go(voice(0), voice(1), gpu, broken).patients == (gpu, broken)


def test_a_group_is_kept_while_all_of_it_are_there_and_nobody_else():
    grouped = [voice(slot, group="1/1/1", group_size=3) for slot in range(3)]
    assert not go(*grouped).fresh_group
    assert go(*grouped[:2]).fresh_group
    assert go(*grouped, voice(3, holds=False)).fresh_group
    assert go(*grouped[:2], voice(2)).fresh_group


def test_a_joiner_asks_again_while_the_others_add_up():
    busy = [voice(slot, group="1/1/1", group_size=2, doing="sum 1") for slot in (0, 1)]
    joiner = voice(2, holds=False)
    ruling = rule([*busy, joiner], joiner)
    assert isinstance(ruling, Wait)
    assert ruling.at_once
    assert missing_from([*busy, joiner], busy[0], busy) == []
    assert missing_from([busy[0], joiner], busy[0], busy) == [busy[1]]


def test_a_higher_generation_supersedes_and_a_later_process_replaces():
    newer = voice(1, record=record(1, generation=2))
    older = voice(0)
    assert rule([older, newer], older) == Superseded(record=newer.record)
    assert [member.slot for member in go(newer).members] == [1]
    assert rule([voice(0), voice(0, launch=2), voice(1)], voice(0)) == Replaced()


def test_another_job_on_the_same_lighthouse_is_not_heard():
    stranger = voice(7, job="another", record=record(7, generation=9))
    ruling = rule([stranger, voice(0), voice(1)], voice(0))
    assert isinstance(ruling, Go)
    assert [member.slot for member in ruling.members] == [0, 1]


def test_other_data_are_refused_by_all_at_the_start_and_by_the_joiner_later():
    odd = voice(1, holds=False, terms={"rows": "61"})
    start = [voice(0, holds=False), odd, voice(2, holds=False)]
    assert {type(rule(start, own)) for own in start} == {Unequal}
    running = [voice(0), voice(2), odd]
    assert isinstance(rule(running, odd), Unequal)
    ruling = rule(running, running[0])
    assert isinstance(ruling, Go)
    assert [member.slot for member in ruling.members] == [0, 2]


def adopted(record: Record, voices: Sequence[Voice]) -> list[Voice]:
    return [replace(said, record=record, attempt=record.attempt) for said in voices]


def test_who_leaves_is_not_needed_by_the_others_even_when_it_has_the_lowest_slot():
    both = record(0, 1, attempt=1)
    said = [voice(0, record=both, leaving=True), voice(1, record=both)]
    shrink = rule(said, said[0])
    assert isinstance(shrink, Shrink)
    assert rule(said, said[1]) == shrink
    said = adopted(shrink.record, said)
    left, ruling = rule(said, said[0]), rule(said, said[1])
    assert isinstance(left, Left)
    assert isinstance(ruling, Go)
    assert [member.slot for member in ruling.members] == [1]
    alone = replace(said[1], record=ruling.record)
    assert isinstance(rule([alone], alone), Go)
    returned = replace(said[0], leaving=False)
    assert isinstance(rule([returned], returned), Wait)


def test_those_who_stay_ask_aside_only_if_all_of_them_are_counted_there():
    said = [voice(slot, leaving=slot == 0) for slot in range(3)]
    shrink = rule(said, said[2])
    assert isinstance(shrink, Shrink)
    assert shrink.keeper == said[1]
    for greeted, aside in (("1.1", True), ("1.0", False), ("", False)):
        said = adopted(shrink.record, said)
        heard = [said[0], replace(said[1], greeted="1.1"), replace(said[2], greeted=greeted)]
        rulings = [rule(heard, own) for own in heard[1:]]
        assert [isinstance(each, Go) and each.aside for each in rulings] == [aside, aside]


def test_a_leave_that_only_one_side_heard_of_lets_nobody_go_on_alone():
    both = record(0, 1, attempt=1)
    said = [voice(0, record=both, leaving=True), voice(1, record=both)]
    shrink = rule(said, said[0])
    assert isinstance(shrink, Shrink)
    [heard] = adopted(shrink.record, said[1:])
    assert isinstance(rule([heard], heard), Wait)
    assert isinstance(rule([said[0], heard], heard), Go)  # it comes to it by another step


def test_the_last_one_stays_and_who_holds_the_newest_step_leaves_after_it_gave_it_on():
    last = voice(0, record=record(0), leaving=True)
    assert isinstance(rule([last], last), Go)
    unequal = [voice(0, step=6, leaving=True), voice(1), voice(2)]
    assert [member.slot for member in go(*unequal).members] == [0, 1, 2]
    restarted = voice(1, launch=2, holds=False, step=0, record=record(1, attempt=2))
    assert go(voice(0, record=record(1, attempt=2), leaving=True), restarted).patients == (
        restarted,
    )


class Walk:
    """Ranks in memory that crash, start again, are cut off, join, leave, and commit steps of which
    only some hear; the rule alone decides what they do."""

    def __init__(self, seed: int, planned: int) -> None:
        self.chance = random.Random(seed)
        self.planned = tuple(range(planned))
        self.numbers = count()
        self.history: dict[int, tuple[int, ...]] = {}  # of the living: the steps they committed
        self.voices: dict[int, Voice] = {}
        self.disks: dict[int, Record] = {}
        self.launches: dict[int, int] = {}
        self.cells: list[set[int]] = [set(range(6))]
        self.acknowledged: tuple[int, ...] = ()
        self.went: list[int] = []  # the cells that took a step since the last change of the cells
        self.let_go: set[int] = set()
        self.steps = self.leaves = 0
        for slot in self.planned:
            self.launch(slot)

    def launch(self, slot: int) -> None:
        self.launches[slot] = self.launches.get(slot, 0) + 1
        known = tuple(sorted({*self.planned, slot}))
        self.history[slot] = ()
        self.voices[slot] = voice(
            slot,
            launch=self.launches[slot],
            replica=f"{slot}.{self.launches[slot]}",
            holds=False,
            step=0,
            digest="()",
            record=self.disks.get(slot, record(*known)),
            attempt=0,
        )

    def happen(self) -> None:
        happenings = {"step": 10, "crash": 1.5, "launch": 2, "split": 1, "heal": 1, "leave": 3}
        match self.chance.choices([*happenings], [*happenings.values()])[0]:
            case "leave" if self.voices:
                slot = self.chance.choice(sorted(self.voices))
                self.voices[slot] = replace(self.voices[slot], leaving=True)
            case "crash" if self.voices:
                slot = self.chance.choice(sorted(self.voices))
                del self.voices[slot], self.history[slot]
            case "launch":
                slot = self.chance.randrange(6)
                if slot not in self.voices and (slot in self.planned or self.steps):
                    self.launch(slot)
            case "split":
                cells: list[set[int]] = [set(), set(), set()]
                for slot in range(6):
                    self.chance.choice(cells[: self.chance.choice([2, 3])]).add(slot)
                self.cells, self.went = cells, []
            case "heal":
                self.cells, self.went = [set(range(6))], []
            case _:
                number = self.chance.randrange(len(self.cells))
                self.step(number, [s for s in sorted(self.cells[number]) if s in self.voices])

    def step(self, cell: int, slots: Sequence[int]) -> None:
        heard = [self.voices[slot] for slot in slots]
        if not heard:
            return
        rulings = [rule(heard, own) for own in heard]
        for own, said in zip(heard, rulings, strict=True):
            match said:
                case Shrink() if self.chance.random() < 0.5:
                    self.become(own.slot, self.history[own.slot], said.record, said.record.attempt)
                case Left():
                    self.let_go.add(own.slot)  # what it holds is not asked for any more
            match said:
                case Left() if self.chance.random() < 0.7:
                    self.disks[own.slot] = said.record
                    del self.voices[own.slot], self.history[own.slot]
                    self.leaves += 1
        goes = [ruling for ruling in rulings if isinstance(ruling, Go)]
        if not goes or self.chance.random() < 0.05:  # their lighthouse dies in the middle of it
            return
        ruling = goes[0]
        assert all(other == ruling for other in goes)
        lineage = self.history[ruling.source.slot]
        size = len(self.acknowledged)
        self.let_go -= {member.slot for member in ruling.members}
        asked = [known for slot, known in self.history.items() if slot not in self.let_go]
        if any(known[:size] == self.acknowledged for known in asked):
            assert lineage[:size] == self.acknowledged, "an acknowledged step was lost"
        assert set(self.went) <= {cell}, "two sides took a step at the same time"
        self.went.append(cell)
        attempt = ruling.attempt + 1
        members = [member.slot for member in ruling.members]
        patients = {member.slot for member in ruling.patients}
        if patients and self.chance.random() < 0.3:  # the source goes away while it heals them
            for slot in members:
                if slot not in patients or self.chance.random() < 0.3:
                    self.become(slot, lineage, ruling.record, attempt)
            return
        self.acknowledged = lineage
        number = next(self.numbers)
        for slot in members:
            hears = self.chance.random() < 0.8 or self.chance.random() < 0.5
            self.become(slot, lineage, ruling.record, attempt)
            if hears:
                new = ruling.record.after_commit(attempt, members)
                self.become(slot, (*lineage, number), new, attempt)
        self.steps += 1

    def become(self, slot: int, lineage: tuple[int, ...], new: Record, attempt: int) -> None:
        self.history[slot], self.disks[slot] = lineage, new
        self.voices[slot] = replace(
            self.voices[slot],
            holds=True,
            step=len(lineage),
            digest=str(lineage[-1:]),
            record=new,
            attempt=attempt,
        )


@pytest.mark.parametrize("planned", [1, 2, 3, 4])
def test_never_do_two_sides_take_a_step_nor_is_an_acknowledged_one_lost(planned):
    steps = leaves = 0
    for seed in range(300):
        walk = Walk(seed, planned)
        for _ in range(60):
            walk.happen()
        steps += walk.steps
        leaves += walk.leaves
    assert steps > 300 * 5
    assert leaves > 300 * (planned > 1) / 10
