"""Writes a recording to replay: the first hour of a job on four unequal machines, made up, in the
form of real ones. Screenshots, tests and benchmarks show it.

Run: python -m tools.sample_recording FOLDER; then: sollol replay FOLDER
"""

import hashlib
import json
import math
import random
import sys
from pathlib import Path
from typing import Any, Final

from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import DatasetFacts, Plan, PlannedRank, PlannedWorker
from sollol_tui.model.spec import JobSpec, Lora
from sollol_tui.model.units import GIB

JOB: Final = "j-7f3a"
BEGINS: Final = 1_793_800_000.0
STEP_S: Final = 4.1
STEPS: Final = 4852  # of which an hour sees the first
BATCH: Final = 128
READY_S: Final = 41.0
_GPUS: Final = {  # host: name, GiB, GiB in use, heat and load of each of its GPUs
    "hydra": ("NVIDIA GeForce RTX 3090", 24, 21.4, (71, 68), 97),
    "desktop": ("NVIDIA GeForce RTX 3060", 12, 10.2, (66,), 99),
    "attic": ("NVIDIA GeForce RTX 2080 Ti", 11, 9.8, (74,), 95),
}
_SHARES: Final = {"hydra": 0.62, "desktop": 0.23, "attic": 0.15}
_SLOTS: Final = {"hydra": (0, 1), "desktop": (2,), "attic": (3,)}
_SPEEDS: Final = {0: 12.4, 1: 12.2, 2: 9.1, 3: 6.0}
_RAM: Final = {"hydra": (28, 64), "desktop": (12, 32), "attic": (12, 32), "old-xeon": (3, 128)}


