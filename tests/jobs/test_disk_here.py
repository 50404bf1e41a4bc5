"""The coordinator's own disk fills up while a job runs: the job rests with that reason, or goes on
unseen, and nothing of what was written is torn."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.model.errors import StateError
from sollol_tui.model.states import JobState
from tests.jobs.bench import COPIED, Bench, until
from tests.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
DISK_BYTES = 64 * 1024**2
LONG = {"SOLLOL_STUB_STEPS": "100000"}


@pytest.fixture
def disk(bench: Bench) -> Iterator[SmallDisk]:
    with small_disk(bench.folder / "disk", DISK_BYTES) as disk:
        yield disk


@pytest.fixture
def small(bench: Bench, disk: SmallDisk) -> Iterator[Bench]:
    """The bench with its state on a small disk."""
    with SOLLOLClient(bench.inventory, home=disk.folder / "home") as client:
        made = replace(bench, home=client.home, client=client)
        yield made
        made.clear()


def rank_lines(bench: Bench, job: str) -> int:
    return (bench.run_dir(job, "one") / "log.0.1").read_text().count("\n")


def test_a_full_disk_here_pauses_the_job_and_it_goes_on_elsewhere_at_the_same_step(
    small: Bench, disk: SmallDisk
) -> None:
    job = small.submit(env=LONG, workers="one")
    small.takes_steps(job)
    disk.fill(but=2**20)
    paused = small.reaches(job, JobState.PAUSED)
    assert paused.reason.startswith(f"at step {paused.step}; the newest checkpoint stays on its w")
    assert "the disk of this machine is full: " in paused.reason
    assert paused.reason.endswith("needed: free some space there, then resume it")
    assert small.left(job) == []

    small.client.resume_job(job, workers="two")  # in vain
    until(lambda: "this machine is full" in small.view(job).reason, "it says why not")
    assert small.reaches(job, JobState.PAUSED).step == paused.step

    disk.free()
    small.lay_out({"SOLLOL_STUB_STEPS": str(paused.step + 5)}, {})
    small.client.resume_job(job, workers="two")  # which has no checkpoint
    assert small.reaches(job, JobState.DONE).step == paused.step + 5
    assert f"continuing from checkpoint-{paused.step}" in str(small.client.events(job, "notice"))


def test_a_disk_here_without_a_byte_of_room_ends_nothing_and_leaves_no_gap(
    small: Bench, disk: SmallDisk
) -> None:
    job = small.submit(env=LONG)
    small.takes_steps(job)
    disk.fill()
    lines = rank_lines(small, job)
    until(lambda: rank_lines(small, job) > lines + 50, "the training goes on")
    disk.free()
    until(lambda: small.view(job).step > lines, "it is heard of again")
    if small.view(job).state is JobState.RUNNING:  # nobody looked meanwhile
        small.client.pause_job(job)
    paused = small.reaches(job, JobState.PAUSED)
    assert small.copies_are_equal(job)
    assert small.left(job) == []
    small.lay_out({"SOLLOL_STUB_STEPS": str(paused.step + 5)}, {})
    small.client.resume_job(job)
    assert small.reaches(job, JobState.DONE).step == paused.step + 5


def test_a_state_that_cannot_be_written_for_a_while_ends_nothing_and_is_told(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    copies = [p for p in bench.home.job(job).rglob("*") if p.name.startswith(COPIED)]
    refusing = [str(p) for p in (*bench.home.root.glob("state.db*"), *copies)]
    if subprocess.run(["chattr", "+i", *refusing], check=False, capture_output=True).returncode:
        pytest.skip("no file can be made immutable on this file system")
    try:
        lines = rank_lines(bench, job)
        until(lambda: rank_lines(bench, job) > lines + 50, "the training goes on")
        log = bench.home.job(job) / "supervisor.log"
        until(lambda: "this machine: " in log.read_text(), "its supervisor tries again")
        told = next(line for line in log.read_text().splitlines() if "this machine: " in line)
        assert f"this machine: the state in {bench.home.database} cannot be written" in told or (
            f"this machine: {bench.home.job(job)}" in told
            and "cannot be used: Operation not permitted" in told
        )
        with pytest.raises(StateError, match="set SOLLOL_HOME to a folder that you can write"):
            SOLLOLClient(bench.inventory, home=bench.home.root).list_jobs()
    finally:
        subprocess.run(["chattr", "-i", *refusing], check=True)
    bench.client.pause_job(job)
    paused = bench.reaches(job, JobState.PAUSED)
    assert paused.reason == f"at step {paused.step}"
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []
