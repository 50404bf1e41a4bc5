"""A host whose agent gets a SIGTERM is wanted for something else: the job goes on without it,
leaves it alone and frees it, until somebody asks for it."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.membership import Membership
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.scoring import until
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import is_supervised
from sollol_tui.model.events import decode
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.bench import Bench
from tests.jobs.bench import until as wait_until
from tests.jobs.samples import INVENTORY, add_job, line, plan

DEADLINE_S = 60.0
SAID = {"outcome": "killed", "reason": "somebody ended it with SIGTERM", "problem": "wanted_back"}


def wait_for_steps(bench: Bench, job: str, world_size: int) -> JobView:
    def trains() -> JobView | None:
        view = bench.reaches(job, JobState.RUNNING)
        return view if view.world_size == world_size and view.step > before else None

    before = bench.view(job).step
    found: JobView = wait_until(trains, f"steps of {world_size}")
    return found


def test_a_job_leaves_a_host_alone_from_which_it_was_sent_away_and_rests_without_any(
    bench: Bench,
) -> None:
    """Nothing is computed twice, also where nobody looks after the job just then."""
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"})
    wait_for_steps(bench, job, 2)
    # As at the shutdown of this machine: it takes nothing of the job with it.
    bench.supervisor(job).terminate()
    wait_until(lambda: not is_supervised(bench.home, job), "the supervisor has ended")
    assert len(bench.left(job)) > 2
    os.kill(bench.agent(job, "two"), signal.SIGTERM)
    assert bench.client.revive() == [job]
    alone = wait_for_steps(bench, job, 1)
    files = sorted(bench.run_dir(job, "one").glob("events.0.*.jsonl"))
    said = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    steps = [each["step"] for each in said if each["kind"] == "step"]
    assert steps == [*range(1, len(steps) + 1)], "what was learnt is learnt once"
    [two] = [worker for worker in alone.workers if worker.host == "two"]
    assert two.state == "quarantined"
    told = "somebody on two ended it with SIGTERM, so it is left alone; bring it back: "
    assert f"{told}sollol join {job} two" in two.reason
    with Store(bench.home) as store:
        assert {name for name in store.leases.held() if name.startswith("host")} == {"host one"}

    bench.client.join_job(job, "two")
    wait_for_steps(bench, job, 2)
    os.kill(bench.agent(job, "one"), signal.SIGTERM)
    step = wait_for_steps(bench, job, 1).step
    os.kill(bench.agent(job, "two"), signal.SIGTERM)
    paused = bench.reaches(job, JobState.PAUSED)
    assert paused.step >= step
    assert "somebody on two ended it with SIGTERM" in paused.reason
    assert bench.left(job) == []
    with Store(bench.home) as store:
        assert store.leases.held() == {}


async def test_of_an_elastic_job_it_is_free_while_the_others_train(tmp_path: Path) -> None:
    with Store(open_home(tmp_path / "home")) as store:
        job = add_job(store)
        spec = JobSpec(model="m", dataset="d")
        store.note_wish(job, spec=spec, inventory=INVENTORY, same_hosts=())
        elastic = replace(plan("w1", "w2"), engine="elastic")
        take_turn(store, job, replace(elastic, lit=elastic.lighthouses(29500)))
        for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
            store.move_job(job, state)
        for host in ("w1", "w2"):
            for way in (WorkerState.PROVISIONING, WorkerState.READY, WorkerState.TRAINING):
                store.move_worker(job, host, way)
        store.note_launch(job, generation=1, main_port=29500)
        crew = Crew(store, store.job(job), lambda host, text: None)
        event = decode(line("agent_finished", None, **SAID))
        assert event is not None
        crew.progress.apply("w2", event)
        members = Membership(store, crew, spec, {}, asyncio.Lock())
        following = asyncio.create_task(members.attend())
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: store.workers(job)[1].state is WorkerState.QUARANTINED)
            assert "host w2" in store.leases.held(), "what it wrote last is not here yet"
            crew.watch._on_over("w2")
            await until(lambda: "host w2" not in store.leases.held())
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert "host w1" in store.leases.held()
        assert [worker.host.name for worker in crew.workers] == ["w1"]
        assert store.workers(job)[1].reason.endswith(f"bring it back: sollol join {job} w2")
