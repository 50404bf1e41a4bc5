"""What a supervisor costs while its job runs: its share of a core, and its memory.

Run by hand as root: `python -m tests.bench.bench_supervisor [HOSTS] [SECONDS] [STEP_S]`, on real
OpenSSH hosts. The ranks learn nothing; each writes a line to its log at every step.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from sollol_tui.jobs.home import open_home
from sollol_tui.model.states import JobState
from tests.cluster.conftest import CHECKOUT, UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab
from tests.jobs.bench import supervisors, write_model, write_rows
from tests.payloads import stub_payload

SETTLE_S = 5.0  # the first connections and the first events are no part of it


def measure(hosts: int, seconds: float, step_s: float) -> None:
    cache = Path(os.environ.setdefault("UV_CACHE_DIR", str(CHECKOUT / ".cache" / "uv")))
    with (
        tempfile.TemporaryDirectory(prefix="sollol-bench-") as folder,
        Lab.up(hosts=hosts, shared={cache: UV_CACHE_ON_HOSTS}) as lab,
    ):
        place = Path(folder)
        fill_cache(stub_payload(place / "stub"), place / "cache")
        os.environ["SOLLOL_PAYLOAD"] = str(place / "stub")
        write_model(place / "model")
        write_rows(place / "rows.jsonl", rows=10_000)
        coordinator = Coordinator(
            lab=lab,
            home=open_home(place / "home"),
            folder=place,
            cache_on_hosts=UV_CACHE_ON_HOSTS,
        )
        coordinator.knows_hosts()
        coordinator.lay_out({"SOLLOL_STUB_STEPS": "1000000", "SOLLOL_STUB_STEP_S": str(step_s)})
        workers = ("--workers", str(hosts), "--set", "epochs=10000", "--detach")
        coordinator.sollol(*coordinator.train(*workers), timeout_s=300)
        job = coordinator.job_reaches(JobState.RUNNING)
        [process] = supervisors(coordinator.home)
        time.sleep(SETTLE_S)
        first = coordinator.jobs()[0].step
        share, memory = watch(process, seconds)
        steps = coordinator.jobs()[0].step - first
        coordinator.sollol("cancel", job.id, "--now")
    print(
        f"{hosts} workers, {steps / seconds:.1f} steps/s, {seconds:g} s: {share:.2%} of a core, "
        f"RSS {memory.rss / 1e6:.0f} MB, PSS {memory.pss / 1e6:.0f} MB"
    )


def watch(process: psutil.Process, seconds: float) -> tuple[float, Any]:
    before, begun = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, passed = process.cpu_times(), time.monotonic() - begun
    used = after.user + after.system - before.user - before.system
    return used / passed, process.memory_full_info()


if __name__ == "__main__":
    numbers = [float(word) for word in sys.argv[1:]]
    hosts, seconds, step_s = (*numbers, *(8, 60, 0.02)[len(numbers) :])
    measure(int(hosts), seconds, step_s)
