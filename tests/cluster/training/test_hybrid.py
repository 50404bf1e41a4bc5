"""A student that learns from a teacher on another host: real scores over real OpenSSH."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs.home import open_home
from sollol_tui.model.snapshot import JobWorkerView
from sollol_tui.model.states import JobState
from tests.cluster.conftest import CHECKOUT, UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab
from tests.cluster.training.environment import needs_worker_python, worker_python
from tests.jobs.bench import until

WORDS = ("red", "green", "blue", "seven", "eight", "nine")
ROWS, MORE = 96, 4000
BOTH_MODELS = """
import sys
from remote import tiny
tiny.main([sys.argv[1]])
tiny.main([sys.argv[2], "--seed", "1"])
"""
SETTINGS = {
    "max_length": 64, "batch_size": 8, "global_batch": 16, "lr": 5e-3, "lora.r": 8,
    "lora.modules_to_save": "[embed_tokens, lm_head]", "schedule": "constant", "epochs": 2,
    "teacher.alpha": 0.1,
}  # fmt: skip


@pytest.fixture
def coordinator(lab: Lab, tmp_path: Path) -> Iterator[Coordinator]:
    fill_cache(CHECKOUT, tmp_path / "cache")
    beside = Coordinator(
        lab=lab,
        home=open_home(tmp_path / "home"),
        folder=tmp_path,
        cache_on_hosts=UV_CACHE_ON_HOSTS,
    )
    beside.knows_hosts()
    beside.lay_out({"HF_HUB_OFFLINE": "1"})
    worker_python("-c", BOTH_MODELS, str(tmp_path / "model"), str(tmp_path / "teacher"))
    rows = [
        {"instruction": f"say {word}", "output": f"{word} {number} {word}"}
        for number in range(ROWS)
        for word in [WORDS[number % len(WORDS)]]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    yield beside
    beside.kill_supervisors()


def write_more_rows(coordinator: Coordinator) -> None:
    """So many that a scorer may be held while it has not come to its end."""
    more = [{"instruction": f"count {n}", "output": f"{n} {n + 1} {n + 2}"} for n in range(MORE)]
    text = "".join(f"{json.dumps(row)}\n" for row in more)
    (coordinator.folder / "rows.jsonl").write_text(text)


def flip(path: Path) -> None:
    """One bit in the middle of a file is another one."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def hybrid(coordinator: Coordinator, *arguments: str) -> list[str]:
    flags = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    asked = ["--mode", "hybrid", "--teacher", "teacher", *flags, *arguments]
    return coordinator.train(*asked)


def teacher_events(
    coordinator: Coordinator, job: str, host: str, kind: str
) -> list[dict[str, Any]]:
    return events(coordinator.home.copies(job, f"{host}.teacher"), kind)


def student_events(coordinator: Coordinator, job: str, kind: str) -> list[dict[str, Any]]:
    return events(coordinator.home.copies(job, "w1"), kind)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [
        line for path in sorted(folder.glob("events.*")) for line in path.read_text().splitlines()
    ]
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


