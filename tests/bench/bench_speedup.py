"""How much faster several workers are than one, and how near the plan's promise comes to it.

Run by hand as root: `python -m tests.bench.bench_speedup CASE.. --worker-python PYTHON`, with the
Python of a worker's environment. Ranks of the elastic engine on hosts in network namespaces:

  quotas      work in torch under CPU quotas: 4 x 40 % of a core and 100/50/25 % against each alone,
              and about half of each, all on one core: none has more of the machine when alone
  links       sleep as computing, 25 million numbers: against the plain loop at 100 Mbit, efficiency
              at 1 Gbit
  predicted   the same in 6 cases of bandwidth and batch, predicted after warm-up and measured
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import permutations, repeat
from pathlib import Path
from typing import Any

from sollol_tui.model.prediction import HostSpeed, MeasuredSum, Prediction, Wire
from tests.cluster.lab import Lab

ROOT = Path(__file__).parents[2]
LIMIT_S = 900.0
PORT = 29511
FLOATS = 25_231_360  # TinyLlama, r=32, every linear layer
TOKENS_PER_S = 6500.0
SAMPLE_TOKENS = 256
PLAIN_TOKENS = 1024  # that each worker computes between two sums of the plain loop
WARM_UP, MEASURED = 3, 5
RATES = ("100mbit", "300mbit", "1gbit")
BATCHES = (128, 512)  # global, in samples
QUOTA_STEP_S = 1.5  # of all workers together
QUOTAS = (
    ("4 x 40 %", (40, 40, 40, 40), "3.6", None),
    ("100/50/25 %", (100, 50, 25), "0.9", None),
    # Two busy cores of a machine may give less than twice one; one core gives what it gives.
    ("48/24/12 %, all on one core", (48, 24, 12), "0.9", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a rank computes per sample: `sleep_s` seconds of sleep, or `work` products of matrices
    in one thread. `floats` is the length of its gradient."""

    floats: int
    global_batch: int
    sleep_s: float = 0.0
    work: int = 0
    steps: int = WARM_UP + MEASURED
    plain: int = 0  # samples between two sums of the plain fp32 loop; 0 is the elastic engine
    core: int | None = None  # the one core that all ranks compute on


class Hosts:
    """The first hosts of a lab as ranks, whose Python is a worker's."""

    def __init__(self, lab: Lab, python: str) -> None:
        self._lab = lab
        self._python = python
        self._environment = {"PYTHONPATH": str(ROOT)}

    def run(self, load: Load, places: Sequence[int]) -> list[dict[str, Any]]:
        """Runs one rank on each of these hosts; what they told in their last lines, by place."""
        hosts = [self._lab.hosts[place] for place in places]
        stop = threading.Event()
        with ThreadPoolExecutor(len(hosts) + 1) as pool:
            light = pool.submit(self._light, hosts[0], stop)
            try:
                setting = {
                    "addresses": [host.address for host in hosts],
                    "load": {key: getattr(load, key) for key in Load.__slots__},
                }
                ranks = [
                    pool.submit(
                        host.run,
                        [self._python, "-m", "tests.bench.speedup_rank", json.dumps(setting), slot],
                        timeout_s=LIMIT_S,
                        env=self._environment,
                    )
                    for slot, host in enumerate(hosts)
                ]
                ended = wait(ranks, return_when=FIRST_EXCEPTION).done
                if failed := next((rank for rank in ended if rank.exception()), None):
                    failed.result()
            finally:
                stop.set()
                for host in hosts:  # the lighthouse, and who waits for one that failed
                    host.kill_leftovers()
                light.exception()
            told = [rank.result().stdout for rank in ranks]
        return [json.loads(text.splitlines()[-1]) for text in told]

    def _light(self, host: Any, stop: threading.Event) -> None:
        lighthouse = [self._python, "-m", "remote.engine.lighthouse", host.address, PORT]
        while not stop.is_set():  # it ends when the lab kills what is left
            host.run(lighthouse, timeout_s=LIMIT_S, check=False, env=self._environment)

    def set_rate(self, rate: str) -> None:
        for host in self._lab.hosts:
            host.set_rate(rate)

    def set_cpu(self, percents: Sequence[int]) -> None:
        for host, percent in zip(self._lab.hosts, percents, strict=False):
            host.set_cpu(percent)

    def doctor(self) -> list[dict[str, Any]]:
        """What `sollol doctor --network` measures of the links."""
        with tempfile.TemporaryDirectory() as folder:
            inventory, state = Path(folder, "inventory.yaml"), Path(folder, "state")
            inventory.write_text(self._lab.inventory_text())
            state.mkdir(mode=0o700)
            (state / "known_hosts").write_text(self._lab.known_hosts_text())
            command = [sys.executable, "-m", "sollol_tui", "-i", inventory]
            done = subprocess.run(
                [*command, "doctor", "--network", "--json"],
                capture_output=True,
                env=os.environ | {"SOLLOL_HOME": str(state)},
                check=False,
                timeout=120,
            )
        return list(json.loads(done.stdout)["network"]["links"])


