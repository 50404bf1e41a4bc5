"""Where a teacher computes, what that takes, and why it cannot be. Pure."""

import hashlib
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import pytest

from sollol_tui.hosts.environment import Environment
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.leases import Taken
from sollol_tui.jobs.lessons import with_roles
from sollol_tui.jobs.planner import make_plan, resources
from sollol_tui.jobs.runfile import run_file, teacher_run_file
from sollol_tui.jobs.score_cache import ScoreCache
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teachers import teacher_hosts, with_teacher
from sollol_tui.jobs.view import read_snapshot
from sollol_tui.jobs.worker import Place
from sollol_tui.model.errors import InputError, NotFoundError, NoWorkersError
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.job_file import spec_from_data
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import STUDENT, JobSpec
from sollol_tui.model.teacher import Lesson, Path
from sollol_tui.model.units import GIB
from tests.jobs.samples import DATASET, add_job, facts, gpus, plan

INVENTORY = parse_inventory(b"hosts: [a, b, c]", "inventory.yaml").with_coordinator()
LESSON = Lesson(model="big", path=Path.SCORES, why="they have the same tokens")


def spec(**settings: Any) -> Any:
    return spec_from_data({"model": "m", "dataset": "d", "mode": "hybrid"} | settings)


def planned(
    lesson: Lesson = LESSON,
    taken: dict[str, str] | None = None,
    known: dict[str, Any] | None = None,
    **settings: Any,
) -> Plan:
    asked = spec(**{"teacher.model": "big", "workers": "a,b", **settings})
    selection = select(INVENTORY, asked.workers)
    answers = {name: facts() for name in ("a", "b", "c", "coordinator")} | (known or {})
    held = Taken(leased=taken or {})
    plan = make_plan(asked, INVENTORY, selection, answers, {}, DATASET, held)
    hosts = teacher_hosts(asked, INVENTORY)
    return with_teacher(plan, asked, lesson, hosts, answers, {}, held)


def told(plan: Plan, host: str, asked: JobSpec) -> dict[str, Any]:
    """What the agent of a student's host is told."""
    place = Place(
        environment=Environment(python="/p", payload="/l", env_id="e", payload_hash="h"),
        run_dir="/r",
        dataset="/d",
        model="/student",
    )
    return run_file(
        job="j-1",
        nonce="n",
        spec=asked,
        plan=plan,
        host=INVENTORY.host(host),
        place=place,
        generation=3,
        main_port=29500,
    )


def test_the_teacher_is_on_the_coordinator_unless_told_and_its_device_is_leased() -> None:
    assert resources(planned()) == ["host a", "host b", "host coordinator"]
    assert resources(planned(**{"teacher.host": "c"})) == ["host a", "host b", "host c"]


def test_a_worker_that_teaches_too_is_leased_once_for_both() -> None:
    plan = planned(**{"teacher.host": "b"})
    assert resources(plan) == ["host a", "host b"]
    assert plan.teacher is not None
    assert [(host.host, host.gpu) for host in plan.teacher.hosts] == [("b", None)]


def test_several_hosts_share_the_work_and_an_answer_is_written_by_one() -> None:
    shared = planned(**{"teacher.host": "b, c"}).teacher
    assert shared is not None
    assert [host.host for host in shared.hosts] == ["b", "c"]
    text = Lesson(model="big", path=Path.ANSWERS, why="asked for")
    alone = planned(text, **{"teacher.host": "b, c"}).teacher
    assert alone is not None
    assert [host.host for host in alone.hosts] == ["b"]


def test_a_pattern_may_say_which_hosts_teach() -> None:
    inventory = parse_inventory(
        b"hosts: {a: {tags: [x]}, b: {}, c: {tags: [x]}}\ngroups: {both: {match: 'tag:x'}}",
        "inventory.yaml",
    )
    for pattern in ("tag:x", "both", "!b", "c, a"):
        found = teacher_hosts(spec(**{"teacher.host": pattern}), inventory)
        assert sorted(host.name for host in found) == ["a", "c"], pattern


def test_of_several_hosts_those_that_cannot_teach_are_left_out_with_the_reason() -> None:
    large = Lesson(model="big", path=Path.SCORES, why="", parameters=13_000_000_000)
    small = {"b": facts(ram_bytes=GIB), "c": facts(ram_bytes=200 * GIB)}
    taken = {"host a": "j-1"}
    asked = {"teacher.host": "a, b, c", "workers": "coordinator"}
    teacher = planned(large, taken, small, **asked).teacher
    assert teacher is not None
    assert teacher.scorers == ("c",)
    told = [line for line in teacher.lines("big") if line.startswith("without")]
    assert told[0] == "without a: in use by j-1"
    assert told[1].startswith("without b: the teacher does not fit on b: its 13.00 billion")
    with pytest.raises(NoWorkersError, match="on any host of a, b now") as caught:
        planned(large, taken, small, **asked | {"teacher.host": "a, b"})
    assert set(caught.value.reasons) == {"a", "b"}
    assert caught.value.wait == "waits for the teacher's host a: in use by j-1"


def test_a_teacher_whose_host_is_taken_is_waited_for() -> None:
    with pytest.raises(NoWorkersError, match="cannot compute on c now") as caught:
        planned(taken={"host c": "j-1"}, **{"teacher.host": "c"})
    assert caught.value.wait == "waits for the teacher's host c: in use by j-1"


