"""Whole jobs, broken or ended at random moments, many times over. Run: make soak"""

import random
import time

import pytest

from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until

KILLS = 20
CANCELS = 20
LONGEST_S = 4.0  # provisioned hosts start to train within that


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"{request.node.name}: seed {seed}")
    return random.Random(seed)


@pytest.mark.timeout(600)
def test_a_supervisor_killed_again_and_again_loses_and_doubles_nothing(
    bench: Bench, chance: random.Random
) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "600"})
    for _ in range(KILLS):
        wait_until(time.monotonic() + chance.uniform(0.1, 1.5))
        bench.kill_supervisor(job)
        bench.client.revive()
    view = bench.reaches(job, JobState.DONE, timeout_s=120)
    assert view.step == 600
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []


@pytest.mark.timeout(900)
def test_cancel_at_any_moment_leaves_nothing(bench: Bench, chance: random.Random) -> None:
    for number in range(CANCELS):
        job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"})
        wait_until(time.monotonic() + chance.uniform(0, LONGEST_S))
        bench.client.cancel_job(job, now=number % 2 == 0)
        bench.reaches(job, JobState.CANCELLED, timeout_s=60)
        assert bench.left(job) == []


def wait_until(moment: float) -> None:
    until(lambda: time.monotonic() >= moment, "the moment has come")
