"""How long training stands still when a worker crashes: the elastic engine against torchrun's
elastic launch, on the same loop, in turns in one run.

Run by hand: `python -m tests.bench.bench_gap [RANKS] [STEP_MS] [ROUNDS]`. Computing is a sleep.
The last worker, with all that runs on it, is killed in the middle of a step; the gap is the longest
time without a committed step from then on. A worker is an agent and its rank for torchrun, a rank
for the engine, whose agents take no part in that. Prints both medians and their ratio.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from tests.ports import unused_port
from tests.remote.torch.elastic_world import ElasticWorld

ROOT = Path(__file__).parents[2]
FLOATS = 64
STEPS_BEFORE = 10
STEPS_AFTER = 5
DEADLINE_S = 300.0


def times(folder: Path) -> list[float]:
    """When each step was first committed by anybody."""
    first: dict[int, float] = {}
    for path in folder.glob("told.*"):
        for text in path.read_text().rpartition("\n")[0].splitlines():
            line = json.loads(text)
            if line.get("kind", "committed") == "committed":
                first[line["step"]] = min(line["t"], first.get(line["step"], line["t"]))
    return sorted(first.values())


def await_steps(folder: Path, count: int, since: float = 0.0) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while sum(moment > since for moment in times(folder)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {count} steps within {DEADLINE_S:g} s; see {folder}")
        time.sleep(0.05)


def gap_after(folder: Path, killed_at: float) -> tuple[float, float]:
    """The longest time without a commit after the fault, and the usual step before it."""
    await_steps(folder, STEPS_AFTER, killed_at)
    known = times(folder)
    before = [moment for moment in known if moment <= killed_at]
    after = [before[-1], *(moment for moment in known if moment > killed_at)]
    usual = statistics.median(later - earlier for earlier, later in pairwise(before))
    return max(later - earlier for earlier, later in pairwise(after)), usual


@contextlib.contextmanager
def torchrun(folder: Path, ranks: int, step_s: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    port = unused_port()
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes=1:{ranks}"),
        *("--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"),
        *("--rdzv-id=gap", "--max-restarts=9"),
    ]
    loop = ["-m", "tests.bench.gap_rank", str(folder), str(step_s), str(FLOATS)]
    with (folder / "log").open("ab") as log:
        agents = [
            # On one machine whoever comes first would keep the rendezvous.
            subprocess.Popen(
                [*command, f"--rdzv-conf=is_host={number == 0}", *loop],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
            for number in range(ranks)
        ]
    try:
        yield agents
    finally:
        for agent in agents:
            kill_tree(agent)
            agent.wait()


def kill_tree(agent: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        doomed = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)


def gap_of_torchrun(ranks: int, step_s: float) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with torchrun(folder, ranks, step_s) as agents:
            await_steps(folder, STEPS_BEFORE)
            # The first agent is the rendezvous: without it the job would be over.
            kill_tree(agents[-1])
            return gap_after(folder, time.monotonic())


def gap_of_engine(ranks: int, step_s: float) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ElasticWorld(folder, ranks, step_s=step_s) as world:
            world.start(*range(ranks))
            await_steps(folder, STEPS_BEFORE)
            world.kill(ranks - 1)
            return gap_after(folder, time.monotonic())


def main(arguments: list[str]) -> None:
    ranks, step_ms, rounds = (
        int(value) for value in [*arguments, *["3", "300", "3"][len(arguments) :]]
    )
    measured: dict[str, list[float]] = {"torchrun": [], "elastic": []}
    steps = []
    for number in range(rounds):
        for name, measure in (("torchrun", gap_of_torchrun), ("elastic", gap_of_engine)):
            gap, step = measure(ranks, step_ms / 1000)
            measured[name].append(gap)
            steps.append(step)
            print(f"round {number + 1}: {name} {gap:.2f} s", flush=True)
    theirs, ours = (statistics.median(measured[name]) for name in ("torchrun", "elastic"))
    print(
        f"{ranks} ranks, steps of {statistics.median(steps):.2f} s: torchrun stands still for "
        f"{theirs:.2f} s, the elastic engine for {ours:.2f} s: {100 * ours / theirs:.0f} % of it; "
        f"load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