def test_a_teacher_that_does_not_fit_is_refused_with_numbers_and_what_would_fit() -> None:
    large = Lesson(model="big", path=Path.SCORES, why="", parameters=13_000_000_000)
    card = facts(gpus=gpus(1))
    with pytest.raises(NoWorkersError) as caught:
        planned(large, known={"c": card}, **{"teacher.host": "c"})
    assert "13.00 billion parameters take ~24.8 GiB" in str(caught.value)
    assert "its RTX 3090 has 24.0 GiB" in str(caught.value)
    assert "what fits: teacher.quantize: nf4 (~" in str(caught.value)


def test_the_plan_says_how_long_it_takes_and_how_many_hosts_keep_the_students_busy() -> None:
    slow = Lesson(model="big", path=Path.SCORES, why="w", parameters=1_000_000_000)
    teacher = planned(slow, known={"c": facts(cpu_cores=1)}, **{"teacher.host": "c"}).teacher
    assert teacher is not None
    assert teacher.seconds == pytest.approx(160 * 10 / 3.6 / (12e9 / 2e9), rel=0.01)
    assert any("~1m" in line and "by its device" in line for line in teacher.lines("big"))


def test_an_unknown_host_of_the_teacher_is_named_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'coordinator'"):
        teacher_hosts(spec(**{"teacher.host": "cordinator"}), INVENTORY)


def test_students_and_teachers_are_told_the_same_of_the_scores() -> None:
    plan = planned(**{"teacher.host": "c", "teacher.top_k": 8})
    assert plan.teacher is not None
    asked = spec(**{"teacher.model": "big", "teacher.top_k": 8})
    student = told(plan, "a", asked)
    scorer = teacher_run_file(student, asked, plan.teacher, plan.teacher.hosts[0], "/big", 1)
    assert student["distill"]["teacher"] is None
    assert scorer["distill"] == student["distill"] | {"teacher": "/big", "part": 0, "parts": 1}
    assert (scorer["program"], scorer["engine"]) == ("distill.score", "static")
    assert [rank["host"] for rank in scorer["world"]] == ["c"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "data_parallel", "teacher.top_k": 8}, "teacher means nothing with mode"),
        ({"students": [{"seed": 1}]}, "students means nothing with mode: hybrid"),
        ({"student": "s", "teacher.model": "t"}, "keep one"),
        ({"mode": "teacher_student", "engine": "elastic"}, "students who learn apart"),
        ({"teacher.temprature": 2}, "did you mean 'temperature'"),
    ],
)
def test_what_cannot_be_meant_of_a_teacher_is_said(settings: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        spec(**settings)


def test_without_a_teacher_the_model_is_the_teacher_and_the_student_is_the_usual_one(
    tmp_path: File,
) -> None:
    found = with_roles(spec(model="org/big"), tmp_path)
    assert (found.teacher.model, found.model) == ("org/big", STUDENT)
    named = with_roles(spec(model="org/big", student="org/small"), tmp_path)
    assert (named.teacher.model, named.model, named.student) == ("org/big", "org/small", None)
    told = with_roles(spec(model="org/small", **{"teacher.model": "org/big"}), tmp_path)
    assert (told.teacher.model, told.model) == ("org/big", "org/small")


def test_students_apart_have_worlds_seeds_and_settings_of_their_own() -> None:
    asked = {"mode": "teacher_student", "students": [{"lora": {"r": 4}}, {"seed": 7}]}
    plan = planned(known={"a": facts(gpus=gpus(2))}, **asked)
    assert [len(worker.ranks) for worker in plan.workers] == [1, 1]
    runs = [told(plan, host, spec(**{"teacher.model": "big", **asked})) for host in ("a", "b")]
    assert [[rank["rank"] for rank in run["world"]] for run in runs] == [[0], [0]]
    assert [(run["train"]["lora"]["r"], run["train"]["seed"]) for run in runs] == [(4, 42), (32, 7)]
    assert [run["main_port"] for run in runs] == [29500, 29501], "they may be on one machine"


async def test_a_shard_that_is_damaged_here_is_thrown_away(tmp_path: File) -> None:
    cache = ScoreCache.of(Home(tmp_path), "ab" * 16, 3)
    cache.note_sum("000001.scores", hashlib.sha256(b"good").hexdigest())
    cache.path("000001.scores").write_bytes(b"good")
    assert not await cache.drop_if_damaged("000001.scores")
    assert (cache.lacking(), cache.lacking(1, 2)) == (["000000.scores", "000002.scores"], [])
    cache.path("000001.scores").write_bytes(b"baad")
    assert await cache.drop_if_damaged("000001.scores")
    assert cache.lacking(1, 2) == ["000001.scores"]
    assert not cache.holds_any(cache.lacking())
    for number in (0, 2):
        cache.path(f"00000{number}.scores").write_bytes(b"good")
    assert cache.holds_any(["000001.scores", "000002.scores"]), "another was lost meanwhile"
    assert [cache.lacking_parts(parts) for parts in (1, 2, 3)] == [[0], [1], [1]]


def test_a_host_that_teaches_is_shown_with_its_job_and_the_coordinator_is_not_free_then(
    tmp_path: File,
) -> None:
    with Store(Home(tmp_path)) as store:
        job = add_job(store, "host w1", "host w2")
        teacher = planned().teacher
        store.note_plan(job, replace(plan(), teacher=teacher))
        found = read_snapshot(store, INVENTORY)
        [view] = found.jobs
    assert [(each.host, each.state) for each in view.teachers] == [("coordinator", "planned")]
    duties = {host.name: (host.job, host.errand) for host in found.hosts}
    assert duties["coordinator"] == (job, "teaches")
    assert found.coordinator.takes_part
