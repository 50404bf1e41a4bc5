"""How far a run is, told often enough and no oftener."""

import pytest

from remote.progress import Committed, Progress, duration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def step(number: int) -> Committed:
    return Committed(
        step=number,
        samples_done=number * 8,
        epoch=number / 10,
        tokens=80,
        loss=3.0,
        lr=1e-3,
        grad_norm=1.0,
        sync_s=0.01,
    )


def test_a_fast_loop_is_told_five_times_a_second_and_its_last_step_always() -> None:
    clock = Clock()
    progress = Progress(100, 800, 0, [], clock)
    told, lines = [], []
    for number in range(1, 101):
        clock.now += 0.02
        if event := progress.add(step(number), last=number == 100):
            told.append(event["step"])
            lines.append(progress.line(event))
    assert 10 <= len(told) <= 11
    assert (told[0], told[-1]) == (1, 100)
    assert len([line for line in lines if line]) == 3
    assert lines[-1] == "[100/100] loss 3.000  400.0 smp/s  ETA 0s"
    assert [entry["step"] for entry in progress.history] == [*range(1, 101)]


def test_a_slow_loop_is_told_step_by_step() -> None:
    clock = Clock()
    progress = Progress(5, 40, 0, [], clock)
    for number in range(1, 6):
        clock.now += 4.0
        event = progress.add(step(number), last=False)
        assert event is not None
        assert event["step"] == number
    assert event["samples_per_s"] == pytest.approx(2.0)


def test_what_was_done_before_a_resume_does_not_count_as_speed() -> None:
    clock = Clock()
    progress = Progress(100, 800, 640, [], clock)
    clock.now += 2.0
    event = progress.add(step(82), last=False)
    assert event is not None
    assert (event["samples_per_s"], event["eta_s"]) == (8.0, 18.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0s"), (59.6, "1m 0s"), (200, "3m 20s"), (41_100, "11h 25m"), (90_000, "1d 1h")],
)
def test_durations_have_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
