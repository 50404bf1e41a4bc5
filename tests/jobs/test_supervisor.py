"""A job's life over embedded hosts: real supervisor process, real SSH, real agent, ranks of the
standard library."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sollol_tui.jobs import results
from sollol_tui.jobs.output import owner
from sollol_tui.model.errors import NotFoundError, StateError
from sollol_tui.model.states import JobState
from tests.jobs.bench import DEADLINE_S, Bench, is_alive, supervisors, until, write_rows

LONG = {"SOLLOL_STUB_STEPS": "100000"}


def test_a_job_runs_to_its_end_and_imports_nothing_of_the_users_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("asyncio", "psutil", "logging", "remote", "sollol_tui"):
        (bench.folder / f"{name}.py").write_text("raise SystemExit('imported from the folder')")
    monkeypatch.chdir(bench.folder)
    job = bench.submit(name="tiny")
    view = bench.reaches(job, JobState.DONE)
    out = Path(view.output_dir)
    assert out == bench.folder / "out" / job
    assert (out / "adapter_model.safetensors").read_bytes() == b"stub 20\n"
    assert (out / "job.yaml").read_text().startswith(f"# {job}\n")
    assert {path.name for path in (out / "logs").rglob("log.*")} >= {"log.0.1", "log.1.1"}
    assert (view.step, view.world_size, view.samples_done) == (20, 2, 320)
    assert view.loss is not None
    assert view.first_loss is not None
    assert view.loss < view.first_loss
    assert [(w.host, w.slots, w.state) for w in view.workers] == [
        ("one", (0,), "gone"),
        ("two", (1,), "gone"),
    ]
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []
    until(lambda: not supervisors(bench.home), "the supervisor has gone")
    for path in (bench.home.root, *bench.home.root.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_cancel_while_it_runs_leaves_nothing_and_keeps_a_checkpoint(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    agents = [said for said in bench.left(job) if "remote.agent" in said]
    assert {host for said in agents for host in ("one", "two") if f"/{job}/{host}" in said} == {
        *("one", "two")
    }
    bench.client.cancel_job(job)
    view = bench.reaches(job, JobState.CANCELLED)
    assert view.reason == ""
    assert bench.left(job) == []
    assert bench.copies_are_equal(job)
    assert list((bench.run_dir(job, "one") / "checkpoints").glob("checkpoint-*"))
    assert bench.client.snapshot().hosts[0].job is None  # its hosts are free again


def test_cancel_now_waits_for_no_rank_that_does_not_listen(bench: Bench) -> None:
    job = bench.submit(env={**LONG, "SOLLOL_STUB_DEAF": "1", "SOLLOL_STUB_STRAYS": "1"})
    bench.takes_steps(job)
    bench.client.cancel_job(job)
    bench.client.cancel_job(job, now=True)
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


def test_cancel_before_anything_was_launched(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.client.cancel_job(job)
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


def test_cancel_while_the_ranks_are_starting(bench: Bench) -> None:
    job = bench.submit(env={**LONG, "SOLLOL_STUB_FAIL": "mute"})
    bench.reaches(job, JobState.STARTING)
    until(lambda: [said for said in bench.left(job) if "remote.train" in said], "a rank loads")
    bench.client.cancel_job(job)
    # Nothing was learnt yet, so a rank that listens to nobody is not given time for a checkpoint.
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(JobState.PROVISIONING, marks=pytest.mark.long),
        pytest.param(JobState.STARTING, marks=pytest.mark.long),
        JobState.RUNNING,
        pytest.param(JobState.FINISHING, marks=pytest.mark.long),
    ],
)
def test_a_killed_supervisor_is_replaced_and_nothing_starts_twice(
    bench: Bench, state: JobState
) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "30", **bench.until_released(10)})
    if state is JobState.RUNNING:
        bench.takes_steps(job)
    else:
        bench.release.touch()
        bench.reaches(job, *list(JobState)[list(JobState).index(state) :])
    bench.kill_supervisor(job)
    bench.release.touch()
    if not bench.view(job).state.is_terminal:
        assert bench.client.revive() == [job]
    view = bench.reaches(job, JobState.DONE)
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    assert view.step == 30
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []
    said = bench.client.events(job, "ready", "finished")
    assert sorted((event.kind, event.slot) for event in said) == [
        ("finished", 0), ("finished", 1), ("ready", 0), ("ready", 1),
    ]  # fmt: skip


@pytest.mark.long  # tests/jobs/test_coordinator_killed.py names the moments
def test_a_supervisor_killed_while_it_cancels_is_replaced_and_cancels(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.takes_steps(job)
    bench.client.cancel_job(job)
    bench.reaches(job, JobState.STOPPING, JobState.CANCELLED)
    bench.kill_supervisor(job)
    assert bench.client.revive() == [job]
    bench.reaches(job, JobState.CANCELLED)
    assert bench.left(job) == []


def test_a_supervisor_has_no_terminal_and_a_second_one_leaves_at_once(bench: Bench) -> None:
    job = bench.submit(env=LONG)
    bench.reaches(job, JobState.STARTING, JobState.RUNNING)
    first = bench.supervisor(job)
    assert os.getsid(first.pid) == first.pid  # a closed terminal does not reach it
    assert first.terminal() is None
    second = subprocess.run(
        [sys.executable, "-P", "-m", "sollol_tui.jobs.supervise", job],
        env=os.environ | {"SOLLOL_HOME": str(bench.home.root)},
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"")
    assert is_alive(first)
    assert bench.client.revive() == []


def test_a_rank_that_dies_at_import_fails_the_job_with_its_traceback(bench: Bench) -> None:
    job = bench.submit(env=LONG, per_host={"two": {"SOLLOL_STUB_FAIL": "import"}})
    view = bench.reaches(job, JobState.FAILED)
    assert view.reason.startswith("two: rank 1")
    assert "ImportError: libstub.so.1: cannot open shared object file" in view.traceback
    assert "remote/train.py" in view.traceback
    assert bench.left(job) == []
    assert bench.copies_are_equal(job)


def test_a_rank_that_fails_in_a_step_is_named_and_not_its_peer(bench: Bench) -> None:
    fails = {"two": {"SOLLOL_STUB_FAIL": "step:3"}}
    job = bench.submit(env=LONG, per_host=fails, on_worker_loss="fail")
    view = bench.reaches(job, JobState.FAILED)
    assert view.reason == "two: rank 1: RuntimeError: told to fail in step 3"
    assert "told to fail in step 3" in view.traceback
    assert bench.left(job) == []


def test_a_rank_that_leaves_without_a_word_is_named(bench: Bench) -> None:
    job = bench.submit(env=LONG, per_host={"two": {"SOLLOL_STUB_FAIL": "silent"}})
    view = bench.reaches(job, JobState.FAILED)
    assert view.reason.startswith("two: ")
    assert bench.left(job) == []


def test_a_rank_that_is_never_ready_is_named_after_start_timeout(bench: Bench) -> None:
    mute = {"SOLLOL_STUB_FAIL": "mute"}
    job = bench.submit(env=LONG, per_host={"two": mute}, start_timeout=2)
    view = bench.reaches(job, JobState.FAILED)
    assert "two" in view.reason
    assert "start_timeout" in view.reason
    assert bench.left(job) == []


def test_a_rank_in_another_world_fails_the_job_by_name(bench: Bench) -> None:
    # What accelerate does without --multi_gpu: every rank is alone in a world of one.
    job = bench.submit(env={**LONG, "SOLLOL_STUB_FAIL": "alone"})
    view = bench.reaches(job, JobState.FAILED)
    assert "sees a world of 1, the plan has 2" in view.reason
    assert bench.left(job) == []


def test_an_agent_that_is_killed_is_told_and_nothing_is_left(bench: Bench) -> None:
    job = bench.submit(env=LONG, on_worker_loss="fail")
    bench.takes_steps(job)
    records = (bench.run_dir(job, "two") / "pids").read_text().splitlines()
    agents = [record["pid"] for record in map(json.loads, records) if record["role"] == "agent"]
    os.kill(agents[-1], signal.SIGKILL)
    view = bench.reaches(job, JobState.FAILED)
    assert view.reason.startswith("two: its agent is gone")
    assert bench.left(job) == []


def test_a_dataset_that_goes_away_after_the_plan_is_told(bench: Bench) -> None:
    rows = write_rows(bench.folder / "other.jsonl", 33)
    bench.lay_out({}, {})
    spec = {"model": str(bench.folder / "model"), "dataset": str(rows), "workers": "one"}
    spec["output_dir"] = str(bench.folder / "out")
    prepared = asyncio.run(bench.client.prepare_job(spec))
    rows.unlink()
    view = bench.reaches(bench.client.start_job(prepared).id, JobState.FAILED)
    assert "other.jsonl  is gone or cannot be read: No such file" in view.reason
    assert "sollol itself failed" not in view.reason


def test_a_result_takes_a_free_name_and_takes_it_with_its_job_file_and_its_logs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = bench.folder / "out" / "taken"
    job = bench.submit(env=bench.until_released(5), output_dir=str(taken))
    with pytest.raises(NotFoundError, match=f"{job} has no result"):
        bench.client.fetch(job)
    taken.mkdir(parents=True)
    (taken / "thesis.tex").write_text("precious")
    bench.release.touch()
    out = Path(bench.reaches(job, JobState.DONE).output_dir)
    assert out == taken.with_name("taken.2")
    assert [path.name for path in taken.iterdir()] == ["thesis.tex"]
    assert (out / "adapter_model.safetensors").is_file()
    assert (out / "job.yaml").read_text().startswith(f"# {job}\n")
    assert bench.client.fetch(job) == out  # in the place of the same job's earlier one
    assert bench.view(job).output_dir == str(out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["taken", "taken.2"]
    assert bench.left(job) == []
    shutil.rmtree(out)

    def stop_before(part: Path, output: Path, job: str) -> Path:
        assert owner(part) == job
        assert {path.name for path in (part / "logs").rglob("log.*")} >= {"log.0.1", "log.1.1"}
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(results, "publish", stop_before)
        with pytest.raises(StateError, match=f"No space left .*; .*: sollol fetch {job}"):
            bench.client.fetch(job)
    assert list(out.parent.iterdir()) == [taken]
    assert bench.client.fetch(job) == out
    assert owner(out) == job
