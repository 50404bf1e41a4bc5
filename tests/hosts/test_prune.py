"""What `provision --prune` removes, and what it leaves alone."""

import asyncio
import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.prune import Pruned, prune
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.steps import Site
from sollol_tui.model.inventory import Packages

OLD_S = time.time() - 7200


@pytest.fixture
async def site(local: HostConnection) -> Site:
    facts = await gather_facts(local)
    return await Site.read(local, facts, Packages(), accelerator="cpu", env={})


async def pruned(site: Site, *, dry_run: bool = False) -> Pruned:
    return await prune(site, dry_run=dry_run)


def put(site: Site, place: str, text: str = "x" * 9000, *, age: float = OLD_S) -> Path:
    """A folder with a file in it, changed long ago."""
    folder = Path(site.workdir, place)
    folder.mkdir(parents=True)
    (folder / ".complete").write_text(text)
    os.utime(folder, (age, age))
    return folder


def names(site: Site, pruned: Pruned) -> list[str]:
    return [removal.name for removal in pruned.removed]


async def test_what_nobody_needs_goes_and_the_rest_stays(site: Site) -> None:
    current = put(site, f"envs/{next(iter(site.candidates))}")
    payload = put(site, f"payload/{site.payload_hash}")
    old, older, wheel = put(site, "envs/0ld"), put(site, "payload/01der"), put(site, "wheels/abc")
    dataset, model = put(site, "datasets/d"), put(site, "models/m")
    Path(f"{old}.lock").touch()
    foreseen = await pruned(site, dry_run=True)
    assert old.exists()
    done = await pruned(site)
    assert foreseen == done
    assert names(site, done) == ["environment 0ld", "payload 01der", "wheels/abc"]
    assert all(removal.size_bytes >= removal.freed_bytes == 9000 for removal in done.removed)
    assert not any(path.exists() for path in (old, older, wheel, Path(f"{old}.lock")))
    assert all(path.exists() for path in (current, payload, dataset, model))
    assert await pruned(site) == Pruned(removed=(), kept=())


async def test_what_a_teacher_said_goes_unless_a_run_may_use_it_or_it_is_new(site: Site) -> None:
    long_ago = time.time() - 90_000
    scores = [put(site, f"scores/{name}", age=age) for name, age in (("a", long_ago), ("b", OLD_S))]
    answers = Path(put(site, "answers"), "c.jsonl")
    answers.write_text("{}")
    os.utime(answers, (long_ago, long_ago))
    run = put(site, "runs/j-1/w1")
    (run / "run.json").write_text('{"distill": {}}')
    student = await asyncio.create_subprocess_exec("sleep", "600", env={"SOLLOL_RUN": str(run)})
    try:
        assert "scores/a: runs/j-1/w1 may use it" in (await pruned(site)).kept
    finally:
        student.kill()
        await student.wait()
    done = await pruned(site)
    assert names(site, done) == ["scores/a", "answers/c.jsonl"]
    assert done.kept == ("scores/b: it was changed within the last day",)
    assert [path.exists() for path in (*scores, answers)] == [False, True, False]


async def test_files_that_the_cache_has_too_free_nothing(site: Site, tmp_path: Path) -> None:
    old = put(site, "envs/0ld")
    (tmp_path / "cached").hardlink_to(old / ".complete")
    assert (await pruned(site)).removed[0].freed_bytes == 0


async def test_what_a_run_directory_names_stays(site: Site) -> None:
    env, payload = put(site, "envs/0ld"), put(site, "payload/01der")
    run = put(site, "runs/j-1/w1")
    said = {"python": f"{env}/bin/python", "payload": str(payload)}
    (run / "run.json").write_text(json.dumps(said))
    done = await pruned(site)
    assert done.removed == ()
    assert set(done.kept) == {
        "environment 0ld: runs/j-1/w1 uses it",
        "payload 01der: runs/j-1/w1 uses it",
    }


