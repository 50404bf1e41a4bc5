"""While a job runs its newest checkpoint comes here, and what hinders that hinders only that."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs import events, safekeeping
from sollol_tui.jobs.checkpoints import kept, kept_folder
from sollol_tui.jobs.store import Store
from sollol_tui.model.events import decode
from sollol_tui.model.states import JobState, WorkerState
from tests.jobs.samples import line
from tests.jobs.saved import run_dir_of, write_checkpoint

DEADLINE_S = 90.0


@pytest.fixture
def store(
    plain_client: SOLLOLClient,
    held_job: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Store]:
    monkeypatch.setattr(safekeeping, "EVERY_S", 0.0)
    monkeypatch.setattr(safekeeping, "REST", 0.0)
    monkeypatch.setattr(safekeeping, "_LOOK_S", 0.02)
    with Store(plain_client.home) as opened:
        for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
            opened.move_job(held_job, state)
        yield opened


def save(store: Store, folder: Path, job: str, step: int, *hosts: str) -> None:
    """What ranks do: write it, then tell of it."""
    for host in hosts:
        write_checkpoint(run_dir_of(folder, job, host) / "checkpoints", step)
    said = decode(line("checkpoint", 0, step=step))
    assert said is not None
    events.add_events(store, job, "w1", "events.0.1.jsonl", [(step, said)], step + 1)


async def keep_until(store: Store, job: str, met: Callable[[], bool]) -> None:
    over = asyncio.Event()
    keeping = asyncio.create_task(safekeeping.keep_safe(store, job, over))
    async with asyncio.timeout(DEADLINE_S):
        while not met():
            assert not keeping.done()
            await asyncio.sleep(0.01)
    over.set()
    await keeping


def steps_here(store: Store, job: str) -> list[int]:
    """The checkpoints that came here, as it was noted."""
    told = events.read_events(store, job, ["checkpoint_here"])
    return [event.data["step"] for event in told]


def notices(store: Store, job: str) -> list[str]:
    return [event.data["message"] for event in events.read_events(store, job, ["notice"])]


async def test_the_newest_checkpoint_is_here_while_the_job_runs(
    store: Store,
    held_job: str,
    tmp_path: Path,
) -> None:
    for step in (10, 20):
        save(store, tmp_path, held_job, step, "w1", "w2")
    await keep_until(store, held_job, lambda: steps_here(store, held_job) == [20])
    save(store, tmp_path, held_job, 30, "w2")
    await keep_until(store, held_job, lambda: steps_here(store, held_job) == [20, 30])
    assert [path.name for path in kept_folder(store.home, held_job).iterdir()] == ["checkpoint-30"]
    assert kept(store.home, held_job) == 30
    assert notices(store, held_job) == []


async def test_a_damaged_one_is_passed_over_for_whoever_has_it_whole(
    store: Store,
    held_job: str,
    tmp_path: Path,
) -> None:
    save(store, tmp_path, held_job, 10, "w1", "w2")
    damaged = run_dir_of(tmp_path, held_job, "w1") / "checkpoints/checkpoint-10"
    (damaged / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    await keep_until(store, held_job, lambda: kept(store.home, held_job) == 10)
    here = kept_folder(store.home, held_job) / "checkpoint-10/adapter_model.safetensors"
    assert here.read_bytes() == b"w" * 1000


async def test_a_full_disk_here_is_told_once_and_the_job_goes_on(
    store: Store,
    held_job: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(store, tmp_path, held_job, 10, "w1")
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(safekeeping, "RESERVE", 2 * free)
    await keep_until(store, held_job, lambda: bool(notices(store, held_job)))
    save(store, tmp_path, held_job, 20, "w1")
    (told,) = {
        message.split(" do not fit")[0].rpartition(": ")[0] for message in notices(store, held_job)
    }
    assert told == "the newest checkpoint is not brought here"
    assert kept(store.home, held_job) is None
    assert store.job(held_job).state is JobState.RUNNING
    monkeypatch.setattr(safekeeping, "RESERVE", 0)
    await keep_until(store, held_job, lambda: kept(store.home, held_job) == 20)


async def test_a_lost_worker_is_not_asked(store: Store, held_job: str, tmp_path: Path) -> None:
    save(store, tmp_path, held_job, 30, "w1")
    store.move_worker(held_job, "w1", WorkerState.LOST, "gone")
    save(store, tmp_path, held_job, 20, "w2")
    await keep_until(store, held_job, lambda: steps_here(store, held_job) == [20])


async def test_of_a_job_that_does_not_run_nothing_is_brought(
    store: Store, held_job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def look(store: Store, job: str) -> bool:
        nonlocal looks
        looks += 1
        return is_due(store, job)

    is_due = safekeeping._is_due
    monkeypatch.setattr(safekeeping, "_is_due", look)
    store.move_job(held_job, JobState.PAUSING)
    save(store, tmp_path, held_job, 10, "w1")
    await keep_until(store, held_job, lambda: looks > 3)
    assert kept(store.home, held_job) is None