def sleeping(global_batch: int, **more: int) -> Load:
    sleep_s = SAMPLE_TOKENS / TOKENS_PER_S
    return Load(floats=FLOATS, global_batch=global_batch, sleep_s=sleep_s, **more)


def quotas(hosts: Hosts) -> None:
    """4 workers of 40 % against one; unequal ones against the sum of each alone."""
    hosts.set_rate("1gbit")
    for name, percents, bar, core in QUOTAS:
        hosts.set_cpu(percents)
        load = Load(floats=1_000_000, global_batch=64, work=20, steps=WARM_UP + 3, core=core)
        # As much work as makes steps of what the bar names, however quick this machine is.
        first = hosts.run(load, [0])[0]["samples_per_s"] / percents[0] * sum(percents)
        load = replace(load, work=round(load.work * QUOTA_STEP_S * first / load.global_batch))
        kinds = dict.fromkeys(percents)
        alone = {
            percent: hosts.run(load, [percents.index(percent)])[0]["samples_per_s"]
            for percent in kinds
        }
        together = hosts.run(load, range(len(percents)))[0]
        with ThreadPoolExecutor(len(percents)) as pool:  # all compute, none knows of the others
            told = [*pool.map(hosts.run, repeat(load), [[place] for place in range(len(percents))])]
        at_once = sum(each["samples_per_s"] for [each] in told)
        solo = max(alone.values()) if len(kinds) == 1 else sum(alone[p] for p in percents)
        against = "one alone" if len(kinds) == 1 else "the sum of each alone"
        print(
            f"{name}: {together['samples_per_s']:.2f} smp/s, steps of {together['step_s']:.2f} s, "
            f"{together['samples_per_s'] / solo:.2f} x {against} (bar {bar}); waiting for the "
            f"slowest {together['waiting_s']:.2f} s, adding {together['adding_s']:.2f} s\n"
            f"  {together['samples_per_s'] / at_once:.2f} x the sum of all who compute at once but "
            "never meet: what the cores of this machine give",
            flush=True,
        )
        print("  shares: " + ", ".join(f"{r['share']:.0%}" for r in together["ranks"]), flush=True)
    print(f"load of this machine: {os.getloadavg()[0]:.1f}")


