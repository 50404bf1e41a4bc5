"""The main job against real OpenSSH hosts: trust, train, watch from another shell, cancel, and what
may go wrong on the way. Ranks need the standard library only."""

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import revive
from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.jobs.bench import until

pytestmark = pytest.mark.keep_workdir
LONG = {"SOLLOL_STUB_STEPS": "100000", "SOLLOL_STUB_STEP_S": "0.02"}
CUT_S = 3.0  # how long the fault lasts
EXTRA, EXTRAS = 2**20, 8  # bytes of a file that makes a result large, and how many there are
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


def test_trust_then_train_brings_the_adapter(coordinator: Coordinator, lab: Lab) -> None:
    lab.wipe_workdirs()
    coordinator.home.known_hosts.unlink()
    refused = coordinator.sollol(*coordinator.train("--workers", "2"), expect=7)
    assert re.search(r"w1: .*host key of .* is unknown: .*SHA256:.*sollol hosts trust w1", refused)
    assert coordinator.jobs() == []

    trusted = coordinator.sollol("-y", "hosts", "trust", "w1", "w2", "w3")
    assert len(FINGERPRINT.findall(trusted)) == 3

    said = coordinator.sollol(*coordinator.train("--workers", "2"))
    assert "world size 2, static engine" in said
    assert re.search(r"done in .*: loss 3\.\d+ -> 2\.0", said)
    [job] = coordinator.jobs()
    adapter = Path(job.output_dir)
    assert f"adapter  {adapter}" in said
    assert adapter.parent == coordinator.folder / "work" / "distributed_training"
    assert (adapter / "adapter_model.safetensors").read_bytes() == b"stub 10\n"
    assert [(w.host, w.state) for w in job.workers] == [("w1", "gone"), ("w2", "gone")]
    assert coordinator.copies_are_equal(job.id, *lab.hosts[:2])
    coordinator.assert_clean()
    environments = list((lab.hosts[0].home / ".sollol" / "envs").glob("*/.complete"))
    assert len(environments) == 1

    provisioned = coordinator.sollol("provision", "w1", "w2")
    assert "w1  ready, nothing to change" in provisioned
    assert_a_fetch_goes_on_after_ctrl_c(coordinator, job.id, lab.hosts[0])


