"""One rank of bench_speedup: trains nothing, but adds real gradients of real length with real
engines. `python -m tests.bench.speedup_rank SETTING SLOT`; its last line is its figures in JSON.
"""

import json
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from remote.control import Action
from remote.data.order import deal
from remote.engine import StepLost, Tally
from remote.engine.elastic import ElasticEngine
from remote.engine.heal import pack, unpack
from remote.run import Lighthouse, Rank, Run, Train
from remote.speed import Speeds, Spent
from tests.bench.bench_speedup import PORT, WARM_UP

STORE_PORT = 29512
WORK = torch.randn(256, 256)


class Learnt:
    """As many weights as a real adapter has, whose digest is made as the real one's."""

    numerics = "cpu"

    def __init__(self, floats: int) -> None:
        self.terms: dict[str, str] = {}
        self.weights = torch.zeros(floats)
        self.step = 0

    def digest(self) -> str:
        return str(int(self.weights.view(torch.int64).sum()))

    def flatten(self) -> torch.Tensor:
        return pack([self.weights], {"step": self.step})

    def load(self, flat: torch.Tensor) -> None:
        self.weights, note = unpack(flat)
        self.step = note["step"]


def compute(load: dict[str, Any], samples: int) -> None:
    time.sleep(samples * load["sleep_s"])
    for _ in range(samples * load["work"]):
        torch.mm(WORK, WORK).sum()


def elastic(load: dict[str, Any], world: tuple[Rank, ...], slot: int) -> dict[str, Any]:
    run = Run(
        job="j-bench",
        host=world[slot].host,
        generation=1,
        engine="elastic",
        world=world,
        main_port=0,
        model="",
        dataset="",
        train=Train(global_batch=load["global_batch"]),
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = ElasticEngine(
            run,
            world[slot],
            run_dir=Path(folder),
            launch=1,
            lighthouses=[Lighthouse(host="w1", address=world[0].address, port=PORT)],
            say=lambda message: None,
            wanted=lambda: Action.RUN,
        )
        learnt, flat = Learnt(load["floats"]), torch.ones(load["floats"])
        wire = torch.empty(load["floats"], dtype=torch.bfloat16)
        speeds = Speeds(sum_bytes=2 * load["floats"])
        told: list[dict[str, Any]] = []
        engine.join()
        cpu_s = time.process_time()
        while learnt.step < load["steps"]:
            began = time.monotonic()
            members = engine.settle(learnt)
            count = load["global_batch"]
            share = deal(count, members.weights)[members.place]
            compute(load, share.stop - share.start)
            summing = time.monotonic()
            wire.copy_(flat)
            tally = engine.reduce(wire, Tally(samples=share.stop - share.start))
            if isinstance(tally, StepLost):
                raise RuntimeError(tally.reason)
            flat.copy_(wire)
            summed_s = time.monotonic() - summing
            flat.fill_(1.0)
            learnt.step += 1
            spent = Spent(
                samples=count,
                whole_s=time.monotonic() - began,
                until_summed_s=summed_s,
                speeds=tally.speeds,
            )
            phase_ends = learnt.step in (WARM_UP, load["steps"])
            if said := speeds.add(members, spent, last=phase_ends):
                told.append(said | {"cpu_s": (time.process_time() - cpu_s) / said["steps"]})
                cpu_s = time.process_time()
        engine.settle(learnt)  # nobody leaves before all hold the last step
        engine.close()
    return {**told[-1], "warm_up": told[0]}


def plain(load: dict[str, Any], world: tuple[Rank, ...], slot: int) -> dict[str, Any]:
    """What a loop without accumulation does: the fp32 gradient is added after every few samples."""
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0"  # as in every machine of the lab
    store = dist.TCPStore(
        world[0].address, STORE_PORT, len(world), slot == 0, timeout=timedelta(seconds=120)
    )
    dist.init_process_group(
        "gloo", store=store, rank=slot, world_size=len(world), timeout=timedelta(minutes=10)
    )
    flat = torch.ones(load["floats"])
    dist.barrier()
    began, samples = time.monotonic(), 0
    while samples < load["steps"] * load["global_batch"]:
        compute(load, load["plain"])
        dist.all_reduce(flat)
        flat.fill_(1.0)
        samples += load["plain"] * len(world)
    rate = samples / (time.monotonic() - began)
    dist.barrier()
    dist.destroy_process_group()
    return {"samples_per_s": rate}


def main(arguments: list[str]) -> None:
    setting, slot = json.loads(arguments[0]), int(arguments[1])
    torch.set_num_threads(1)
    world = tuple(
        Rank(slot=number, rank=number, host=f"w{number + 1}", address=address, gpu=None)
        for number, address in enumerate(setting["addresses"])
    )
    load = setting["load"]
    if load["core"] is not None:
        os.sched_setaffinity(0, {load["core"]})  # here, because torch undoes what was set before it
    print(json.dumps((plain if load["plain"] else elastic)(load, world, slot)))


if __name__ == "__main__":
    main(sys.argv[1:])
