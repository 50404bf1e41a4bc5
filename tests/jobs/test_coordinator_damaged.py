"""What the coordinator keeps is damaged: it is told, the next best is taken, what runs goes on."""

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.model.errors import SollolError, StateError
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until
from tests.jobs.test_pause import QUICK, SLOW, pause, steps

FLIPS = 150


def flip(file: Path, place: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def rot(folder: Path) -> None:
    flip(folder / "adapter_model.safetensors", 0)


def messages(bench: Bench, job: str) -> str:
    return "\n".join(str(event.data["message"]) for event in bench.client.events(job, "notice"))


def test_a_rotten_checkpoint_is_told_and_that_of_the_workers_is_taken(bench: Bench) -> None:
    job = bench.submit(env=SLOW)
    bench.takes_steps(job)
    stopped = pause(bench, job).step
    rot(bench.home.job(job) / "checkpoints" / f"checkpoint-{stopped}")
    bench.lay_out(QUICK, {})
    bench.client.resume_job(job)
    bench.reaches(job, JobState.DONE)
    assert f"checkpoint-{stopped}, kept on this machine, is damaged" in messages(bench, job)
    assert [step for _, step in steps(bench, job, "one")] == list(range(1, 41))


def test_where_the_newest_is_rotten_everywhere_the_one_before_it_is_taken(bench: Bench) -> None:
    job = bench.submit(env=SLOW, save_steps=2)
    bench.takes_steps(job)
    until(lambda: bench.view(job).step >= 5, "two checkpoints")
    stopped = pause(bench, job).step
    name = f"checkpoint-{stopped}"
    rot(bench.home.job(job) / "checkpoints" / name)
    for host in ("one", "two"):
        rot(bench.run_dir(job, host) / "checkpoints" / name)
    before = (stopped - 1) // 2 * 2
    bench.lay_out(QUICK, {})
    bench.client.resume_job(job)
    bench.reaches(job, JobState.DONE)
    told = messages(bench, job)
    assert f"{name}, kept on this machine, is damaged" in told
    assert f"continuing from checkpoint-{before}" in told
    again = [step for generation, step in steps(bench, job, "one") if generation == 2]
    assert again == list(range(before + 1, 41))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"not a database, whatever its name says" * 400),
    ],
    ids=["cut", "emptied", "replaced"],
)
def test_a_damaged_state_is_one_sentence_and_the_run_goes_on(
    bench: Bench, spoil: Callable[[Path], object]
) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"})
    bench.takes_steps(job)
    bench.kill_supervisor(job)
    bench.client.close()
    spoil(bench.home.database)
    for rest in bench.home.root.glob("state.db-*"):
        rest.unlink()
    with pytest.raises(StateError) as caught:
        SOLLOLClient(bench.inventory, home=bench.home.root).list_jobs()
    assert str(bench.home.database) in str(caught.value)
    assert "move that file away to start afresh; workers keep their runs" in str(caught.value)
    assert "\n" not in str(caught.value)
    log = bench.run_dir(job, "one") / "log.0.1"
    lines = log.read_text().count("\n")
    until(lambda: log.read_text().count("\n") > lines, "the run goes on")
    bench.home.database.unlink()  # as the sentence says
    afresh = SOLLOLClient(bench.inventory, home=bench.home.root)
    assert afresh.list_jobs() == []
    afresh.close()


def test_a_flipped_bit_in_the_state_is_never_a_traceback(bench: Bench) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "2"})
    bench.reaches(job, JobState.DONE)
    bench.client.close()
    whole = bench.folder / "whole.db"
    shutil.copy(bench.home.database, whole)
    chance = random.Random(18)
    told = 0
    for _ in range(FLIPS):
        for rest in bench.home.root.glob("state.db*"):
            rest.unlink()
        shutil.copy(whole, bench.home.database)
        flip(bench.home.database, chance.randrange(whole.stat().st_size), chance.randrange(8))
        told += "\n" in look(bench, job)
    assert told > 0


def look(bench: Bench, job: str) -> str:
    """What reading the whole state says, an error's sentence with a newline behind it."""
    try:
        client = SOLLOLClient(bench.inventory, home=bench.home.root)
        with closing(client):
            return f"{client.list_jobs()}{client.snapshot()}{client.events(job)}"
    except SollolError as error:
        return f"{error}\n"
