"""A host that is to join a job that runs gets today's programs; those who train may have others."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.hosts.environment import Environment
from sollol_tui.jobs import arrival
from sollol_tui.jobs.arrival import receive
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.probe import Answers
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Place, Worker
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.spec import JobSpec
from tests.jobs.samples import add_job, facts, plan

INVENTORY = Inventory(file="inventory.yaml", hosts=tuple(Host(name=f"w{n}") for n in (1, 2, 3)))
SPEC = JobSpec(model="m", dataset="d")


def place(host: str, payload: str) -> Place:
    environment = Environment(python="/p", payload="/q", env_id="e", payload_hash=payload)
    return Place(environment=environment, run_dir=f"/s/runs/j/{host}", dataset="d", model="m")


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is prepared from now on gets another payload than those before."""

    async def ask(*_: Any) -> Answers[Any]:
        return Answers(said={"w3": facts()}, errors={})

    async def prepare_one(crew: Crew, worker: Worker) -> None:
        worker.place = place(worker.host.name, "bb")

    monkeypatch.setattr(arrival, "ask", ask)
    monkeypatch.setattr(Crew, "prepare_one", prepare_one)


@pytest.mark.usefixtures("upgraded")
@pytest.mark.parametrize("engine", ["elastic", "static"])
def test_who_has_another_payload_than_the_ranks_that_run_does_not_join_them(
    tmp_path: Path, engine: str
) -> None:
    with Store(open_home(tmp_path / "home")) as store:
        job = add_job(store)
        store.note_wish(job, spec=SPEC, inventory=INVENTORY, same_hosts=())
        take_turn(store, job, replace(plan("w1", "w2"), engine=engine))
        for host in ("w1", "w2"):
            store.note_worker(job, host, environment=place(host, "aa").as_data())
        crew = Crew(store, store.job(job), lambda host, text: None)
        coming = receive(store, crew, SPEC, "w3")
        if engine == "static":  # all are launched anew, with what lies here now
            assert asyncio.run(coming).host.name == "w3"
            return
        with pytest.raises(UnsuitableError) as refusal:
            asyncio.run(coming)
    assert str(refusal.value) == (
        "w3: has the payload bb, but w1 has aa, and the workers of a job must agree; "
        f"sollol pause {job}, then sollol resume {job}: it gives all the same"
    )
