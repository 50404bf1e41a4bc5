"""One of a teacher's two hosts loses the network for long: the other scores what it has left, and
the first does nothing of it when it is back."""

import json

import pytest

from sollol_tui.jobs.store import Store
from sollol_tui.jobs.teacher_rows import launch_of
from sollol_tui.model.states import JobState
from tests.cluster.coordinator import Coordinator
from tests.cluster.lab import Lab
from tests.jobs.bench import until, write_teacher

pytestmark = [pytest.mark.keep_workdir, pytest.mark.long, pytest.mark.timeout(400)]
SCORERS = {
    "SOLLOL_STUB_STEPS": "16",
    "SOLLOL_STUB_STEP_S": "0.01",
    "SOLLOL_STUB_SHARDS": "8",
    "SOLLOL_STUB_HOLDS": "distill.score:5=/root/release",  # of the second part
}
PATIENCE_S = 200.0


def test_what_a_host_out_of_sight_should_score_is_scored_by_the_other_and_by_nobody_else(
    coordinator: Coordinator, lab: Lab
) -> None:
    _, second, third = lab.hosts
    coordinator.lay_out(SCORERS)
    write_teacher(coordinator.folder / "teacher")
    teacher = ("--mode", "hybrid", "--teacher", "teacher", "--teacher-host", "w2,w3")
    coordinator.sollol(*coordinator.train("--workers", "w1", "--detach", *teacher))
    job = coordinator.job_reaches(JobState.RUNNING).id

    def told(host: str, *, computed: bool = False) -> list[int]:
        """The shards of which a host has told, or that it has computed."""
        copies = coordinator.home.copies(job, f"{host}.teacher")
        paths = sorted(copies.glob("events.0.*"))
        lines = [line for path in paths for line in path.read_text().splitlines()]
        shards = [event for event in map(json.loads, lines) if event["kind"] == "shard"]
        return [each["shard"] for each in shards if not (computed and each["present"])]

    def is_here(shard: int) -> bool:
        return any(coordinator.home.scores.glob(f"*/{shard:06d}.scores"))

    until(lambda: is_here(1) and is_here(3), "half of the other part", PATIENCE_S)
    third.cut()
    until(lambda: told("w2")[4:] == [1, 3], "the other has what was left", PATIENCE_S)
    with Store(coordinator.home) as store:
        launch = launch_of(store, job, "w3")
        third.heal()
        until(lambda: launch_of(store, job, "w3") > launch, "it is silenced", PATIENCE_S)
    assert not third.processes()
    third.cut()  # nothing runs there by now: it holds no end
    (second.home / "release").touch()
    coordinator.sollol("wait", job, timeout_s=PATIENCE_S)
    view = coordinator.jobs()[0]
    assert (view.state, view.reason) == (JobState.DONE, "")
    assert sorted(told("w2", computed=True) + told("w3", computed=True)) == [*range(8)]
    coordinator.assert_clean()
