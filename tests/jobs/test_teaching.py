"""A teacher's scores come from its hosts to the students, each shard scored once, whoever is lost:
the real agents, scorers of the standard library."""

import json
from collections import Counter
from typing import Any

import pytest

from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, runs, until, write_teacher

SHARDS = 8
TOKENS = 10  # of each
STEPS = {"SOLLOL_STUB_STEPS": "16", "SOLLOL_STUB_STEP_S": "0.01"}


def submit(bench: Bench, hosts: str, per_host: dict[str, dict[str, str]] | None = None) -> str:
    """A hybrid job whose student is on host one."""
    teacher = bench.folder / "teacher"
    if not teacher.exists():
        write_teacher(teacher)
    return bench.submit(
        env=STEPS,
        per_host=per_host,
        mode="hybrid",
        workers="one",
        teacher={"model": str(teacher), "host": hosts},
    )


def shards(bench: Bench, job: str, host: str) -> list[dict[str, Any]]:
    """What a scorer has told of its shards, in all its launches."""
    folder = bench.home.copies(job, f"{host}.teacher")
    lines = [
        line for path in sorted(folder.glob("events.*")) for line in path.read_text().splitlines()
    ]
    return [event for event in map(json.loads, lines) if event["kind"] == "shard"]


def scored(bench: Bench, job: str, *hosts: str) -> Counter[int]:
    """How often each shard was computed."""
    told = [each for host in hosts for each in shards(bench, job, host)]
    return Counter(each["shard"] for each in told if not each["present"])


def totals(view: JobView) -> dict[str, int]:
    """How many tokens each host had to score."""
    return {each.host: each.total for each in view.teachers}


def test_two_hosts_share_the_work_and_a_second_job_asks_them_only_for_what_is_damaged(
    bench: Bench,
) -> None:
    first = bench.reaches(submit(bench, "one,two"), JobState.DONE)
    assert sorted(each["shard"] for each in shards(bench, first.id, "two")) == [1, 3, 5, 7]
    assert scored(bench, first.id, "one", "two") == Counter(range(SHARDS))
    assert totals(first) == {"one": 40, "two": 40}
    words = [(each.host, each.data.get("message")) for each in bench.client.events(first.id)]
    for part, host in enumerate(("one", "two")):
        assert words.count((host, f"a word on part {part}")) == 1
    again = bench.reaches(submit(bench, "one,two"), JobState.DONE)
    assert not [each for host in ("one", "two") for each in shards(bench, again.id, host)]

    [here] = bench.home.scores.iterdir()
    student, other = (bench.workdirs / host / "scores" / here.name for host in ("one", "two"))
    names = two, three, five, seven = [f"{shard:06d}.scores" for shard in (2, 3, 5, 7)]
    whole = {name: (here / name).read_bytes() for name in names}
    for lost in (student / three, student / seven, other / five, other / seven):
        lost.unlink()
    for path in (student / two, here / three, here / five, here / seven):
        path.write_bytes(b"x" + path.read_bytes()[1:])
    third = bench.reaches(submit(bench, "one,two"), JobState.DONE)
    for folder in (here, student):
        assert {name: (folder / name).read_bytes() for name in whole} == whole
    assert scored(bench, third.id, "one", "two") == Counter([5, 7]), "the host has the others"
    assert [*map(bool, (shards(bench, third.id, host) for host in ("one", "two")))] == [False, True]


def test_what_a_host_that_always_fails_should_score_is_scored_by_the_other(bench: Bench) -> None:
    broken = {"one": {"SOLLOL_STUB_FAIL": "distill.score"}}
    job = submit(bench, "one,two", broken)
    view = bench.reaches(job, JobState.DONE)
    assert scored(bench, job, "one", "two") == Counter(range(SHARDS))
    assert not shards(bench, job, "one")
    assert totals(view) == {"one": 0, "two": 80}
    told = [event.data["message"] for event in bench.client.events(job) if event.kind == "notice"]
    assert "it scores what the teacher on one has left" in told


def test_a_teacher_none_of_whose_hosts_can_score_ends_the_job_with_the_reason(bench: Bench) -> None:
    """One fails, the other says each time that it has finished, and leaves no shard."""
    broken = {"one": {"SOLLOL_STUB_FAIL": "distill.score"}}
    idle = {"two": {"SOLLOL_STUB_FAIL": "distill.score:idle"}}
    job = submit(bench, "one,two", broken | idle)
    until(lambda: bench.view(job).state.is_terminal, "an end")
    view = bench.view(job)
    notices = [each.data["message"] for each in bench.client.events(job) if each.kind == "notice"]
    told = "\n".join([view.reason, *notices])
    assert view.state is JobState.FAILED
    assert "the stub was told to fail, 3 times without a shard in between" in told
    assert "none of the shards that it was to bring is here: 4 lack, 3 times without" in told
    assert not bench.left(job)


@pytest.mark.parametrize(
    "fault", ["scorer and supervisor killed", pytest.param("job paused", marks=pytest.mark.long)]
)
def test_no_shard_is_scored_twice(bench: Bench, fault: str) -> None:
    release = bench.folder / "release"
    holds = {"two": {"SOLLOL_STUB_HOLDS": f"distill.score:5={release}"}}
    job = submit(bench, "two", holds)
    until(lambda: len(shards(bench, job, "two")) == 5, "five shards")
    if fault == "job paused":
        bench.client.pause_job(job)
        bench.reaches(job, JobState.PAUSED)
        assert not bench.left(job)
        bench.client.resume_job(job)
    else:
        bench.kill_supervisor(job)
        for process, run in runs(bench.workdirs):
            if run.endswith(".teacher"):
                process.kill()
        assert bench.client.revive() == [job]
    release.touch()
    bench.reaches(job, JobState.DONE)
    assert scored(bench, job, "two") == Counter(range(SHARDS))
    told = [event.data["message"] for event in bench.client.events(job) if event.kind == "notice"]
    assert told.count("a word on part 0") == 1
    assert not bench.left(job)


def test_scores_that_a_student_had_first_are_here_before_the_job_ends(bench: Bench) -> None:
    release = bench.folder / "release"
    holds = {"one": {"SOLLOL_STUB_HOLDS": f"distill.score:untold 7={release}"}}
    job = submit(bench, "one", holds)
    copies = bench.home.copies(job, "one")

    def has_finished() -> bool:
        return any('"finished"' in each.read_text() for each in copies.glob("events.*"))

    until(has_finished, "the student's end")
    release.touch()
    bench.reaches(job, JobState.DONE)
    [here] = bench.home.scores.iterdir()
    assert len([*here.glob("*.scores")]) == SHARDS


def test_a_cancelled_job_leaves_nothing_of_its_teacher(bench: Bench) -> None:
    nowhere = bench.folder / "never"
    job = submit(bench, "two", {"two": {"SOLLOL_STUB_HOLDS": f"distill.score:1={nowhere}"}})
    until(lambda: shards(bench, job, "two"), "a shard")
    bench.client.cancel_job(job)
    view = bench.reaches(job, JobState.CANCELLED)
    assert not bench.left(job)
    assert [each.state for each in view.teachers] == ["gone"]
