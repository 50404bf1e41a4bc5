"""`accelerate launch` as a worker's agent calls it makes one world of two launches."""

import os
import subprocess
import sys
from pathlib import Path

from tests.ports import unused_port
from tests.remote.torch.fixtures import DEADLINE_S

ROOT = Path(__file__).parents[3]


def test_two_launches_make_one_world(make_world, tiny_model, dataset):
    world = make_world("two").plan(tiny_model, dataset, 2)
    port = unused_port()
    launches = []
    for rank, host in enumerate(world.hosts):
        options = {
            "num_machines": 2,
            "num_processes": 2,
            "machine_rank": rank,
            "main_process_ip": "127.0.0.1",
            "main_process_port": port,
            "mixed_precision": "no",
            "dynamo_backend": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        launch = [sys.executable, "-P", "-m", "accelerate.commands.launch", "--multi_gpu"]
        with (world.folder / f"log.{rank}").open("wb") as log:
            process = subprocess.Popen(
                [*launch, *words, "-m", "remote.train", str(world.run_dir(host)), str(rank), "1"],
                env=os.environ
                | {
                    "PYTHONPATH": str(ROOT),
                    "PYTHONSAFEPATH": "1",
                    "ACCELERATE_USE_CPU": "true",
                    "GLOO_SOCKET_IFNAME": "lo",
                    "OMP_NUM_THREADS": "1",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        launches.append(process)
    try:
        codes = [launch.wait(DEADLINE_S) for launch in launches]
    finally:
        for launch in launches:
            launch.kill()
            launch.wait()
    logs = [(world.folder / f"log.{rank}").read_text() for rank in (0, 1)]
    assert codes == [0, 0], "\n".join(logs)
    assert [world.events("ready", host)[0]["world_size"] for host in world.hosts] == [2, 2]
    assert {event["world_size"] for event in world.events("step")} == {2}
    assert world.events("finished")[0]["samples_done"] == 47
    assert "[6/6] loss " in logs[0]
    assert "Warning" not in logs[0]
