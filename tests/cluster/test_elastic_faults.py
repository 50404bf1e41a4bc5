"""One elastic job of three OpenSSH hosts, to which everything happens that happens at home:
crashes, pulled cables, frozen ranks, parted networks, wrong bits. What it learns is what one
machine learns.

The cases share one job, because its start is what costs: each finds three members at work. The last
one stops the job and looks at all of it. Gaps are printed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.elastic_job import (
    ElasticJob,
    alone_to,
    furthest,
    pause_at,
    recording_coordinator,
)
from tests.cluster.faults import parted, suspended, unplugged
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.test_training import WORKER_PYTHON

STEP_S = 0.2
EVERYBODY = (0, 1, 2)
pytestmark = [
    pytest.mark.skipif(
        not WORKER_PYTHON.exists() and os.environ.get("SOLLOL_REQUIRE_CLUSTER") != "1",
        reason="make test makes .venv-worker",
    ),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def job(_machines: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticJob]:
    _machines.wipe_workdirs()
    folder = tmp_path_factory.mktemp("elastic")
    with recording_coordinator(_machines, folder, STEP_S) as coordinator:
        yield ElasticJob.submit(coordinator, "w1", "w2", "w3")
    _machines.reset()


@pytest.fixture
def hosts(job: ElasticJob, _machines: Lab) -> Iterator[list[Machine]]:
    """w1 (slot 0, the lighthouse that is asked), w2, w3: all of them members."""
    job.shared_by(EVERYBODY, time.monotonic(), steps=5, timeout_s=200)
    yield _machines.hosts
    for host in _machines.hosts:
        host.heal()


@pytest.fixture
def tell_gap(
    job: ElasticJob, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, float, tuple[int, ...], float], None]:
    """Shows the gap after a fault beside its bar; nothing is asserted of it on a loaded machine."""

    def tell(fault: str, since: float, slots: tuple[int, ...], bar_s: float) -> None:
        gap, step = job.gap(since, slots)
        with capsys.disabled():
            sys.stdout.write(
                f"\n    {fault}: {gap:.2f} s without a commit = {gap / step:.1f} median steps of "
                f"{step:.2f} s; bar {2.5 * step + bar_s:.2f} s; load {os.getloadavg()[0]:.1f}\n"
            )

    return tell


def test_a_cable_out_for_a_while_costs_no_step_and_its_host_is_healed(job, hosts, tell_gap):
    out_at = time.monotonic()
    with unplugged(hosts[2]):
        job.shared_by((0, 1), out_at)
        tell_gap("cable of slot 2 cut", out_at, (0, 1), 6)
    back_at = time.monotonic()
    job.shared_by(EVERYBODY, back_at)
    tell_gap("and plugged in again", back_at, (0, 1), 6)
    job.check()


def test_a_cable_out_for_an_instant_is_nothing(job, hosts):
    out_at = time.monotonic()
    with unplugged(hosts[1]):
        job.until(lambda: time.monotonic() > out_at + 0.5, "half a second")
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_a_rank_frozen_in_a_sum_is_left_behind_and_healed(job, hosts, tell_gap):
    stopped_at = time.monotonic()
    with suspended(hosts[0], "remote.train"):
        job.shared_by((1, 2), stopped_at)
        tell_gap("SIGSTOP of slot 0", stopped_at, (1, 2), 6)
    thawed_at = time.monotonic()
    job.shared_by(EVERYBODY, thawed_at)
    tell_gap("and SIGCONT", thawed_at, (1, 2), 6)
    job.check()


def test_the_isolated_host_of_the_lighthouse_waits_while_nobody_sees_the_coordinator(
    job, hosts, tell_gap
):
    for host in hosts:
        host.drop_incoming_from(host.gateway)
    parted_at = time.monotonic()
    with parted(hosts[:1], hosts[1:]):
        job.shared_by((1, 2), parted_at)
        tell_gap("lighthouse's host isolated", parted_at, (1, 2), 12)
        late = job.of("committed", parted_at + 5)
        assert {line["slot"] for line in late} == {1, 2}
        job.until(lambda: any("not enough to commit" in n for n in job.notices(hosts[0])), "waits")
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_two_and_one_the_two_go_on_whichever_lighthouse_they_asked(job, hosts, tell_gap):
    parted_at = time.monotonic()
    with parted(hosts[:2], hosts[2:]):
        job.shared_by((0, 1), parted_at)
        tell_gap("2 + 1", parted_at, (0, 1), 6)
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_wrong_bits_are_found_by_digest_and_healed_before_they_count(job, hosts):
    began = time.monotonic()
    (job.run_dir(hosts[2]) / "spoil").touch()
    [spoilt] = job.until(lambda: job.of("spoilt", began), "the weights of slot 2 are spoilt")
    healed = f"took over the weights of step {spoilt['step']} from w1 (slot 0)"
    job.until(lambda: healed in job.notices(hosts[2]), "slot 2 is healed")
    job.shared_by(EVERYBODY, spoilt["t"])
    assert spoilt["digest"] not in {line["digest"] for line in job.of("committed")}
    job.check()


def test_a_crash_of_a_worker_costs_the_step_in_flight(job, hosts, tell_gap):
    crashed_at = time.monotonic()
    hosts[1].crash()
    job.shared_by((0, 2), crashed_at)
    tell_gap("crash of slot 1", crashed_at, (0, 2), 3)
    hosts[1].boot()
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_a_crash_of_slot_0_takes_its_lighthouse_along(job, hosts, tell_gap):
    crashed_at = time.monotonic()
    hosts[0].crash()
    job.shared_by((1, 2), crashed_at)
    tell_gap("crash of slot 0 and its lighthouse", crashed_at, (1, 2), 3)
    hosts[0].boot()
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_after_a_power_cut_for_good_the_rest_goes_on_and_of_two_parted_ones_one(
    job, hosts, tell_gap, tmp_path
):
    cut_at = time.monotonic()
    hosts[2].power_off()
    job.shared_by((0, 1), cut_at)
    tell_gap("power cut of slot 2", cut_at, (0, 1), 6)
    parted_at = time.monotonic()
    with parted(hosts[:1], hosts[1:2]):
        job.shared_by((0,), parted_at)
        tell_gap("1 + 1", parted_at, (0,), 6)
        assert {line["slot"] for line in job.of("committed", parted_at + 5)} == {0}
    job.shared_by((0, 1), time.monotonic())
    stop_and_look_at_all(job, tmp_path)


def stop_and_look_at_all(job: ElasticJob, folder: Path) -> None:
    coordinator, last = job.coordinator, pause_at(job)
    ends = [line for line in job.of("committed") if line["step"] == last]
    assert {line["slot"] for line in ends} == {0, 1}
    kept = coordinator.home.job(job.id) / "checkpoints" / f"checkpoint-{last}"
    assert furthest(kept, alone_to(job, last, folder)) < 1e-4
    coordinator.assert_clean()