def assert_a_fetch_goes_on_after_ctrl_c(coordinator: Coordinator, job: str, host: Machine) -> None:
    """What had arrived stays as it is, and only the rest travels."""
    swell(coordinator.run_dir(job, host) / "result")
    host.set_rate("20mbit")
    target = coordinator.folder / "again"
    command = ["fetch", job, "--to", str(target)]

    def arrived() -> dict[str, int]:
        found = coordinator.folder.glob(f".{job}.part/extra-*.bin")
        return {file.name: file.stat().st_ino for file in found if file.stat().st_size == EXTRA}

    with hearing_ctrl_c(), coordinator.popen(*command) as fetching:
        until(lambda: len(arrived()) >= 2, "two files have arrived")
        fetching.send_signal(signal.SIGINT)
        said, _ = fetching.communicate(timeout=30)
    assert fetching.returncode == 130
    assert f"go on: sollol fetch {job} --to {target}" in said
    assert not target.exists()
    host.set_rate("1gbit")
    kept = arrived()
    assert 2 <= len(kept) < EXTRAS
    assert f"adapter  {target}" in coordinator.sollol(*command)
    assert (target / "adapter_model.safetensors").read_bytes() == b"stub 10\n"
    assert len(list(target.glob("extra-*.bin"))) == EXTRAS
    assert {name: (target / name).stat().st_ino for name in kept} == kept


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """A shell has what it starts in the background ignore Ctrl+C, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def swell(result: Path) -> None:
    """Makes a result large enough to be interrupted on its way."""
    manifest = json.loads((result / "manifest.json").read_bytes())
    for number in range(EXTRAS):
        content = os.urandom(EXTRA)
        (result / f"extra-{number}.bin").write_bytes(content)
        entry = {"size": EXTRA, "sha256": hashlib.sha256(content).hexdigest()}
        manifest["files"][f"extra-{number}.bin"] = entry
    (result / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_host_key_is_refused_with_both_fingerprints(
    coordinator: Coordinator, lab: Lab
) -> None:
    lab.hosts[0].restart_sshd(host_key="new")
    said = coordinator.sollol(*coordinator.train("--workers", "w1"), expect=7)
    assert "has CHANGED" in said
    assert len(set(FINGERPRINT.findall(said))) == 2
    said = coordinator.sollol("-y", "hosts", "trust", "w1", expect=4)
    assert len(set(FINGERPRINT.findall(said))) == 2
    coordinator.sollol("-y", "hosts", "trust", "--replace", "w1")
    coordinator.sollol(*coordinator.train("--workers", "w1", "--dry-run"))


def test_without_one_host_all_goes_on_and_three_is_refused(
    coordinator: Coordinator, lab: Lab
) -> None:
    lab.hosts[2].power_off()
    said = coordinator.sollol(*coordinator.train("--workers", "3"), expect=7)
    assert re.search(r"w3: .*", said)
    assert "3 workers wanted, 2 suitable now" in said
    assert coordinator.jobs() == []
    coordinator.assert_clean()

    said = coordinator.sollol(*coordinator.train("--workers", "all"))
    assert "without w3: " in said
    assert "world size 2" in said
    assert [worker.host for worker in coordinator.jobs()[0].workers] == ["w1", "w2"]


def test_a_host_that_fails_while_it_is_prepared_is_left_out_or_ends_the_job(
    coordinator: Coordinator, lab: Lab
) -> None:
    models = lab.hosts[1].home / ".sollol" / "models"
    models.rename(models.with_name("models.kept"))
    models.write_text("in the way")
    try:
        said = coordinator.sollol(*coordinator.train("--workers", "2"), expect=6)
        assert re.search(r"failed: w2: ", said)
        coordinator.assert_clean()
        said = coordinator.sollol(*coordinator.train("--workers", "w1,w2"))
        assert "done in" in said
        assert [w.slots for w in coordinator.jobs()[0].workers] == [(0,), ()]
    finally:
        models.unlink()
        models.with_name("models.kept").rename(models)


def test_a_killed_terminal_leaves_the_job_to_other_shells(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out(LONG)
    train = coordinator.popen(*coordinator.train("--workers", "2"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    train.send_signal(signal.SIGKILL)
    train.communicate()

    status = json.loads(coordinator.sollol("status", "--json"))
    assert [(j["id"], j["state"]) for j in status["jobs"]] == [(job, "running")]
    assert {h["name"]: h["job"] for h in status["hosts"]} == {"w1": job, "w2": job, "w3": None}

    logs = coordinator.popen("logs", job, "-f")
    assert logs.stdout is not None
    line = next(line for line in logs.stdout if line.startswith("w2/1  step "))
    assert re.fullmatch(r"w2/1  step \d+ of 100000\n", line)

    said = coordinator.sollol("cancel", job)
    assert f"{job} is cancelled, nothing of it is left on any host" in said
    coordinator.assert_clean()
    logs.communicate(timeout=20)
    assert logs.returncode == 0
    assert coordinator.copies_are_equal(job, *lab.hosts[:2])
    coordinator.sollol("cancel", job, expect=1)


@pytest.mark.long
def test_cut_cables_and_lost_connections_cost_no_byte(coordinator: Coordinator, lab: Lab) -> None:
    coordinator.lay_out({"SOLLOL_STUB_STEPS": "200", "SOLLOL_STUB_STEP_S": "0.02"})
    train = coordinator.popen(*coordinator.train("--workers", "2"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    for host in lab.hosts[:2]:
        end_ssh_sessions(host)
    for host in lab.hosts[:2]:
        host.cut()
    time.sleep(CUT_S)
    steps = coordinator.jobs()[0].step
    for host in lab.hosts[:2]:
        host.heal()
    until(lambda: coordinator.jobs()[0].step > steps, "the job is seen again")
    end_ssh_sessions(lab.hosts[0])
    said, _ = train.communicate(timeout=60)
    assert train.returncode == 0, said
    assert coordinator.copies_are_equal(job, *lab.hosts[:2])
    coordinator.assert_clean()


@pytest.mark.long
def test_a_supervisor_killed_again_and_again_starts_nothing_twice(
    coordinator: Coordinator, lab: Lab
) -> None:
    lab.wipe_workdirs()
    coordinator.lay_out({"SOLLOL_STUB_STEPS": "60", "SOLLOL_STUB_STEP_S": "0.02"})
    coordinator.sollol(*coordinator.train("--workers", "2", "--detach"))
    states = [JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING, JobState.FINISHING]
    with Store(coordinator.home) as store:
        for number in range(len(states)):
            coordinator.job_reaches(*states[number:], JobState.DONE)
            coordinator.kill_supervisors()
            revive(store)
    job = coordinator.job_reaches(JobState.DONE)
    for host in lab.hosts[:2]:
        agents = coordinator.run_dir(job.id, host).glob("log.agent.*")
        assert [path.name for path in agents] == ["log.agent.1"]
    assert (job.step, job.samples_done) == (60, 960)
    assert coordinator.copies_are_equal(job.id, *lab.hosts[:2])
    coordinator.assert_clean()


@pytest.mark.long
def test_a_supervisor_killed_while_it_cancels_leaves_nothing_in_the_end(
    coordinator: Coordinator, lab: Lab
) -> None:
    coordinator.lay_out({**LONG, "SOLLOL_STUB_STRAYS": "1"})
    coordinator.sollol(*coordinator.train("--workers", "2", "--detach"))
    job = coordinator.job_reaches(JobState.RUNNING).id
    coordinator.sollol("cancel", job, "--detach")
    coordinator.job_reaches(JobState.STOPPING, JobState.CANCELLED)
    coordinator.kill_supervisors()
    coordinator.sollol("status", "--cached")
    coordinator.job_reaches(JobState.CANCELLED)
    coordinator.assert_clean()


def end_ssh_sessions(host: Machine) -> None:
    """Kills the server's side of every connection; the listener and what runs stay."""
    kill = (
        "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in "
        "'sshd: root'*) kill -9 ${p#/proc/};; esac; done"
    )
    host.run(["sh", "-c", kill])
