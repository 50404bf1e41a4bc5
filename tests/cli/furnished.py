"""A state with something of everything, for tests of what commands print about it."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sollol_tui.jobs.events import add_events
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import LOCK
from sollol_tui.model.events import decode
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.samples import add_job, copy_lines, line

GIB = 2**30


@contextmanager
def supervised() -> Iterator[None]:
    """The jobs have supervisors as far as anybody can tell, so commands start none."""
    with Store(open_home()) as store:
        folders = [store.home.job(job) for job in store.attended_jobs()]
    with ExitStack() as locks:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            fcntl.flock(locks.enter_context((folder / LOCK).open("w")), fcntl.LOCK_EX)
        yield


def furnish(folder: Path) -> str:
    """An inventory of four hosts and four jobs, one of which runs; returns that one's id."""
    local = {"connection": "local", "workdir": str(folder / "workdir")}
    hosts = {name: {"address": f"10.0.0.{n}"} for n, name in enumerate(("w1", "w2", "pi-behind"))}
    (folder / "inventory.yaml").write_text(json.dumps({"hosts": {"one": local, **hosts}}))
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    model = folder / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "x.safetensors"):
        (model / name).write_text("{}")
    with Store(open_home()) as store:
        failed = add_job(store, name="first-try")
        store.move_job(failed, JobState.FAILED, "w2: rank 1: CUDA out of memory")
        store.note_traceback(failed, "Traceback:\nOutOfMemoryError: 24 GiB")
        add_job(store, "w9 gpu 0", name="magicoder-r16-with-a-long-name")
        job = add_job(store, "w1 cpu", "w2 cpu", name="tools-621k")
        for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
            store.move_job(job, state)
        for host in ("w1", "w2"):
            for worker in (WorkerState.PROVISIONING, WorkerState.READY, WorkerState.TRAINING):
                store.move_worker(job, host, worker)
        add_job(store, name="waiting")
        store.note_progress(
            job,
            {"step": 450, "max_steps": 1000, "samples_done": 280_000, "samples_total": 621_000,
             "loss": 1.214, "first_loss": 4.5, "samples_per_s": 14.9, "eta_s": 22_860.0,
             "world_size": 2},
        )  # fmt: skip
        copy_lines(store, job, *(
            line("step", 0, step=n, loss=4.5 / n, samples_per_s=14.0 + n, lr=1e-4, sync_s=0.3)
            for n in range(1, 40)
        ))  # fmt: skip
        said = []
        said.append(line("evaluation", 0, step=20, loss=1.5, perplexity=4.48, rows=100))
        said.append(line("checkpoint", 0, step=20, samples_done=320, path="/x/checkpoint-20"))
        said.append(line("notice", 0, message="9 rows were skipped"))
        figures = {"cpu_percent": 95.0, "ram_used_bytes": 28 * GIB, "ram_total_bytes": 64 * GIB}
        gpu = {"index": 0, "name": "RTX 3090", "util_percent": 97.0, "vram_used_bytes": 21 * GIB,
               "vram_total_bytes": 24 * GIB, "temp_c": 71.0}  # fmt: skip
        load = [line("host_metrics", None, **figures, gpus=[gpu]) for _ in range(9)]
        copy_lines(store, job, *load, file="events.agent.1.jsonl")
        heard = [(n, event) for n, event in enumerate(map(decode, said)) if event is not None]
        add_events(store, job, "w1", "events.0.1.jsonl", heard, len(heard))
        reading = {**figures, "cpu_cores": 16, "disk_free_bytes": 120 * GIB, "gpus": [gpu]}
        for host, state, reason in (
            ("w1", "up", ""), ("w2", "up", ""), ("pi-behind", "down", "no route to host"),
        ):  # fmt: skip
            data = reading if state == "up" else {}
            file = str(folder / "inventory.yaml")
            store.note_reading(file, host, state=state, reason=reason, data=data)
        then = time.time() - 3 * 3600 - 30
        store.connection.execute("UPDATE jobs SET created_at = ? + rowid", (then,))
        store.connection.execute("UPDATE jobs SET ended_at = ? WHERE id = ?", (then, failed))
        store.connection.execute("UPDATE readings SET since = ?", (then,))
        copies = store.home.copies(job, "w1")
        copies.mkdir(parents=True, exist_ok=True)
        (copies / "log.0.1").write_text("line\n" * 50_000)
    return job