@needs_worker_python
@pytest.mark.timeout(600)
def test_two_workers_learn_what_a_third_host_scores(coordinator: Coordinator) -> None:
    command = hybrid(coordinator, "--workers", "w1,w2", "--teacher-host", "w3")
    said = coordinator.sollol(*command, timeout_s=400)
    [first] = coordinator.jobs()
    assert first.state is JobState.DONE, said
    assert "teacher on w3" in said
    shards = teacher_events(coordinator, first.id, "w3", "shard")
    assert [shard["present"] for shard in shards] == [False] * len(shards)
    scored = [event["scored"] for event in teacher_events(coordinator, first.id, "w3", "finished")]
    assert scored == [sum(shard["tokens"] for shard in shards)]
    steps = [step for step in student_events(coordinator, first.id, "step") if "kl" in step]
    assert steps[-1]["kl"] < steps[0]["kl"]
    coordinator.assert_clean()


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_second_job_with_the_same_data_scores_nothing(coordinator: Coordinator) -> None:
    for seed in ("1", "7"):
        one = hybrid(
            coordinator, "--workers", "w1", "--teacher-host", "w3", "--set", f"seed={seed}"
        )
        coordinator.sollol(*one, timeout_s=400)
    first, second = sorted(coordinator.jobs(), key=lambda job: job.created_at)
    assert [first.state, second.state] == [JobState.DONE, JobState.DONE]
    assert teacher_events(coordinator, first.id, "w3", "shard")
    assert not coordinator.home.copies(second.id, "w3.teacher").exists()
    coordinator.assert_clean()


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_teacher_with_other_tokens_writes_answers_which_are_a_dataset_from_then_on(
    coordinator: Coordinator,
) -> None:
    rows = coordinator.folder / "rows.jsonl"
    other = str(coordinator.folder / "other")
    worker_python("-m", "remote.tiny", other, "--words-of", str(rows))
    settings = ("--set", "model=other", "--set", "teacher.max_new_tokens=6")
    both = ("--workers", "w1,w2", "--teacher-host", "w1", *settings)
    said = coordinator.sollol(*hybrid(coordinator, *both), timeout_s=400)
    [job] = coordinator.jobs()
    assert job.state is JobState.DONE, said
    assert "text: it writes answers" in said
    [answers] = (coordinator.home.root / "answers").glob("*.jsonl")
    written = [json.loads(line) for line in answers.read_text().splitlines()]
    assert 0 < len(written) == job.samples_done / 2
    assert not [step for step in student_events(coordinator, job.id, "step") if "kl" in step]
    coordinator.assert_clean()


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_token_is_scored_twice_though_host_and_supervisor_are_lost_and_the_job_is_paused(
    coordinator: Coordinator, lab: Lab
) -> None:
    w3 = lab.hosts[2]
    write_more_rows(coordinator)
    settings = ("--set", "global_batch=128", "--set", "epochs=1", "--detach")
    both = ("--workers", "w1,w2", "--teacher-host", "w3", *settings)
    coordinator.sollol(*hybrid(coordinator, *both))
    [job] = coordinator.jobs()
    folder = coordinator.home.copies(job.id, "w3.teacher")
    until(lambda: folder.exists() and events(folder, "shard"), "a first shard", 300)
    w3.freeze()
    coordinator.kill_supervisors()
    assert not events(folder, "finished")
    w3.crash()
    w3.boot()
    coordinator.sollol("pause", job.id, timeout_s=300)
    coordinator.assert_clean()
    coordinator.sollol("resume", job.id)
    coordinator.sollol("attach", job.id, timeout_s=400)
    [job] = coordinator.jobs()
    assert (job.state, job.samples_done) == (JobState.DONE, MORE)
    scored = Counter(each["shard"] for each in events(folder, "shard") if not each["present"])
    [shards] = {each["shards"] for each in events(folder, "scoring")}
    assert set(scored.values()) == {1}
    assert len(scored) >= shards - 1  # of one the word may have been lost with the host
    coordinator.assert_clean()


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_hosts_of_a_teacher_share_the_work_students_outrun_them_and_no_damage_is_learnt(
    coordinator: Coordinator, lab: Lab
) -> None:
    first, second, third = lab.hosts
    write_more_rows(coordinator)
    settings = ("--set", "global_batch=128", "--set", "epochs=1", "--detach")
    both = ("--workers", "w1", "--teacher-host", "w2,w3", *settings)
    coordinator.sollol(*hybrid(coordinator, *both))
    [job] = coordinator.jobs()

    def told(host: str, kind: str) -> list[dict[str, Any]]:
        return teacher_events(coordinator, job.id, host, kind)

    until(lambda: told("w3", "shard"), "a first shard", 300)
    scorers = [each for each in third.processes() if "remote.distill.score" in each.command]
    for scorer in scorers:
        third.run(["kill", "-STOP", str(scorer.pid)])
    assert scorers
    assert not told("w3", "finished")
    until(lambda: told("w2", "finished"), "the other's part", 300)

    def awaited() -> dict[str, Any] | None:
        """What the student waits for, once that is the held scorer's alone."""
        waits = student_events(coordinator, job.id, "awaiting_scores")[-1:]
        return next((each for each in waits if all(n % 2 for n in each["shards"])), None)

    step = until(awaited, "it has outrun the other", 300)["step"]
    waits = f"waits for the teacher's scores of step {step}"
    until(lambda: waits in coordinator.sollol("events", job.id), "it is told", 100)

    [here] = coordinator.home.scores.iterdir()
    student, scorer = (host.home / ".sollol" / "scores" / here.name for host in (first, second))
    damaged = {120: [student], 122: [student, here], 124: [student, here, scorer]}
    sound = {}
    for shard, folders in damaged.items():
        name = f"{shard:06d}.scores"
        until((student / name).exists, f"{name} on the student's host", 100)
        sound[shard] = (here / name).read_bytes()
        for folder in folders:
            flip(folder / name)
    for each in scorers:
        third.run(["kill", "-CONT", str(each.pid)], check=False)  # launched anew after 60 s
    coordinator.sollol("attach", job.id, timeout_s=400)
    [job] = coordinator.jobs()
    assert (job.state, job.samples_done) == (JobState.DONE, MORE), job.reason
    thrown = {
        each["shard"]: each["t"] for each in student_events(coordinator, job.id, "scores_corrupt")
    }
    assert thrown.keys() == damaged.keys()
    came = {each["step"]: each["t"] for each in student_events(coordinator, job.id, "scores_here")}
    taken = student_events(coordinator, job.id, "step")  # not each is told
    for shard, at in thrown.items():
        step = shard * told("w2", "scoring")[0]["shard_rows"] // 128 + 1
        after = min(each["t"] for each in taken if each["step"] >= step)
        assert at < came[step] < after, f"shard {shard}"
        assert (student / f"{shard:06d}.scores").read_bytes() == sound[shard]
    scored = [
        each["shard"]
        for host in ("w2", "w3")
        for each in told(host, "shard")
        if not each["present"]
    ]
    [shards] = {each["shards"] for host in ("w2", "w3") for each in told(host, "scoring")}
    assert Counter(scored) == Counter([*range(shards), 124])
    assert "had finished, but" not in coordinator.sollol("events", job.id)
    coordinator.assert_clean()


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(900)
def test_each_worker_trains_its_student_also_one_that_was_lost_and_the_best_is_named(
    coordinator: Coordinator, lab: Lab
) -> None:
    second = lab.hosts[1]
    settings = ("--set", "val_size=0.2", "--set", "students=[{lora: {r: 4}}, {lora: {r: 16}}]")
    settings += ("--set", "epochs=120", "--set", "save_steps=50", "--detach")
    both = ("--workers", "w1,w2", "--teacher-host", "w1", *settings)
    command = [word if word != "hybrid" else "teacher_student" for word in hybrid(coordinator)]
    coordinator.sollol(*command, *both)
    [begun] = coordinator.jobs()
    copies = coordinator.home.copies(begun.id, "w2")
    until(lambda: copies.exists() and events(copies, "checkpoint"), "a checkpoint of w2's", 400)
    second.crash()
    second.boot()
    said = coordinator.sollol("attach", begun.id, timeout_s=600)
    [job] = coordinator.jobs()
    assert job.state is JobState.DONE, said
    [*_, back] = events(copies, "ready")
    assert back["step"] in {each["step"] for each in events(copies, "checkpoint")}
    other = coordinator.home.copies(begun.id, "w1")
    [*_, goes_on] = events(other, "ready")
    before = [each for each in events(other, "step") if each["generation"] < back["generation"]]
    assert goes_on["step"] >= before[-1]["step"], "it was stopped after a checkpoint, not killed"
    losses: dict[bool, dict[int, float]] = {False: {}, True: {}}  # before the crash, and after it
    for each in events(copies, "step"):
        losses[each["generation"] == back["generation"]][each["step"]] = each["loss"]
    assert back["step"] < min(losses[True]) <= back["step"] + 20
    for step in losses[False].keys() & losses[True].keys():
        assert losses[True][step] == pytest.approx(losses[False][step], rel=1e-4), f"step {step}"
    ranks = {}
    for host in ("w1", "w2"):
        adapter = Path(job.output_dir) / host / "adapter_config.json"
        ranks[host] = json.loads(adapter.read_text())["r"]
    assert ranks == {"w1": 4, "w2": 16}
    last = {host: evaluations(coordinator, job.id, host)[-1]["loss"] for host in ranks}
    best = min(last, key=lambda host: last[host])
    assert job.reason.startswith(f"best student: {best}  held-out loss {last[best]:.4f}"), said
    assert f"1      {best}" in said
    coordinator.assert_clean()