async def test_what_a_living_process_uses_stays(site: Site) -> None:
    env, payload = put(site, "envs/0ld"), put(site, "payload/01der")
    python = env / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to("/bin/sleep")
    os.utime(env, (OLD_S, OLD_S))
    process = await asyncio.create_subprocess_exec(python, "600", env={"PYTHONPATH": str(payload)})
    try:
        done = await pruned(site)
    finally:
        process.kill()
        await process.wait()
    assert done.removed == ()
    assert f"environment 0ld: process {process.pid} uses it" in done.kept
    assert f"payload 01der: process {process.pid} uses it" in done.kept
    assert len((await pruned(site)).removed) == 2


async def test_what_was_made_a_moment_ago_stays(site: Site) -> None:
    put(site, "envs/new", age=time.time())
    done = await pruned(site)
    assert done.kept == ("environment new: it was changed within the last hour",)


async def test_halves_of_killed_builds_go_but_not_those_of_a_living_one(site: Site) -> None:
    env = put(site, "envs/abc.part").with_suffix("")
    log, lock = Path(f"{env}.log"), Path(f"{env}.lock")
    log.write_text("downloading")
    lock.write_text("123 456\n")
    put(site, "wheels/abc")
    held = os.open(lock, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    done = await pruned(site)
    assert (done.removed, done.kept) == ((), ("half build abc: a build is going on",))
    os.close(held)
    done = await pruned(site)
    assert names(site, done) == ["half build abc", "wheels/abc"]
    assert list(env.parent.iterdir()) == []


async def test_a_lock_whose_holder_died_is_no_half_of_a_whole_environment(site: Site) -> None:
    env = put(site, f"envs/{next(iter(site.candidates))}")
    lock = Path(f"{env}.lock")
    lock.write_text("123 456\n")
    assert await pruned(site, dry_run=True) == Pruned(removed=(), kept=())
    assert lock.read_text() == "123 456\n"
    assert await pruned(site) == Pruned(removed=(), kept=())
    assert lock.read_text() == ""


DAYS_AGO_S = time.time() - 2 * 86400


def put_half(site: Site, place: str, *, touched: float = DAYS_AGO_S) -> Path:
    """A folder that somebody began to fill."""
    half = put(site, place, age=touched)
    os.utime(half / ".complete", (touched, touched))
    os.utime(half, (touched, touched))
    return half


async def test_halves_that_nobody_went_on_with_for_a_day_go(site: Site) -> None:
    model, tokens = put_half(site, "models/m1.part"), put_half(site, "tokens/t1.work")
    dataset = Path(site.workdir, "datasets", "d1", "data.jsonl.part")
    dataset.parent.mkdir(parents=True)
    for file in (dataset, Path(f"{dataset}.lock"), Path(f"{model}.lock")):
        file.write_text("x")
        os.utime(file, (DAYS_AGO_S, DAYS_AGO_S))
    lock = tokens.with_suffix(".lock")
    lock.touch()
    put_half(site, "models/whole")
    put_half(site, "tokens/whole")
    fresh = put_half(site, "models/m2.part")
    (fresh / "new").write_text("came a moment ago")
    os.utime(fresh, (DAYS_AGO_S, DAYS_AGO_S))
    foreseen = await pruned(site, dry_run=True)
    done = await pruned(site)
    assert foreseen == done
    assert names(site, done) == [
        "half of models/m1",
        "half of datasets/d1/data.jsonl",
        "half of tokens/t1",
    ]
    left = {str(path.relative_to(site.workdir)) for path in Path(site.workdir).glob("*/*")}
    assert left == {"models/m2.part", "models/whole", "tokens/t1.lock", "tokens/whole"}


async def test_a_half_that_somebody_completes_stays(site: Site) -> None:
    half = put_half(site, "tokens/t1.work")
    with half.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = await pruned(site)
    assert (done.removed, done.kept) == ((), ("half of tokens/t1: it is being completed",))
    assert half.exists()


async def test_a_host_without_a_workdir_is_tidy(site: Site) -> None:
    assert await pruned(site) == Pruned(removed=(), kept=())
