"""One elastic job of three OpenSSH hosts: a pulled cable, a host that leaves and joins, a crash, a
parted network. What it learns is what one machine learns.

Each case finds three members at work. The last one stops the job and looks at all of it. Gaps are
printed beside their bars. Frozen ranks, wrong bits and more: test_elastic_faults_long.py.
"""

import time

import pytest

from tests.cluster.faults import parted, unplugged
from tests.cluster.training.elastic_job import EVERYBODY, stop_and_look_at_all
from tests.cluster.training.environment import needs_worker_python

pytestmark = [needs_worker_python, pytest.mark.timeout(400)]


def test_a_cable_out_for_a_while_costs_no_step_and_its_host_is_healed(job, hosts, gap_is_short):
    out_at = time.monotonic()
    with unplugged(hosts[2]):
        job.shared_by((0, 1), out_at)
        gap_is_short("cable of slot 2 cut", out_at, (0, 1), 6)
    back_at = time.monotonic()
    job.shared_by(EVERYBODY, back_at)
    gap_is_short("and plugged in again", back_at, (0, 1), 6)
    job.check()


def test_a_host_leaves_and_joins_again_and_nobody_else_starts_anew(job, hosts):
    coordinator, left_at = job.coordinator, time.monotonic()
    coordinator.sollol("leave", job.id, "w3")
    job.shared_by((0, 1), left_at)
    job.until(lambda: {w.host: w.state for w in job.view.workers}["w3"] == "gone", "w3 is gone")
    job.until(lambda: not hosts[2].processes(), "nothing is left on w3")
    busy = [host.job for host in coordinator.client().snapshot().hosts]
    assert busy == [job.id, job.id, None]
    joined_at = time.monotonic()
    coordinator.sollol("join", job.id, "w3")
    job.shared_by(EVERYBODY, joined_at)
    assert [len(list(job.run_dir(host).glob("log.agent.*"))) for host in hosts] == [1, 1, 2]
    job.check()


def test_after_a_crash_for_good_the_rest_goes_on_and_of_two_parted_ones_one(
    job, hosts, gap_is_short, tmp_path
):
    crashed_at = time.monotonic()
    hosts[0].crash()
    job.shared_by((1, 2), crashed_at)
    gap_is_short("crash of slot 0 and its lighthouse", crashed_at, (1, 2), 3)
    job.check()
    parted_at = time.monotonic()
    with parted(hosts[1:2], hosts[2:]):
        job.shared_by((1,), parted_at)
        gap_is_short("1 + 1", parted_at, (1,), 6)
        job.waits(hosts[2], parted_at)
        assert [2] not in job.memberships(parted_at)
    job.shared_by((1, 2), time.monotonic())
    stop_and_look_at_all(job, tmp_path, by={1, 2})
