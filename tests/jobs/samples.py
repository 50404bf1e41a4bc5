"""Plans, specs and event lines for tests of what needs no host."""

import json
from typing import Any

from sollol_tui.jobs.store import Store
from sollol_tui.model.facts import Gpu, HostFacts
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.plan import DatasetFacts, Plan, PlannedRank, PlannedWorker
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from sollol_tui.model.units import GIB

DATASET = DatasetFacts(
    path="rows.jsonl", format="alpaca", rows=160, sha256="0" * 64, size_bytes=1, mean_chars=10.0
)
INVENTORY = Inventory(file="inventory.yaml", hosts=(Host(name="w1"), Host(name="w2")))


def plan(*hosts: str) -> Plan:
    """One CPU rank on each of the hosts, in this order; w1 and w2 unless told."""
    names = hosts or ("w1", "w2")
    return Plan(
        workers=tuple(
            PlannedWorker(
                host=name,
                address=f"10.0.0.{slot + 1}",
                accelerator="cpu",
                ranks=(PlannedRank(slot=slot, gpu=None),),
                share=1 / len(names),
            )
            for slot, name in enumerate(names)
        ),
        engine="static",
        global_batch=16,
        max_steps=10,
        rows=160,
        dataset=DATASET,
        ports=(29500, 29549),
        left_out={},
    )


def add_job(store: Store, *resources: str, name: str = "tiny") -> str:
    """A queued job; one that has its turn when it leases `resources`."""
    with store.transaction():
        job = _add_job(store, name)
        if resources:
            store.leases.check_turn(job, resources)
            store.leases.take(job, resources)
            store.note_plan(job, plan())
            store.move_job(job, JobState.PLANNING)
    return job


def _add_job(store: Store, name: str) -> str:
    return store.add_job(
        spec=JobSpec(model="m", dataset="rows.jsonl"),
        plan=plan(),
        inventory=INVENTORY,
        model="m",
        dataset="rows.jsonl",
        name=name,
        output_dir=lambda job: f"out/{job}",
    )


def line(kind: str, slot: int | None, **data: Any) -> bytes:
    """An event line as a worker writes it."""
    common = {"v": 1, "t": 1.0, "kind": kind, "job": "j-1", "host": "w1", "slot": slot}
    whole = {**common, "attempt": 1, "generation": 1, "seq": 0, **data}
    return json.dumps(whole).encode() + b"\n"


def copy_lines(
    store: Store, job: str, *lines: bytes, host: str = "w1", file: str = "events.0.1.jsonl"
) -> None:
    """Puts lines of `line` into the coordinator's copy of a worker's file, as that job's."""
    copies = store.home.copies(job, host)
    copies.mkdir(parents=True, exist_ok=True)
    with (copies / file).open("ab") as copy:
        for each in lines:
            said = {**json.loads(each), "job": job, "host": host}
            copy.write(json.dumps(said, separators=(",", ":")).encode() + b"\n")


def facts(**changes: Any) -> HostFacts:
    values: dict[str, Any] = {
        "hostname": "w", "user": "ml", "home": "/home/ml", "workdir": "/home/ml/.sollol",
        "system": "Linux", "arch": "x86_64", "libc": "glibc", "cpu_model": "cpu", "cpu_cores": 8,
        "ram_bytes": 32 * GIB, "ram_available_bytes": 16 * GIB, "disk_free_bytes": 100 * GIB,
        "pythons": (), "gpus": (), "address": "10.0.0.1",
    }  # fmt: skip
    return HostFacts(**values | changes)


def gpus(count: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(index=n, name="RTX 3090", vram_bytes=24 * GIB) for n in range(count))
