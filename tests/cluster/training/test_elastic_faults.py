"""One elastic job of three OpenSSH hosts, to which everything happens that happens at home:
crashes, pulled cables, frozen ranks, parted networks, wrong bits. What it learns is what one
machine learns.

Each case finds three members at work. The last one stops the job and looks at all of it. Gaps are
printed beside their bars. More of it, which takes longer: test_elastic_faults_long.py.
"""

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.cluster.faults import parted, unplugged
from tests.cluster.machine import Machine
from tests.cluster.training.elastic_job import EVERYBODY, ElasticJob, stop_and_look_at_all
from tests.cluster.training.environment import needs_worker_python

pytestmark = [needs_worker_python, pytest.mark.timeout(400)]


@contextlib.contextmanager
def frozen_in_a_sum(job: ElasticJob, host: Machine) -> Iterator[None]:
    """SIGSTOP, while gloo is adding up."""
    freeze = job.run_dir(host) / "freeze"
    freeze.touch()
    job.until(lambda: not freeze.exists(), f"{host.name} is in a sum")
    try:
        yield
    finally:
        host.run(["sh", "-c", "kill -CONT -1"])


def test_a_cable_out_for_a_while_costs_no_step_and_its_host_is_healed(job, hosts, gap_is_short):
    out_at = time.monotonic()
    with unplugged(hosts[2]):
        job.shared_by((0, 1), out_at)
        gap_is_short("cable of slot 2 cut", out_at, (0, 1), 6)
    back_at = time.monotonic()
    job.shared_by(EVERYBODY, back_at)
    gap_is_short("and plugged in again", back_at, (0, 1), 6)
    job.check()


def test_a_rank_frozen_in_a_sum_is_left_behind_and_healed(job, hosts, gap_is_short):
    stopped_at = time.monotonic()
    with frozen_in_a_sum(job, hosts[0]):
        job.shared_by((1, 2), stopped_at)
        gap_is_short("SIGSTOP of slot 0", stopped_at, (1, 2), 6)
    thawed_at = time.monotonic()
    job.shared_by(EVERYBODY, thawed_at)
    gap_is_short("and SIGCONT", thawed_at, (1, 2), 6)
    job.check()


def test_the_isolated_host_of_the_lighthouse_waits_while_nobody_sees_the_coordinator(
    job, hosts, gap_is_short
):
    for host in hosts:
        host.drop_incoming_from(host.gateway)
    parted_at = time.monotonic()
    with parted(hosts[:1], hosts[1:]):
        job.shared_by((1, 2), parted_at)
        gap_is_short("lighthouse's host isolated", parted_at, (1, 2), 6)
        job.waits(hosts[0], parted_at)
        assert [0] not in job.memberships(parted_at)
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_wrong_bits_are_found_by_digest_and_healed_before_they_count(job, hosts, gap_is_short):
    began = time.monotonic()
    (job.run_dir(hosts[2]) / "spoil").touch()
    [spoilt] = job.until(lambda: job.of("spoilt", began), "the weights of slot 2 are spoilt")
    healed = f"took over the weights of step {spoilt['step']} from w1 (slot 0)"
    job.until(lambda: healed in job.notices(hosts[2]), "slot 2 is healed")
    job.shared_by(EVERYBODY, spoilt["t"])
    gap_is_short("wrong bits on slot 2", spoilt["t"], EVERYBODY, 3)
    assert spoilt["digest"] not in {line["digest"] for line in job.of("committed")}
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
