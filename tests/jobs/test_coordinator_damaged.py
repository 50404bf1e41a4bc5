"""What the coordinator keeps is damaged: it is told, the next best is taken, what runs goes on."""

import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.model.errors import SollolError, StateError
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until
from tests.jobs.test_pause import QUICK, pause, steps

FLIPS = 150


def flip(file: Path, place: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def rot(folder: Path) -> None:
    flip(folder / "adapter_model.safetensors", 0)


def messages(bench: Bench, job: str) -> str:
    return "\n".join(str(event.data["message"]) for event in bench.client.events(job, "notice"))


def test_instead_of_a_rotten_checkpoint_that_of_the_workers_is_taken_or_the_one_before_it(
    bench: Bench,
) -> None:
    job = bench.submit(env={**QUICK, **bench.until_released(4)}, save_steps=2)
    until(lambda: bench.view(job).step == 3, "a checkpoint and a step")
    stopped = pause(bench, job).step
    rot(bench.home.job(job) / "checkpoints" / f"checkpoint-{stopped}")
    bench.lay_out({**QUICK, **bench.until_released(8)}, {})
    bench.client.resume_job(job)
    until(lambda: bench.view(job).step == 7, "it goes on, with another checkpoint")
    assert f"checkpoint-{stopped}, kept on this machine, is damaged" in messages(bench, job)
    stopped_again = pause(bench, job).step
    assert [step for _, step in steps(bench, job, "one")] == list(range(1, stopped_again + 1))

    stopped, name = stopped_again, f"checkpoint-{stopped_again}"
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
    again = [step for generation, step in steps(bench, job, "one") if generation == 3]
    assert again == list(range(before + 1, 41)), "what was told after the damage"


def test_a_damaged_state_is_one_sentence_and_the_run_goes_on(bench: Bench) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"})
    bench.takes_steps(job)
    bench.kill_supervisor(job)
    bench.client.close()
    whole = bench.home.database.read_bytes()
    for damaged in (whole[:5000], b"", b"not a database, whatever its name says" * 400):
        bench.home.database.write_bytes(damaged)
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
