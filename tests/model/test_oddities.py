"""What is odd about a plan is named, and what a person has asked for is not."""

from dataclasses import replace

import pytest

from sollol_tui.model.oddities import oddities
from sollol_tui.model.plan import Plan
from sollol_tui.model.prediction import HostSpeed, Prediction, Wire
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.units import GIB
from sollol_tui.model.weights import Memory
from tests.jobs.samples import plan

SPEC = JobSpec(model="m", dataset="rows.jsonl")


def odd(made: Plan, **settings: object) -> list[str]:
    return list(oddities(made, replace(SPEC, **settings)))


def memory(**gib: float) -> Memory:
    sizes = {"peak": 4, "of": 11, "disk": 1, "disk_free": 60} | gib
    return Memory(
        host="attic", checkpoints=3, **{f"{key}_bytes": int(n * GIB) for key, n in sizes.items()}
    )


def test_an_ordinary_plan_is_not_odd() -> None:
    assert odd(replace(plan(), memory=memory())) == []


def test_who_was_meant_to_take_part_and_does_not_is_named_unless_enough_others_do() -> None:
    made = replace(plan("w1"), left_out={"pi": "no route to host"})
    assert odd(made) == ["pi does not take part: no route to host"]
    assert odd(made, workers="w1,pi") == odd(made)
    assert odd(made, workers="1") == []
    five = replace(made, left_out={f"pi{n}": "no route to host" for n in range(5)})
    assert odd(five)[-1] == "and 2 more do not"
    assert len(odd(five)) == 4


def test_a_worker_that_slows_the_job_is_named_with_the_way_to_leave_it() -> None:
    speeds = {"w1": 1000.0, "w2": 10.0}
    prediction = Prediction(
        hosts=tuple(
            HostSpeed(host=host, ranks=1, tokens_per_s=speed, is_measured=True, source="j-1")
            for host, speed in speeds.items()
        ),
        wires=tuple(
            Wire(origin=one, target=other, bytes_per_s=1e6, latency_s=0.0, is_measured=True,
                 source="the doctor")
            for one, other in (("w1", "w2"), ("w2", "w1"))
        ),
        global_batch=16,
        sample_tokens=100.0,
        gradient_bytes=50_000_000,
    )  # fmt: skip
    said = odd(replace(plan(), prediction=prediction))
    assert said == ["w2 makes the job slower than without (--workers '!w2')"]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"peak": 10.5}, ["memory is tight on attic: ~10.5 of 11.0 GiB"]),
        ({"peak": 14}, ["memory may not suffice on attic: ~14.0 of 11.0 GiB"]),
        ({"disk": 58}, ["checkpoints nearly fill a disk: ~58.0 GiB of 60.0 GiB free"]),
    ],
)
def test_memory_and_disk_that_hardly_suffice_are_told(
    sizes: dict[str, float], said: list[str]
) -> None:
    assert odd(replace(plan(), memory=memory(**sizes))) == said


def test_rows_that_lose_most_and_a_run_of_one_step_are_told() -> None:
    made = plan()
    long = replace(made, dataset=replace(made.dataset, mean_chars=3600.0))
    assert odd(long) == [
        "rows are mostly cut: ~1,000 tokens each on average, and max_length keeps 512"
    ]
    assert odd(long, max_length=1024) == []
    few = replace(made, rows=8, max_steps=1)
    assert odd(few) == ["a single step is all of it: fewer samples (8) than the global batch (16)"]
    assert odd(few, epochs=2) == []
