"""A coordinator whose ssh-agent went away with its login: jobs wait for the next login."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sollol_tui.jobs import submit as submitting
from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.jobs.bench import until

pytestmark = pytest.mark.keep_workdir
SLOW = {"SOLLOL_STUB_STEPS": "60", "SOLLOL_STUB_STEP_S": "0.1"}
LISTENS = "SSH_AUTH_SOCK"


@contextmanager
def ssh_agent(listens: Path, key: Path) -> Iterator[str]:
    """Lives as long as the body, as a login does, and holds `key`."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(listens)], stdout=subprocess.DEVNULL) as it:
        until(listens.is_socket, "the ssh-agent listens")
        subprocess.run(
            ["ssh-add", "-q", str(key)], check=True, env={**os.environ, LISTENS: str(listens)}
        )
        yield str(listens)
        it.kill()
    listens.unlink()


def test_a_job_without_the_ssh_agent_waits_for_the_next_login(
    coordinator: Coordinator, lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    coordinator.lay_out(SLOW)
    # A public key names one that only an ssh-agent has.
    text = coordinator.inventory.read_text()
    coordinator.inventory.write_text(text.replace('/identity"', '/identity.pub"'))
    spec = {"model": "model", "dataset": "rows.jsonl", "workers": "w1,w2", "engine": "static"}
    monkeypatch.chdir(tmp_path)
    with ssh_agent(tmp_path / "first", lab.identity) as listens, monkeypatch.context() as login:
        login.setenv(LISTENS, listens)
        client = coordinator.client()
        login.setattr(submitting, "start_supervisor", lambda home, job: None)
        job = client.submit_job(spec).id

    def look() -> str:
        """What cron sees, which has no ssh-agent, and starts a supervisor like itself."""
        coordinator.sollol("status", "--cached")
        return client.get_job_status(job).stage

    until(lambda: "waits for your ssh-agent" in look(), "it says what it waits for")
    assert "does not admit us" in look()
    assert client.get_job_status(job).state is JobState.PROVISIONING

    with ssh_agent(tmp_path / "second", lab.identity) as listens, monkeypatch.context() as login:
        login.setenv(LISTENS, listens)
        coordinator.sollol("status", "--cached")
        until(lambda: client.get_job_status(job).step > 0, "the same supervisor takes it up")
    for host in lab.hosts:
        host.end_logins()

    def unseen() -> list[str]:
        return [w.reason for w in client.get_job_status(job).workers if w.unseen_since]

    until(lambda: [r for r in unseen() if "waits for your ssh-agent" in r], "they are unseen")
    assert client.get_job_status(job).state is JobState.RUNNING
    with ssh_agent(tmp_path / "third", lab.identity) as listens, monkeypatch.context() as login:
        login.setenv(LISTENS, listens)
        coordinator.sollol("wait", job)
    client.close()
    assert coordinator.job_reaches(JobState.DONE).step == 60
    assert coordinator.copies_are_equal(job, *lab.hosts[:2])
    coordinator.assert_clean()
