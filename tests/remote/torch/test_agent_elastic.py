"""Two real agents look after an elastic run: a rank that is killed comes back while the other goes
on, and nothing is left of the run when it ends."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remote import remains
from tests.ports import unused_port
from tests.remote import worker as workers
from tests.remote.torch.fixtures import TRAIN
from tests.remote.worker import Worker, wait_until

ROOT = Path(__file__).parents[3]
HOSTS = ("w1", "w2")


@pytest.fixture
def pair(
    tmp_path: Path, tiny_model: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Worker]]:
    """Two hosts, each with one rank and a lighthouse; they train until they are told to stop."""
    monkeypatch.setattr(workers, "DEADLINE_S", 90.0)
    world = [
        {"slot": slot, "rank": slot, "host": host, "address": "127.0.0.1", "gpu": None}
        for slot, host in enumerate(HOSTS)
    ]
    lights = [{"host": host, "address": "127.0.0.1", "port": unused_port()} for host in HOSTS]
    made = []
    for host in HOSTS:
        one = Worker(ROOT, tmp_path)
        one.run_dir = tmp_path / "runs" / "j-1" / host
        one.run |= {
            "host": host,
            "engine": "elastic",
            "world": world,
            "main_port": lights[0]["port"],
            "lighthouses": lights,
            "start_timeout_s": 80,
            "cpu_cores": None,  # both are this machine, and would be given the same core
            # Two threads each wait for one another, spinning, where others need the cores, too.
            "env": {"OMP_NUM_THREADS": "1"},
            "model": str(tiny_model),
            "dataset": str(dataset),
            "train": {**TRAIN, "epochs": 10_000},
        }
        made.append(one)
    yield made
    for one in made:
        one.end()


def events(worker: Worker, slot: int, kind: str) -> list[dict[str, Any]]:
    return [event for event in worker.events(str(slot)) if event["kind"] == kind]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_killed_rank_is_healed_while_the_other_goes_on_and_one_that_leaves_is_not_missed(
    pair: list[Worker],
) -> None:
    first, second = pair
    for worker in pair:
        assert worker.start()["outcome"] == "started"
    first.wait_for("step", "0", 3)
    ready = events(first, 0, "ready")[0]
    assert ready["world_size"] == 2
    pids = [r.identity.pid for r in remains.living(second.run_dir) if r.role == "rank.1"]
    os.kill(pids[0], signal.SIGKILL)
    said = second.wait_for("notice")["message"]
    assert "slot 1 is started again in 1 s (1 of 3): killed by signal 9" in said
    wait_until(lambda: events(first, 0, "step")[-1]["world_size"] == 1, "one goes on alone")
    wait_until(lambda: len(events(second, 1, "ready")) == 2, "the second is back")
    notices = [event["message"] for event in events(second, 1, "notice")]
    assert any("took over the weights of step" in notice for notice in notices)
    wait_until(lambda: events(first, 0, "step")[-1]["world_size"] == 2, "both share a step")
    first.agent("control", "leave")
    assert first.wait_for("agent_finished")["outcome"] == "left"
    [left] = events(first, 0, "left")
    wait_until(lambda: events(second, 1, "step"), "the other speaks for the job")
    assert events(second, 1, "step")[0]["step"] == left["step"] + 1
    assert events(second, 1, "step")[0]["world_size"] == 1
    second.agent("control", "stop")
    assert second.wait_for("agent_finished")["outcome"] == "stopped"
    for worker in pair:
        seen = worker.agent("inspect")
        assert (seen["agent"], seen["processes"]) == (False, [])
    steps = [event["step"] for event in events(first, 0, "step")]
    assert steps == sorted(set(steps))
    assert len(events(first, 0, "ready")) == 1  # it was not started again


def test_a_lighthouse_whose_port_is_taken_ends_the_start_with_a_sentence(
    pair: list[Worker],
) -> None:
    import socket

    first, _ = pair
    with socket.create_server(("127.0.0.1", first.run["main_port"])):
        first.start()
        reason = first.wait_for("agent_finished")["reason"]
    assert f"main port {first.run['main_port']} is in use" in reason, json.dumps(reason)
