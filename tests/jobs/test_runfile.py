"""What the coordinator writes into run.json is what a worker reads."""

from dataclasses import replace

from remote.run import parse_run
from sollol_tui.hosts.environment import Environment
from sollol_tui.jobs.runfile import run_file
from sollol_tui.jobs.worker import Place
from sollol_tui.model.inventory import Host
from sollol_tui.model.spec import JobSpec, Lora
from tests.jobs.samples import plan


def test_a_worker_reads_the_plan_the_settings_and_the_models_own_name() -> None:
    environment = Environment(
        python="/w/bin/python", payload="/w/payload", env_id="ef", payload_hash="ab"
    )
    place = Place(
        environment=environment,
        run_dir="/w/runs/j-1/w2",
        dataset="/w/datasets/ab/rows.jsonl",
        model="/w/models/cd",
    )
    spec = JobSpec(
        model="models/llama", dataset="rows.jsonl", epochs=3, lora=Lora(r=8, target=["q_proj"])
    )
    run = parse_run(
        run_file(
            job="j-1",
            nonce="9c1e",
            spec=spec,
            plan=plan("w1", "w2"),
            host=Host(name="w2"),
            place=place,
            generation=4,
            main_port=29501,
        )
    )
    assert (run.model, run.base_name, run.dataset) == (place.model, "models/llama", place.dataset)
    assert [(rank.slot, rank.rank, rank.host) for rank in run.own_ranks] == [(1, 1, "w2")]
    assert (run.main_address, run.main_port, run.generation) == ("10.0.0.1", 29501, 4)
    assert (run.job, run.nonce) == ("j-1", "9c1e")
    assert (run.train.epochs, run.train.global_batch) == (3, plan().global_batch)
    assert (run.train.lora.r, run.train.lora.target) == (8, ["q_proj"])
    assert (run.train.packing, run.train.gradient_checkpointing, run.train.eval_steps) == (
        None,
    ) * 3


def test_the_lowest_slots_keep_a_lighthouse_each_and_share_no_port() -> None:
    six = replace(plan("w1", "w2", "w3", "w4", "w5", "w6"), engine="elastic")
    assert plan().lighthouses(29500) == ()
    lowest = ["w1", "w2", "w3", "w4", "w5"]
    assert [(light.host, light.port) for light in six.lighthouses(29500)] == [
        (host, 29500) for host in lowest
    ]
    late = replace(six, workers=(six.workers[5], *six.workers[:5]))
    assert [light.host for light in late.lighthouses(29500)] == lowest
    here = replace(six, workers=tuple(replace(w, address="127.0.0.1") for w in six.workers))
    assert [light.port for light in here.lighthouses(29500)] == [*range(29500, 29505)]


def test_what_is_left_to_the_ranks_is_nothing_in_their_settings() -> None:
    train = {"batch_size": "auto", "packing": True, "eval_steps": 7}
    rank = {"slot": 0, "rank": 0, "host": "w1", "address": "10.0.0.1", "gpu": None}
    run = parse_run(
        {
            "v": 1,
            "job": "j-1",
            "host": "w1",
            "generation": 1,
            "engine": "static",
            "world": [rank],
            "main_port": 29501,
            "model": "m",
            "dataset": "d",
            "train": train,
        }
    )
    assert (run.train.batch_size, run.train.packing, run.train.eval_steps) == (None, True, 7)
