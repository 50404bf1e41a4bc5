"""What the elastic engine adds to a step, against a bare gloo all-reduce loop on the same ranks.

Run by hand: `python -m tests.bench.bench_elastic [RANKS] [STEP_MS] [FLOATS] [STEPS]`. Computing is
a sleep, both loops add the same buffer, in turns in one run; it prints medians and their ratio.
"""

import contextlib
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from remote.control import Action
from remote.engine import StepLost, Tally
from remote.engine.elastic import ElasticEngine
from remote.engine.group import Group, OwnStore
from remote.run import Lighthouse
from tests.remote.torch.elastic_world import ElasticWorld, Training, run_of

ROUNDS = 3


def rank(
    slot: int,
    ranks: int,
    step_s: float,
    floats: int,
    steps: int,
    folder: Path,
    lights: list[Lighthouse],
    ports: "multiprocessing.Queue[int]",
    results: "multiprocessing.Queue[tuple[int, str, float]]",
) -> None:
    torch.set_num_threads(1)
    run = run_of(ranks)
    store = OwnStore("127.0.0.1") if slot == 0 else None
    if store is not None:
        for _ in range(ranks - 1):
            ports.put(store.port)
    group = Group(
        "bare", "127.0.0.1", store.port if store else ports.get(), "127.0.0.1", slot, ranks
    )
    (folder / f"w{slot + 1}").mkdir(exist_ok=True)
    engine = ElasticEngine(
        run,
        run.world[slot],
        run_dir=folder / f"w{slot + 1}",
        launch=1,
        lighthouses=lights,
        say=lambda message: None,
        wanted=lambda: Action.RUN,
    )
    engine.join()
    training, flat = Training(), torch.ones(floats)

    def bare() -> None:
        time.sleep(step_s)
        group.sum(flat, limit_s=60)

    def elastic() -> None:
        engine.settle(training)
        time.sleep(step_s)
        assert not isinstance(engine.reduce(flat, Tally(samples=1)), StepLost)
        training.step += 1

    for _ in range(3):
        bare()
        elastic()
    for _ in range(ROUNDS):
        for loop in (bare, elastic):
            times = []
            for _ in range(steps):
                began = time.monotonic()
                loop()
                times.append(time.monotonic() - began)
                flat.fill_(1.0)
            results.put((slot, loop.__name__, statistics.median(times)))
    engine.close()


def main(arguments: list[str]) -> None:
    ranks, step_ms, floats, steps = (
        int(value) for value in [*arguments, *["3", "100", "100000", "40"][len(arguments) :]]
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.bench_elastic"])
    ports, results = context.Queue(), context.Queue()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        world = stack.enter_context(ElasticWorld(Path(folder), ranks))
        own = (ranks, step_ms / 1000, floats, steps, Path(folder), world.lighthouses)
        workers = [
            context.Process(target=rank, args=(slot, *own, ports, results)) for slot in range(ranks)
        ]
        for worker in workers:
            worker.start()
        told = [results.get(timeout=600) for _ in range(ranks * ROUNDS * 2)]
        for worker in workers:
            worker.join()
    bare = statistics.median(took for _, name, took in told if name == "bare")
    elastic = statistics.median(took for _, name, took in told if name == "elastic")
    print(
        f"{ranks} ranks, {step_ms} ms of computing, {floats} floats: bare {bare * 1e3:.2f} ms, "
        f"elastic {elastic * 1e3:.2f} ms, overhead {100 * (elastic / bare - 1):.1f} %"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
