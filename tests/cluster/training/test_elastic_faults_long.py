"""What else may happen to an elastic job of three OpenSSH hosts, beyond what `make test` looks at.
Run: make soak

Each case finds three members at work. The last one stops the job and looks at all of it.
"""

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.cluster.faults import cut_off, narrowed, parted, unplugged
from tests.cluster.machine import Machine
from tests.cluster.training.elastic_job import EVERYBODY, ElasticJob, stop_and_look_at_all
from tests.cluster.training.environment import needs_worker_python

pytestmark = [needs_worker_python, pytest.mark.long, pytest.mark.timeout(400)]


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


def test_a_cable_out_for_an_instant_is_nothing(job, hosts):
    out_at = time.monotonic()
    with unplugged(hosts[1]):
        job.until(lambda: time.monotonic() > out_at + 0.5, "half a second")
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_two_and_one_the_two_go_on_whichever_lighthouse_they_asked(job, hosts, gap_is_short):
    parted_at = time.monotonic()
    with parted(hosts[:2], hosts[2:]):
        job.shared_by((0, 1), parted_at)
        gap_is_short("2 + 1", parted_at, (0, 1), 6)
        job.waits(hosts[2], parted_at)
        assert [2] not in job.memberships(parted_at)
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_who_is_heard_and_hears_nothing_is_left_behind_and_healed(job, hosts, gap_is_short):
    deaf_at = time.monotonic()
    with cut_off(hosts[1], hosts[0], hosts[2]):
        job.shared_by((0, 2), deaf_at)
        gap_is_short("slot 1 hears nobody", deaf_at, (0, 2), 6)
    job.shared_by(EVERYBODY, time.monotonic())
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


def test_a_slow_link_makes_steps_late_and_loses_nobody(job, hosts):
    slow_at = time.monotonic()
    with narrowed(hosts[2], "2mbit"):
        job.shared_by(EVERYBODY, slow_at, steps=5)
    assert job.memberships(slow_at) == [list(EVERYBODY)]


def test_a_crash_of_a_worker_costs_the_step_in_flight(job, hosts, gap_is_short):
    crashed_at = time.monotonic()
    hosts[1].crash()
    job.shared_by((0, 2), crashed_at)
    gap_is_short("crash of slot 1", crashed_at, (0, 2), 3)
    hosts[1].boot()
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_a_crash_of_slot_0_takes_its_lighthouse_along(job, hosts, gap_is_short):
    crashed_at = time.monotonic()
    hosts[0].crash()
    job.shared_by((1, 2), crashed_at)
    gap_is_short("crash of slot 0 and its lighthouse", crashed_at, (1, 2), 3)
    hosts[0].boot()
    job.shared_by(EVERYBODY, time.monotonic())
    job.check()


def test_after_a_power_cut_for_good_the_rest_goes_on_and_has_learnt_what_one_learns(
    job, hosts, gap_is_short, tmp_path
):
    cut_at = time.monotonic()
    hosts[2].power_off()
    job.shared_by((0, 1), cut_at)
    gap_is_short("power cut of slot 2", cut_at, (0, 1), 6)
    stop_and_look_at_all(job, tmp_path, by={0, 1})
