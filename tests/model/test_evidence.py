"""What ranks measured and compared of themselves, as it is shown."""

from typing import Any

import pytest

from sollol_tui.model.evidence import Said, speed_of, weights_of

SPEED: dict[str, Any] = {
    "step": 120, "steps": 12, "samples_per_s": 14.8, "step_s": 8.6, "adding_s": 0.63,
    "waiting_s": 0.12, "slowest_host": "attic", "slowest_slot": 2, "best_host": "hydra",
    "speedup": 1.58, "efficiency": 0.91,
    "ranks": [
        {"slot": 0, "host": "hydra", "samples_per_s": 9.3, "share": 0.6},
        {"slot": 2, "host": "attic", "samples_per_s": 6.2, "share": 0.4},
    ],
}  # fmt: skip


def said(kind: str, slot: int, digest: str, *, generation: int = 1, **data: Any) -> Said:
    whole = {"digest": digest, "device": "cpu", "torch": "2.13.0", **data}
    return Said(kind=kind, host=f"w{slot + 1}", slot=slot, generation=generation, data=whole)


def test_a_speed_says_the_speed_up_and_names_the_slowest() -> None:
    speed = speed_of(SPEED)
    assert speed is not None
    assert speed.sentence == "14.8 smp/s, 1.58x hydra alone, 91% of the sum of all"
    assert speed.losses == (
        "of each step's 8.6 s, 0.63 s adding up and 0.12 s waiting for the slowest, attic"
    )


@pytest.mark.parametrize(
    "changed",
    [{"ranks": "x"}, {"ranks": []}, {"step": -1}, {"speedup": "2"}, {"efficiency": float("nan")},
     {"samples_per_s": 1e12}, {"ranks": [{"slot": "0"}]}],
)  # fmt: skip
def test_a_speed_that_makes_no_sense_is_none(changed: dict[str, Any]) -> None:
    assert speed_of(SPEED | changed) is None


def test_names_of_hosts_are_cleaned() -> None:
    speed = speed_of(SPEED | {"slowest_host": "at\x1b[31mtic"})
    assert speed is not None
    assert "\x1b" not in speed.losses


def test_equal_weights_are_counted_and_a_difference_names_the_host() -> None:
    begun = [said("ready", slot, "aa", step=0) for slot in range(3)]
    equal = weights_of(begun)
    assert equal is not None
    assert equal.sentence == "equal on 3 of 3 ranks before the first step (aa)"
    ends = [said("finished", slot, "bb" if slot < 2 else "cc", step=9) for slot in range(3)]
    apart = weights_of([*begun, *ends])
    assert apart is not None
    assert not apart.are_equal
    assert apart.sentence.startswith("differ on w3 (rank 2) after step 9")


def test_machines_of_different_kinds_need_not_be_equal_to_the_bit() -> None:
    begun = [said("ready", 0, "aa", device="cuda:0", step=0), said("ready", 1, "bb", step=0)]
    evidence = weights_of(begun)
    assert evidence is not None
    assert evidence.are_equal


def test_a_rank_that_came_later_is_not_compared_with_the_first_weights() -> None:
    begun = [said("ready", 0, "aa", step=0), said("ready", 1, "zz", step=7)]
    evidence = weights_of(begun)
    assert evidence is not None
    assert (evidence.ranks, evidence.are_equal) == (1, True)


def test_the_newest_launch_and_its_latest_comparison_count() -> None:
    events = [
        said("finished", 0, "old", step=3),
        said("ready", 0, "aa", generation=2, step=3),
        said("weights", 0, "bb", generation=2, step=5, ranks=4),
        said("weights", 0, "cc", generation=2, step=6, ranks=3),
    ]
    evidence = weights_of(events)
    assert evidence is not None
    assert evidence.sentence == "equal on 3 of 3 ranks after step 6 (cc)"
    assert weights_of([]) is None
