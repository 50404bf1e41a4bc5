"""What ended jobs have left is weighed, and removed from the state and from the workers."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.hosts.runs import Run, weigh_runs
from sollol_tui.jobs.events import add_events
from sollol_tui.jobs.output import JOB_FILE
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import LOCK
from sollol_tui.jobs.teacher_rows import note_teacher
from sollol_tui.model.events import decode
from sollol_tui.model.states import JobState
from sollol_tui.model.teacher import Lesson, PlannedTeacher, TeacherHost
from sollol_tui.model.teacher import Path as Teaching
from tests.jobs.samples import add_job, line, plan
from tests.jobs.saved import run_dir_of, write_checkpoint

WAY = (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING, JobState.FINISHING)


@pytest.fixture
def ended(plain_client: SOLLOLClient, held_job: str, tmp_path: Path) -> str:
    """The job is done; its workers, this machine and its result folder hold what it left."""
    with Store(plain_client.home) as store:
        nonce = store.job(held_job).nonce
        for state in (*WAY, JobState.DONE):
            store.move_job(held_job, state)
    for host in ("w1", "w2"):
        run_dir = run_dir_of(tmp_path, held_job, host)
        write_checkpoint(run_dir / "checkpoints", 10)
        (run_dir / "run.json").write_text(json.dumps({"nonce": nonce}))
    copies = plain_client.home.job(held_job) / "w1"
    copies.mkdir(parents=True)
    (copies / "log.0.1").write_text("a step\n" * 1000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / JOB_FILE).write_text(f"# {held_job}\n")
    return held_job


def test_an_ended_job_leaves_nothing_but_its_result(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    (found,) = plain_client.prunable_jobs()
    assert (found.job, found.obstacles, found.adapter) == (ended, {}, "")
    assert sorted(found.workers) == ["w1", "w2"]
    assert min(found.here_bytes, *found.workers.values()) > 0
    assert found.size_bytes == found.here_bytes + sum(found.workers.values())
    assert plain_client.get_job_status(ended).state is JobState.DONE  # nothing was changed
    assert run_dir_of(tmp_path, ended, "w1").exists()
    (removed,) = plain_client.prune_jobs([ended])
    assert removed.obstacles == {}
    assert plain_client.list_jobs() == []
    assert not (tmp_path / "w1" / "runs" / ended).exists()
    assert not (tmp_path / "w2" / "runs" / ended).exists()
    assert list((plain_client.home.root / "jobs").iterdir()) == []
    assert (tmp_path / "out" / JOB_FILE).exists()
    with Store(plain_client.home) as store:
        for table in ("workers", "transitions", "events", "slots"):
            rows = store.connection.execute(f"SELECT COUNT(*) AS n FROM {table}").fetchone()
            assert rows["n"] == 0, table


def test_a_run_directory_of_which_something_lives_stays(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    run_dir = run_dir_of(tmp_path, ended, "w2")
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "SOLLOL_RUN": str(run_dir)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as living:
        assert living.stdout is not None
        living.stdout.readline()
        (left,) = plain_client.prune_jobs([ended])
        assert left.obstacles == {"w2": "something of it still runs there"}
        assert run_dir.exists()
        assert plain_client.get_job_status(ended).id == ended
        living.kill()
    (removed,) = plain_client.prune_jobs([ended])
    assert removed.obstacles == {}
    assert plain_client.list_jobs() == []


def test_another_coordinators_run_of_the_same_id_stays(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    run_dir = run_dir_of(tmp_path, ended, "w1")
    (run_dir / "run.json").write_text(json.dumps({"nonce": "another"}))
    (left,) = plain_client.prune_jobs([ended])
    assert left.obstacles == {"w1": "another coordinator's job of that id lies there"}
    assert run_dir.exists()


def test_a_job_is_kept_while_a_worker_is_silent_unless_it_is_to_be_forgotten(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    with Store(plain_client.home) as store:
        path = str(run_dir_of(tmp_path, ended, "w3"))
        row = store.connection.execute("SELECT environment FROM workers WHERE host = 'w2'")
        place = json.loads(row.fetchone()["environment"]) | {"run_dir": path}
        store.connection.execute(
            "UPDATE workers SET host = 'w3', environment = ? WHERE host = 'w2'",
            (json.dumps(place),),
        )
    (left,) = plain_client.prune_jobs([ended])
    assert list(left.obstacles) == ["w3"]
    assert not run_dir_of(tmp_path, ended, "w1").exists()
    assert (plain_client.home.job(ended) / "w1" / "log.0.1").exists()
    (left,) = plain_client.prune_jobs([ended], forget=True)
    assert list(left.obstacles) == ["w3"]
    assert plain_client.list_jobs() == []


def test_a_result_inside_the_state_folder_is_never_removed(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    result = plain_client.home.job(ended) / "deep" / "result"
    result.mkdir(parents=True)
    with Store(plain_client.home) as store:
        store.note_output(ended, result)
    (left,) = plain_client.prune_jobs([ended], forget=True)
    assert left.obstacles == {"": f"its result lies in {plain_client.home.job(ended)}"}
    assert result.exists()
    assert run_dir_of(tmp_path, ended, "w1").exists()


def test_jobs_that_live_or_end_right_now_are_left_alone(
    plain_client: SOLLOLClient, ended: str
) -> None:
    import fcntl

    with (plain_client.home.job(ended) / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (left,) = plain_client.prune_jobs([ended])
    assert left.obstacles == {"": "its supervisor is still at work"}
    assert plain_client.get_job_status(ended).id == ended


def test_only_old_enough_jobs_are_meant_and_the_newest_are_kept(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    assert plain_client.prunable_jobs(older_than_s=3600) == []
    assert plain_client.prunable_jobs(keep=1) == []
    with Store(plain_client.home) as store:
        old = time.time() - 7200
        store.connection.execute("UPDATE jobs SET ended_at = ? WHERE id = ?", (old, ended))
    assert [each.job for each in plain_client.prunable_jobs(older_than_s=3600)] == [ended]
    (tmp_path / "out" / JOB_FILE).unlink()
    (found,) = plain_client.prunable_jobs()
    assert found.adapter == str(tmp_path / "out")


@pytest.mark.parametrize("answer", [b"removed 4\n", b"removed 4\nwhat?\n"])
async def test_a_host_that_says_nothing_of_a_run_is_not_taken_to_have_removed_it(
    answer: bytes,
) -> None:
    class Terse:
        async def run(self, *_: object, **__: object) -> object:
            return SimpleNamespace(stdout=answer)

    runs = [Run(job=job, nonce="n", path=f"/runs/{job}/w1") for job in ("j-1", "j-2")]
    weights = await weigh_runs(runs, Terse(), remove=True)  # type: ignore[arg-type]
    assert weights["j-1"].obstacle == ""
    assert weights["j-2"].obstacle.startswith(
        "the host says" if b"?" in answer else "the host said"
    )


def test_what_teachers_said_goes_with_the_last_job_that_learns_from_it(
    plain_client: SOLLOLClient, ended: str
) -> None:
    home = plain_client.home
    interrupted = "scores/.pruned-old/000000.scores"  # by a prune before `old` was made again
    shard = "000000.scores"
    for place in (f"scores/mine/{shard}", f"scores/old/{shard}", interrupted, "answers/old.jsonl"):
        (home.root / place).parent.mkdir(parents=True, exist_ok=True)
        (home.root / place).write_bytes(b"x" * 5000)
    lesson = Lesson(model="big", path=Teaching.SCORES, why="")
    teacher = PlannedTeacher(lesson=lesson, hosts=(), top_k=8, tokens=1)
    with Store(home) as store:
        live = add_job(store, "host w3")
        store.note_plan(live, replace(plan("w3"), teacher=teacher))
        assert plain_client.unneeded_scores() == (), "one that goes on has not said what it needs"
        said = decode(line("scores", 0, key="live"))
        assert said is not None
        add_events(store, live, "w3", "events.0.1.jsonl", [(0, said)], 9)
        store.note_plan(ended, replace(plan("w1"), teacher=teacher))
        said = decode(line("scores", 0, key="mine"))
        assert said is not None
        add_events(store, ended, "w1", "events.0.1.jsonl", [(0, said)], 9)

    def left() -> list[str]:
        return sorted(path.name for path in (*home.scores.iterdir(), *home.answers.iterdir()))

    assert {Path(each.path).name for each in plain_client.unneeded_scores([ended])} == {
        "mine", ".pruned-old", "old", "old.jsonl",
    }  # fmt: skip
    removed = plain_client.prune_scores()
    assert min(each.size_bytes for each in removed) > 0
    assert left() == ["mine"]
    plain_client.prune_jobs([ended])
    plain_client.prune_scores()
    assert left() == []


def test_the_run_of_a_teacher_whose_host_is_left_out_by_now_goes_too(
    plain_client: SOLLOLClient, ended: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "w1" / "runs" / ended / "w1.teacher"
    run_dir.mkdir()
    with Store(plain_client.home) as store:
        (run_dir / "run.json").write_text(json.dumps({"nonce": store.job(ended).nonce}))
        lesson = Lesson(model="big", path=Teaching.SCORES, why="")
        for name in ("w1", "w2"):
            host = TeacherHost(host=name, address="", accelerator="cpu", gpu=None)
            teacher = PlannedTeacher(lesson=lesson, hosts=(host,), top_k=8, tokens=1)
            store.note_plan(ended, replace(plan("w1"), teacher=teacher))
        [worker] = [each for each in store.workers(ended) if each.host == "w1"]
        there = {**worker.environment, "run_dir": str(run_dir)}
        note_teacher(store, ended, "w1", environment=json.dumps(there))
    plain_client.prune_jobs([ended])
    assert not run_dir.exists()