@needs_worker_python
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_elastic_student_who_loses_a_worker_while_it_is_scored_learns_what_a_static_one_does(
    coordinator: Coordinator, lab: Lab
) -> None:
    _, second, third = lab.hosts
    write_more_rows(coordinator)
    exact = ("wire=fp32", "warmup_ratio=0", "global_batch=128", "epochs=1")
    settings = [word for each in exact for word in ("--set", each)]
    both = ("--workers", "w1,w2", "--teacher-host", "w3", *settings)
    coordinator.sollol(*hybrid(coordinator, *both, "--set", "engine=static"), timeout_s=500)
    static = steps(coordinator, coordinator.jobs()[0].id, "w1", "w2")
    shutil.rmtree(coordinator.home.scores)
    for host in lab.hosts:
        shutil.rmtree(host.home / ".sollol" / "scores")

    coordinator.sollol(*hybrid(coordinator, *both, "--set", "engine=elastic", "--detach"))
    [job, _] = coordinator.jobs()
    scores = coordinator.home.copies(job.id, "w3.teacher")
    until(lambda: scores.exists() and events(scores, "shard"), "a first shard", 400)
    third.freeze()  # so that all that follows happens while shards lack
    second.crash()
    until(lambda: worker(coordinator, "w2").state == "lost", "its loss is seen", 200)
    second.boot()
    assert not events(scores, "finished")
    third.thaw()
    until(lambda: worker(coordinator, "w2").state == "training", "it is back", 400)
    coordinator.sollol("attach", job.id, timeout_s=500)
    job = coordinator.jobs()[0]
    assert (job.state, job.samples_done) == (JobState.DONE, MORE), job.reason
    elastic = steps(coordinator, job.id, "w1", "w2")
    both_told = elastic.keys() & static.keys()  # of the others a record went with its host
    assert both_told >= {1, -(-MORE // 128)}, (sorted(elastic), sorted(static))
    for step in sorted(both_told):
        assert elastic[step] == pytest.approx(static[step], rel=1e-3), f"step {step}"
    coordinator.assert_clean()


def steps(coordinator: Coordinator, job: str, *hosts: str) -> dict[int, tuple[float, float]]:
    """Loss and divergence of each step, by its newest record."""
    told = [each for host in hosts for each in events(coordinator.home.copies(job, host), "step")]
    told.sort(key=lambda each: (each["generation"], each["attempt"], each["t"]))
    return {each["step"]: (each["loss"], each["kl"]) for each in told if "kl" in each}


def worker(coordinator: Coordinator, host: str) -> JobWorkerView:
    """As the newest job has it."""
    return next(each for each in coordinator.jobs()[0].workers if each.host == host)


def evaluations(coordinator: Coordinator, job: str, host: str) -> list[dict[str, Any]]:
    return events(coordinator.home.copies(job, host), "evaluation")