def links(hosts: Hosts) -> None:
    everyone = range(4)
    hosts.set_rate("100mbit")
    plain_samples = PLAIN_TOKENS // SAMPLE_TOKENS
    for batch in (64, 128):
        load = sleeping(batch, plain=plain_samples, steps=1)
        plain = hosts.run(load, everyone)[0]["samples_per_s"]
        ours = hosts.run(sleeping(batch), everyone)[0]["samples_per_s"]
        print(
            f"100 Mbit, global batch {batch} x {SAMPLE_TOKENS} tokens: {ours / plain:.1f} x the "
            f"plain fp32 loop (bar 5): {ours:.2f} and {plain:.2f} smp/s",
            flush=True,
        )
    hosts.set_rate("1gbit")
    told = hosts.run(sleeping(4 * 32_768 // SAMPLE_TOKENS), everyone)[0]
    ideal = 4 * TOKENS_PER_S / SAMPLE_TOKENS
    print(
        f"1 Gbit, 32k tokens per worker and step: {told['samples_per_s'] / ideal:.1%} of 4 x one "
        f"(bar 85 %): steps of {told['step_s']:.2f} s, of it adding {told['adding_s']:.2f} s, CPU "
        f"{told['cpu_s']:.2f} s of each rank",
        flush=True,
    )


def predicted(hosts: Hosts) -> None:
    """From speeds and sums of the warm-up, of the same run and of the one with the other batch; and
    from its speeds alone, with the network as the doctor measured it."""
    apart = []
    for rate in RATES:
        hosts.set_rate(rate)
        wires = {(link["origin"], link["target"]): link for link in hosts.doctor()}
        told = {batch: hosts.run(sleeping(batch), range(4))[0] for batch in BATCHES}
        for batch, other in (BATCHES, BATCHES[::-1]):
            measured = told[batch]
            promise = promise_of(measured["warm_up"], wires, batch)
            elsewhere = promise_of(told[other]["warm_up"], wires, batch)
            before = replace(promise, measured_sum=None, rest_s=0.0)
            apart.append(abs(promise.efficiency - measured["efficiency"]))
            print(
                f"{rate}, global batch {batch}: predicted {promise.efficiency:.1%} after warm-up, "
                f"{elsewhere.efficiency:.1%} after that with {other}, {before.efficiency:.1%} by "
                f"the wires alone; measured {measured['efficiency']:.1%}, sync "
                f"{measured['adding_s']:.2f} s; {100 * apart[-1]:.1f} points apart (bar 5)",
                flush=True,
            )
    print(f"at most {100 * max(apart):.1f} points apart")


def promise_of(
    warm_up: dict[str, Any], links_found: dict[tuple[str, str], Any], batch: int
) -> Prediction:
    """What is predicted for a step of `batch` samples."""
    speeds = warm_up["ranks"]
    names = [rank["host"] for rank in speeds]
    adding = MeasuredSum.told_by(warm_up | {"step": WARM_UP}, "measured in the warm-up")
    assert adding is not None
    return Prediction(
        hosts=tuple(
            HostSpeed(
                host=rank["host"],
                ranks=1,
                tokens_per_s=rank["samples_per_s"] * SAMPLE_TOKENS,
                is_measured=True,
                source="warm-up",
            )
            for rank in speeds
        ),
        wires=tuple(
            Wire(
                origin=one,
                target=other,
                bytes_per_s=links_found[one, other]["bytes_per_s"],
                latency_s=links_found[one, other]["latency_s"],
                is_measured=True,
                source="doctor",
            )
            for one, other in permutations(names, 2)
        ),
        global_batch=batch,
        sample_tokens=SAMPLE_TOKENS,
        gradient_bytes=2 * FLOATS,
        rest_s=adding.rest_s,
        measured_sum=adding,
    )


CASES = {"quotas": quotas, "links": links, "predicted": predicted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", default=[*CASES], metavar="CASE")
    parser.add_argument("--worker-python", required=True)
    asked = parser.parse_args()
    python = shutil.which(asked.worker_python)
    if python is None or (unknown := [case for case in asked.cases if case not in CASES]):
        parser.error(f"no {asked.worker_python}" if python is None else f"no case {unknown[0]}")
    began = time.monotonic()
    with Lab.up(hosts=4) as lab:
        for case in asked.cases:
            CASES[case](Hosts(lab, os.path.abspath(python)))  # noqa: PTH100  # a link stays one
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
