"""What a job may use of real OpenSSH hosts, and what becomes of it where something gives out: the
memory, the disk, a rank, the host itself. Between jobs nothing of ours is there."""

import json
from collections.abc import Iterator

import pytest

from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.jobs.bench import until

pytestmark = [pytest.mark.keep_workdir, pytest.mark.timeout(180)]
HUNGRY = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.05", "SOLLOL_STUB_GROWS_AT": "5"}
QUICK = {"SOLLOL_STUB_STEPS": "200", "SOLLOL_STUB_STEP_S": "0.02"}
STEADY = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.05"}
GROUPS = "/sys/fs/cgroup"
RUNS_BYTES = 48 * 1024**2


def shell(host: Machine, script: str) -> str:
    return host.run(["sh", "-ec", script]).stdout


@pytest.fixture
def grouped(lab: Lab) -> Iterator[Machine]:
    """A host that lets the account divide its memory; the others of the lab show no groups."""
    host = lab.hosts[0]
    mount = (
        f"mount -t tmpfs tmpfs {GROUPS}; mkdir {GROUPS}/memory; "
        f"mount -t cgroup -o memory cgroup {GROUPS}/memory"
    )
    if host.run(["sh", "-ec", mount], check=False).returncode:
        pytest.skip("memory is counted by version 2 of control groups here, which has no root")
    yield host
    shell(host, f"umount {GROUPS}/memory {GROUPS}")


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Machine]:
    """A host whose run directories lie on a small disk."""
    host, runs = lab.hosts[0], ".sollol/runs"
    options = f"size={RUNS_BYTES},mode=700"
    shell(host, f"mkdir -p {runs}; mount -t tmpfs -o {options} tmpfs {runs}")
    yield host
    host.kill_leftovers()
    shell(host, f"umount -l {runs}")


def test_a_rank_over_its_memory_is_ended_whoever_keeps_the_limit(
    coordinator: Coordinator, grouped: Machine
) -> None:
    coordinator.lay_out(HUNGRY)
    ways = {"w1": "held by the kernel (a control group)", "w2": "watched every second"}
    for host, way in ways.items():
        settings = ("--set", "resources.ram_gb=0.25", "--set", "on_worker_loss=fail")
        command = coordinator.train("--workers", host, *settings)
        said = coordinator.sollol(*command, expect=6, timeout_s=150)
        assert f"{host}: at most 0.25 GiB of memory, {way}" in said
        assert f"out of memory on {host}: limit 256 MiB, used " in said
        job = coordinator.jobs()[0]
        assert job.state is JobState.FAILED
        assert f"out of memory on {host}" in coordinator.sollol("show", job.id)
    coordinator.assert_clean()
    jobs = [job.id for job in coordinator.jobs()]
    assert [shell(grouped, f"find {GROUPS}/memory -name 'sollol-{job}-*'") for job in jobs] == [
        "",
        "",
    ]


def test_a_full_disk_pauses_the_job_and_it_goes_on_at_the_same_sample(
    coordinator: Coordinator, lab: Lab, small_disk: Machine
) -> None:
    coordinator.lay_out(STEADY)
    coordinator.sollol(*coordinator.train("--workers", "w1,w2", "--detach"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    coordinator.sollol("wait", job, "--for", "step=5")
    shell(small_disk, f"head -c {RUNS_BYTES - 2**20} /dev/zero >.sollol/runs/filler 2>&1 || true")
    paused = coordinator.job_reaches(JobState.PAUSED)
    assert "the disk of w1 is full: " in paused.reason
    assert "free some space there, then resume it" in paused.reason
    coordinator.assert_clean()
    shell(small_disk, "rm .sollol/runs/filler")
    coordinator.lay_out(QUICK | {"SOLLOL_STUB_STEPS": str(paused.step + 20)})
    coordinator.sollol("resume", job)
    coordinator.sollol("wait", job, timeout_s=150)
    told = []
    for host in lab.hosts[:2]:
        for path in coordinator.home.copies(job, host.name).glob("events.[0-9]*"):
            events = map(json.loads, path.read_text().splitlines())
            told += [event["step"] for event in events if event["kind"] == "step"]
    assert sorted(told) == list(range(1, paused.step + 21))  # none is missing, none done twice
    coordinator.assert_clean()


def test_a_rank_that_stands_still_is_shown_and_so_is_that_it_goes_on(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out(STEADY)
    coordinator.sollol(*coordinator.train("--workers", "w1,w2", "--detach"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    coordinator.sollol("wait", job, "--for", "step=20")
    stopped = rank_pid(lab.hosts[1])
    lab.hosts[1].run(["kill", "-STOP", str(stopped)])
    client = coordinator.client()
    until(lambda: client.events(job, "stuck"), "it is named", 60)
    said = coordinator.sollol("show", job)
    assert "a signal has stopped it" in said
    assert "rank 1: no step for " in said
    assert "rank 1 is stuck" in coordinator.sollol("events", job)
    lab.hosts[1].run(["kill", "-CONT", str(stopped)])
    step = client.get_job_status(job).step
    until(lambda: client.get_job_status(job).step > step, "it goes on", 60)
    client.close()
    until(lambda: "no step for" not in coordinator.sollol("show", job), "that is shown", 60)
    coordinator.sollol("cancel", job)
    coordinator.assert_clean()


def rank_pid(host: Machine) -> int:
    (found,) = [
        p.pid
        for p in host.processes()
        if "-m remote.train" in p.command and "launch" not in p.command
    ]
    return found


def test_after_a_reboot_nothing_is_taken_for_what_ran_before(
    coordinator: Coordinator, lab: Lab
) -> None:
    host = lab.hosts[0]
    coordinator.lay_out(STEADY)
    coordinator.sollol(*coordinator.train("--workers", "w1", "--detach"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    coordinator.sollol("wait", job, "--for", "step=3")
    coordinator.kill_supervisors()
    host.power_off()
    host.boot()
    run_dir = f".sollol/runs/{job}/w1"
    lines = [json.loads(line) for line in shell(host, f"cat {run_dir}/pids").splitlines()]
    # As many strangers as it takes for one to have each number that was recorded.
    highest = max(line["pid"] for line in lines)
    shell(host, f"i=0; while [ $i -le {highest} ]; do sleep 600 & i=$!; done >/dev/null 2>&1")
    strangers = {p.pid for p in host.processes()}
    assert strangers & {line["pid"] for line in lines}
    run = json.loads(shell(host, f"cat {run_dir}/run.json"))
    program = f"env PYTHONPATH={run['payload']} {run['python']} -P -m remote.agent"
    assert json.loads(shell(host, f"{program} clean {run_dir}"))["processes"] == []
    assert strangers <= {p.pid for p in host.processes()}
    assert "tmp" not in shell(host, f"ls {run_dir}").split()
    host.kill_leftovers()
    coordinator.sollol("cancel", job, "--now")


def test_between_jobs_nothing_of_ours_is_on_a_host(coordinator: Coordinator, lab: Lab) -> None:
    coordinator.lay_out(QUICK)
    before = [files(host) for host in lab.hosts]
    coordinator.sollol(*coordinator.train("--workers", "w1,w2"))
    for command in ("status", "resources", "doctor"):
        coordinator.sollol(command)
    coordinator.assert_clean()
    for host in lab.hosts:
        assert "sollol" not in shell(host, "cat /proc/net/unix")
    assert [files(host) for host in lab.hosts] == before


def files(host: Machine) -> list[str]:
    """What lies where programs leave files on their way."""
    return shell(host, "ls -A /tmp /dev/shm").split()
