"""What else may happen to an elastic job of three OpenSSH hosts, beyond what `make test` looks at.
Run: make soak

Each case finds three members at work. The last one stops the job and looks at all of it.
"""

import time

import pytest

from tests.cluster.faults import cut_off, narrowed, parted, unplugged
from tests.cluster.training.elastic_job import EVERYBODY, stop_and_look_at_all
from tests.cluster.training.environment import needs_worker_python

pytestmark = [needs_worker_python, pytest.mark.long, pytest.mark.timeout(400)]


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