class _Script:
    """What each file of the recording holds, in the order of time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lines: dict[tuple[str, str], list[str]] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._seq = 0

    def _add(self, host: str, file: str, line: str) -> int:
        """Where the line begins in its file."""
        self._lines.setdefault((host, file), []).append(line)
        begins = self._sizes.get((host, file), 0)
        self._sizes[host, file] = begins + len(line.encode()) + 1
        return begins

    def event(self, at: float, kind: str, host: str, slot: int | None = None, **data: Any) -> None:
        """What a worker says `at` seconds after the job was made."""
        self._seq += 1
        common = {"v": 1, "t": round(BEGINS + at, 3), "kind": kind, "job": JOB, "host": host,
                  "slot": slot, "attempt": 1, "generation": 1, "seq": self._seq}  # fmt: skip
        file = f"events.{'agent' if slot is None else slot}.1.jsonl"
        line = json.dumps({**common, **data}, separators=(",", ":"))
        position = self._add(host, file, line)
        if kind not in ("step", "host_metrics"):
            row = (JOB, host, file, position, BEGINS + at, BEGINS + at + 0.1, slot, 1, 1, kind)
            self._store.connection.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, json.dumps(data)),
            )

    def log(self, at: float, host: str, slot: int, line: str) -> None:
        """What a rank prints."""
        self._add(host, f"log.{slot}.1", line)
        size = self._sizes[host, f"log.{slot}.1"]
        self._add(host, f"times.{slot}.1", f"{BEGINS + at:.3f} {size}")

    def write(self) -> None:
        for (host, file), lines in self._lines.items():
            folder = self._store.home.copies(JOB, host)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("\n".join(lines) + "\n")


def write_sample(folder: Path, *, minutes: float = 60.0) -> None:
    """The recording of so long a part of the job, in an empty folder."""
    with Store(open_home(folder)) as store, store.transaction():
        _add_job(store)
        script = _Script(store)
        _begin(script)
        _train(script, int((minutes * 60 - READY_S) / STEP_S))
        script.write()


def _add_job(store: Store) -> None:
    hosts = tuple(Host(name=name) for name in (*_GPUS, "old-xeon", "pi01"))
    inventory = Inventory(file="lab/inventory.yaml", hosts=hosts)
    dataset = DatasetFacts(path="tools_621k.jsonl", format="messages", rows=STEPS * BATCH,
                           sha256="0" * 64, size_bytes=1, mean_chars=612.0)  # fmt: skip
    workers = tuple(
        PlannedWorker(host=host, address=f"192.168.1.{40 + slots[0]}", accelerator="cuda",
                      ranks=tuple(PlannedRank(slot=s, gpu=n) for n, s in enumerate(slots)),
                      share=_SHARES[host])
        for host, slots in _SLOTS.items()
    )  # fmt: skip
    plan = Plan(workers=workers, engine="elastic", global_batch=BATCH, max_steps=STEPS,
                rows=STEPS * BATCH, dataset=dataset, ports=(29500, 29549), left_out={})  # fmt: skip
    model = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    spec = JobSpec(name="tools-621k", model=model, dataset="tools_621k.jsonl", lora=Lora(r=32))
    made = store.add_job(spec=spec, plan=plan, inventory=inventory, model=model, name="tools-621k",
                         dataset="tools_621k.jsonl", output_dir="work/{}".format)  # fmt: skip
    run = store.connection.execute
    run("DELETE FROM transitions WHERE job = ?", (made,))
    run("UPDATE jobs SET id = ?, created_at = ?, state = 'running' WHERE id = ?",
        (JOB, BEGINS, made))  # fmt: skip
    store.note_plan(JOB, plan)
    run("UPDATE jobs SET updated_at = ?1, started_at = ?1", (BEGINS + READY_S,))
    steps = (("queued", 0), ("planning", 1), ("provisioning", 3), ("starting", 12),
             ("running", READY_S))  # fmt: skip
    old = None
    for new, at in steps:
        run("INSERT INTO transitions VALUES (?, ?, ?, ?, '')", (JOB, BEGINS + at, old, new))
        old = new
    for name, (used, total) in _RAM.items():
        load = {"cpu_percent": 3.0, "cpu_cores": 16, "gpus": [],
                "ram_used_bytes": used * GIB, "ram_total_bytes": total * GIB}  # fmt: skip
        store.note_reading(inventory.file, name, state="up", reason="", data=load)
    store.note_reading(inventory.file, "pi01", state="down", reason="no route to host", data={})


def _begin(script: _Script) -> None:
    for host, slots in _SLOTS.items():
        script.event(12.5, "agent_started", host, pid=4242)
        for slot in slots:
            script.event(13, "rank_started", host, None, of_slot=slot, of_attempt=1)
            script.log(20, host, slot, "loading TinyLlama-1.1B-Chat-v1.0 in bfloat16")
            script.log(31, host, slot, "LoRA r=32 on q_proj, k_proj, v_proj, o_proj, gate_proj,"
                       " up_proj, down_proj: 25,231,360 of 1,125,279,744 parameters")  # fmt: skip
            script.event(READY_S - 2, "ready", host, slot, device="cuda:0", torch="2.13.0+cu130",
                         world_size=4, step=0, digest="9c41d07be25a")  # fmt: skip
            script.log(READY_S - 1, host, slot, "ready: bucket of 512 tokens, world size 4")


def _train(script: _Script, steps: int) -> None:
    chance = random.Random(7)
    for step in range(1, steps + 1):
        at = READY_S + step * STEP_S
        loss = 1.18 + 1.25 * math.exp(-step / 160) + chance.gauss(0, 0.02)
        speed = BATCH / STEP_S * chance.uniform(0.98, 1.02)
        left_s = (STEPS - step) * STEP_S
        script.event(at, "step", "hydra", 0, step=step, max_steps=STEPS, samples_done=step * BATCH,
                     samples_total=STEPS * BATCH, loss=round(loss, 4), lr=2e-4 * (1 - step / STEPS),
                     grad_norm=round(0.4 + chance.random() / 5, 3), samples_per_s=round(speed, 2),
                     eta_s=round(left_s, 1), sync_s=0.63, world_size=4)  # fmt: skip
        line = f"[{step:>4}/{STEPS}] loss {loss:.3f}  {speed:.1f} smp/s  ETA {left_s / 3600:.1f}h"
        script.log(at, "hydra", 0, line)
        if step % 5 == 0:
            for host, slots in _SLOTS.items():
                script.event(at, "host_metrics", host, **_load(host, chance))
                if step % 50 == 0 and host != "hydra":
                    for slot in slots:
                        script.log(at, host, slot, f"step {step}: {_SPEEDS[slot]:.1f} smp/s here")
        if step % 100 == 0:
            _tell_speed(script, at, step)
        if step % 200 == 0:
            script.event(at, "checkpoint", "hydra", 0, step=step, samples_done=step * BATCH)
            script.log(at, "hydra", 0, f"saved checkpoint-{step}")


def _tell_speed(script: _Script, at: float, step: int) -> None:
    ranks = [{"slot": slot, "host": host, "samples_per_s": _SPEEDS[slot],
              "share": _SHARES[host] / len(slots)}
             for host, slots in _SLOTS.items() for slot in slots]  # fmt: skip
    script.event(at, "speed", "hydra", 0, step=step, samples_per_s=31.2, step_s=STEP_S,
                 adding_s=0.63, waiting_s=0.09, slowest_host="attic", slowest_slot=3,
                 best_host="hydra", speedup=1.27, efficiency=0.79, ranks=ranks)  # fmt: skip
    digest = hashlib.sha256(b"%d" % step).hexdigest()
    script.event(at, "weights", "hydra", 0, step=step, ranks=4, digest=digest)


def _load(host: str, chance: random.Random) -> dict[str, Any]:
    name, total, used, heats, util = _GPUS[host]
    ram_used, ram_total = _RAM[host]
    gpus = [
        {"index": index, "name": name, "util_percent": min(100, util + chance.randint(-2, 1)),
         "vram_used_bytes": int(used * GIB), "vram_total_bytes": total * GIB,
         "temp_c": heat + chance.randint(-1, 1)}
        for index, heat in enumerate(heats)
    ]  # fmt: skip
    return {"cpu_percent": float(chance.randint(12, 31)), "ram_used_bytes": ram_used * GIB,
            "ram_total_bytes": ram_total * GIB, "gpus": gpus}  # fmt: skip


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]))
