"""Elastic jobs of four workers, disturbed at random for minutes. Run: make soak

SOLLOL_STORM_MINUTES and SOLLOL_COMINGS_AND_GOINGS make them shorter or longer.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.conftest import UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import CHECKOUT
from tests.cluster.faults import cut_off, narrowed, parted, slowed, suspended, unplugged
from tests.cluster.lab import Lab, missing_pieces
from tests.cluster.machine import Machine
from tests.cluster.training.elastic_job import (
    ElasticJob,
    alone_to,
    furthest,
    pause_at,
    recording_coordinator,
)

STORM_S = 60 * float(os.environ.get("SOLLOL_STORM_MINUTES", "10"))
FAULT_EVERY_S = 30.0
CALM_S = 30.0  # before the storm, to know how fast four workers are
COMINGS_AND_GOINGS = int(os.environ.get("SOLLOL_COMINGS_AND_GOINGS", "20"))
STEP_S = 0.5
CPU_PERCENT = 45  # of a core for each host: who loads torch takes nothing from those who train
NAMES = ("w1", "w2", "w3", "w4")

pytestmark = pytest.mark.skipif(missing_pieces() is not None, reason=str(missing_pieces()))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"{request.node.name}: seed {seed}")
    return random.Random(seed)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[ElasticJob]:
    cache = Path(os.environ.get("UV_CACHE_DIR", CHECKOUT / ".cache" / "uv"))
    cache.mkdir(parents=True, exist_ok=True)
    with (
        Lab.up(hosts=len(NAMES), shared={cache: UV_CACHE_ON_HOSTS}) as lab,
        recording_coordinator(lab, tmp_path, STEP_S) as coordinator,
    ):
        job = ElasticJob.submit(coordinator, *NAMES)
        job.shared_by(range(len(NAMES)), 0, steps=5, timeout_s=300)
        yield job


@pytest.mark.timeout(1800 + STORM_S)
def test_a_storm_of_faults_costs_time_and_nothing_else(
    job: ElasticJob, chance: random.Random, tmp_path: Path
) -> None:
    hosts = job.coordinator.lab.hosts
    wait(CALM_S)
    calm = len(job.of("committed", since=time.monotonic() - CALM_S)) / len(NAMES) / CALM_S
    began, until = time.monotonic(), time.monotonic() + STORM_S
    steps_then = job.check()
    alive_s = 0.0  # of workers that nothing was wrong with
    while time.monotonic() < until:
        fault_at = time.monotonic()
        with ExitStack() as fault:
            victim, told = strike(fault, chance, hosts)
            lasts_s = chance.uniform(3, FAULT_EVERY_S - 10)
            wait(lasts_s)
        if not victim.is_on:
            victim.boot()
        gap, step = job.gap(fault_at, range(len(NAMES)))
        print(
            f"{told}, for {lasts_s:.0f} s: {gap:.2f} s without a commit = {gap / step:.1f} median "
            f"steps; load {os.getloadavg()[0]:.1f}"
        )
        wait(max(0.0, fault_at + FAULT_EVERY_S - time.monotonic()))
        alive_s += len(NAMES) * FAULT_EVERY_S - lasts_s
    took_s = time.monotonic() - began
    job.shared_by(range(len(NAMES)), time.monotonic(), timeout_s=300)
    speed = (job.check() - steps_then) / took_s
    share = speed / calm / (alive_s / took_s / len(NAMES))
    print(f"{speed:.2f} steps/s against {calm:.2f} in calm: {100 * share:.0f} % of what was alive")
    last = pause_at(job)
    kept = job.coordinator.home.job(job.id) / "checkpoints" / f"checkpoint-{last}"
    apart = furthest(kept, alone_to(job, last, tmp_path))
    print(f"{last} steps; the adapter is {apart:.1e} away from that of one undisturbed worker")
    assert apart < 1e-2
    job.coordinator.assert_clean()


def strike(stack: ExitStack, chance: random.Random, hosts: list[Machine]) -> tuple[Machine, str]:
    """One random fault on one random host, undone with the stack, but for the power."""
    victim = chance.choice(hosts)
    others = [host for host in hosts if host is not victim]
    match chance.choice(["crash", "power", "cable", "stop", "part", "deaf", "slow", "narrow"]):
        case "crash":
            victim.crash()
            told = "crash"
        case "power":
            victim.power_off()
            told = "power cut"
        case "cable":
            stack.enter_context(unplugged(victim))
            told = "cable out"
        case "stop":
            stack.enter_context(suspended(victim, "remote.train"))
            told = "SIGSTOP"
        case "part":
            stack.enter_context(parted([victim], others))
            told = "cut off from the other workers"
        case "deaf":
            stack.enter_context(cut_off(victim, *others))
            told = "hears nothing of the other workers"
        case "slow":
            stack.enter_context(slowed(victim, 30))
            told = "30 % of a core"
        case _:
            stack.enter_context(narrowed(victim, "20mbit"))
            told = "20 Mbit/s"
    return victim, f"{victim.name}: {told}"


@pytest.mark.timeout(2400)
def test_workers_leave_and_join_again_and_nothing_is_lost_or_doubled(
    job: ElasticJob, chance: random.Random
) -> None:
    for host in job.coordinator.lab.hosts:
        host.set_cpu(CPU_PERCENT)
    here = set(range(len(NAMES)))
    for _ in range(COMINGS_AND_GOINGS):
        slot = (
            chance.choice(sorted(here))
            if len(here) > 2
            else chance.choice(sorted(set(range(len(NAMES))) - here))
        )
        verb = "leave" if slot in here else "join"
        asked_at = time.monotonic()
        job.coordinator.sollol(verb, job.id, NAMES[slot])
        here ^= {slot}
        job.shared_by(here, asked_at, timeout_s=300)
        gap, step = job.gap(asked_at, sorted(here - {slot}))
        print(f"{NAMES[slot]}: {verb}: {gap - step:.2f} s more than a step of {step:.2f} s")
    job.check()
    pause_at(job)
    job.coordinator.assert_clean()


def wait(seconds: float) -> None:
    """Lets the job run; there is no event to wait for."""
    time.sleep(seconds)
