"""The Python of the document that this project was created from runs as it stands there, apart from
the name of the package."""

import re
from pathlib import Path

import pytest

import sollol_tui.jobs.submit
from sollol_tui import SOLLOLClient
from sollol_tui.jobs.roster import membership_requests
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench
from tests.jobs.samples import add_job

SEED = Path(__file__).resolve().parents[1] / "data" / "seed.md"
LONG = {"SOLLOL_STUB_STEPS": "100000"}
JOB = "job-12345"  # as the document calls it
NVIDIA_SMI = r"""#!/bin/sh
case "$*" in
  *--query-gpu=*utilization*) q=', 0, 10, 24576, 40' ;;
  *--query-gpu=*) q=', 24576, GPU-%s, 550.54.15, [N/A]' ;;
  -L) echo 'GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-0)'
      echo 'GPU 1: NVIDIA GeForce RTX 3090 (UUID: GPU-1)'; exit ;;
  *) exit ;;
esac
for n in 0 1; do printf "$n, NVIDIA GeForce RTX 3090$q\n" $n; done
"""


def examples() -> list[str]:
    """Every piece of Python in the document, in its order."""
    text = SEED.read_text()
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    found = []
    for language, block in blocks:
        if language == "python":
            found.append(block)
        elif language == "bash":
            found += re.findall(r'python -c "(.*?)"', block, re.DOTALL)
    return [example.replace("from sollol import", "from sollol_tui import") for example in found]


def example(marker: str) -> str:
    (found,) = [code for code in examples() if marker in code]
    return found


def run(code: str, **names: object) -> None:
    exec(compile(code, str(SEED), "exec"), names)


@pytest.fixture
def cluster(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The bench, as a client without any argument finds it."""
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("SOLLOL_HOME", str(bench.home.root))
    return bench


def test_the_document_has_the_examples_that_are_tried_here() -> None:
    markers = ["list_nodes", "get_job_status", "join_job", "pause_job", "submit_job"]
    assert len(examples()) == len(markers)
    assert all(example(marker) for marker in markers)


def test_nodes_and_a_job_are_looked_at_and_the_job_is_steered(
    cluster: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    job = cluster.submit(env=LONG, name=JOB)
    cluster.takes_steps(job)
    run(example("list_nodes"))
    assert "name='two', state=<HostState.UP" in capsys.readouterr().out
    run(example("get_job_status"))
    assert f"id='{job}', name='{JOB}', state=<JobState.RUNNING" in capsys.readouterr().out
    run(example("pause_job"))  # ... resume_job, cancel_job: at once, one after the other
    view = cluster.reaches(job, JobState.CANCELLED)
    assert view.samples_done > 0
    assert cluster.left(job) == []


def test_the_coordinator_is_asked_to_join_the_newest_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    (tmp_path / "inventory.yaml").write_text("hosts: [w1, w2]\n")
    with SOLLOLClient() as client, Store(client.home) as store:
        add_job(store, "w9 cpu", name="older")
        newest = add_job(store, "w1 cpu", "w2 cpu")
        for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
            store.move_job(newest, state)
        run(example("join_job"))
        asked = [(request.kind, request.host) for request in membership_requests(store, newest)]
        assert asked == [("join", "coordinator")]


def test_a_job_gets_the_gpus_cores_and_memory_that_it_names(
    cluster: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(
        sollol_tui.jobs.submit, "start_supervisor", lambda home, job: started.append(job)
    )
    tools = cluster.folder / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(NVIDIA_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    cluster.inventory.write_text(
        f"hosts: {{big: {{connection: local, workdir: {cluster.folder}/work}}}}\n"
    )
    (cluster.folder / "rows.jsonl").rename(cluster.folder / "claude_ultimate_with_tools_621k.jsonl")
    with SOLLOLClient() as client:
        run(example("submit_job"), client=client)
        (job,) = client.list_jobs()
        resources = client.job_spec(job["id"]).resources
    assert started == [job.id]
    assert (resources.gpu_ids, resources.cpu_cores, resources.ram_gb) == ((0, 1), 16, 32)
    assert [(worker["host"], worker["slots"]) for worker in job["workers"]] == [("big", (0, 1))]
