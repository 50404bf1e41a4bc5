"""Provisioning a local host with a payload that needs psutil only."""

import asyncio
import fcntl
import os
import shutil
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import pytest

from sollol_tui.hosts.build import build_error, install_options
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.provision import Step, StepState, provision
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.steps import Site
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.inventory import Host, Packages, TorchBackend
from tests.jobs.bench import until as wait_until
from tests.payloads import stub_payload

DEADLINE_S = 60.0
LOCK = "torch==2.13.0\npsutil==7.2.2\n"


@pytest.fixture(autouse=True)
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stub_payload(tmp_path / "stub")
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(folder))
    return folder


async def provisioned(
    host: Host, *, recreate: bool = False, cache: str = "", steps: list[Step] | None = None
) -> tuple[Environment, list[Step]]:
    steps = [] if steps is None else steps
    async with connect(host, []) as connection:
        facts = await gather_facts(connection)
        env = {"UV_CACHE_DIR": cache or os.environ["UV_CACHE_DIR"]}
        site = await Site.read(connection, facts, Packages(), accelerator="cpu", env=env)
        environment = await provision(site, report=steps.append, recreate=recreate)
    return environment, steps


def done(steps: list[Step]) -> list[str]:
    return [step.name for step in steps if step.state is StepState.DONE]


async def test_a_second_run_changes_nothing_and_damage_is_repaired(
    local_host: Host, tmp_path: Path
) -> None:
    workdir = tmp_path / "workdir"
    first, steps = await provisioned(local_host)
    assert first.changed
    assert done(steps) == ["workdir", "payload", "uv", "environment", "selfcheck"]
    assert first.fingerprint["v"] == 1
    assert workdir.stat().st_mode & 0o777 == 0o700

    second, steps = await provisioned(local_host)
    assert (second.changed, done(steps)) == (False, [])
    assert second.fingerprint == first.fingerprint

    planted = Path(first.payload) / "torch.py"
    planted.write_text("raise SystemExit('planted')")
    _, steps = await provisioned(local_host)
    assert "payload" in done(steps)
    assert "environment" not in done(steps)
    assert not planted.exists()

    uv = workdir / "bin" / "uv"
    sound = uv.read_bytes()
    uv.write_bytes(bytes(len(sound)))
    _, steps = await provisioned(local_host)
    assert done(steps) == ["uv"]
    assert uv.read_bytes() == sound

    uv.write_bytes(b"#!/bin/sh\n")  # another version's, as far as one can tell
    _, steps = await provisioned(local_host)
    assert done(steps) == []

    (workdir / "envs" / first.env_id / ".complete").unlink()
    shutil.rmtree(workdir / "envs" / first.env_id / "lib")
    _, steps = await provisioned(local_host)
    assert done(steps) == ["uv", "environment", "selfcheck"]
    assert uv.read_bytes() == sound


async def test_a_package_spoilt_through_the_cache_is_healed_by_recreate(
    local_host: Host, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    first, _ = await provisioned(local_host, cache=cache)
    [module] = Path(first.python).parent.parent.glob("lib/*/site-packages/psutil/__init__.py")
    assert module.stat().st_nlink > 1, "uv links from its cache: else this test is about nothing"
    sound = module.read_bytes()
    with module.open("ab") as opened:  # in place, so the cache has it too
        opened.write(b"raise ImportError('spoilt')\n")
    again, _ = await provisioned(local_host, cache=cache, recreate=True)
    [module] = Path(again.python).parent.parent.glob("lib/*/site-packages/psutil/__init__.py")
    assert module.read_bytes() == sound


async def test_of_two_provisionings_at_once_one_waits(local_host: Host) -> None:
    (one, steps_one), (two, steps_two) = await asyncio.gather(
        provisioned(local_host), provisioned(local_host)
    )
    assert one.env_id == two.env_id
    built = [steps for steps in (steps_one, steps_two) if "environment" in done(steps)]
    assert len(built) == 1


async def until(claim: Callable[[], object], what: str) -> None:
    await asyncio.wait_for(asyncio.to_thread(wait_until, claim, what, DEADLINE_S), 2 * DEADLINE_S)


async def test_an_environment_built_anew_while_another_waited_is_not_built_twice(
    local_host: Host, tmp_path: Path
) -> None:
    first, _ = await provisioned(local_host)
    env = tmp_path / "workdir" / "envs" / first.env_id
    before = env.stat().st_ino
    steps: list[Step] = []
    lock = os.open(f"{env}.lock", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = asyncio.create_task(provisioned(local_host, recreate=True, steps=steps))
    await until(lambda: any("waiting for another" in step.detail for step in steps), "a waiter")
    (env / ".new").touch()
    (env / ".new").replace(env / ".complete")
    os.close(lock)
    await waiting
    assert Step(name="environment", state=StepState.UNCHANGED, detail=first.env_id) in steps
    assert env.stat().st_ino == before


async def test_a_build_that_is_refused_leaves_its_lock_empty_and_waits_for_a_self_check_only(
    local_host: Host, tmp_path: Path
) -> None:
    first, _ = await provisioned(local_host)
    env = tmp_path / "workdir" / "envs" / first.env_id
    job = await asyncio.create_subprocess_exec(first.python, "-c", "input()", stdin=PIPE)
    try:
        with pytest.raises(UnsuitableError, match=f"in use by process {job.pid}"):
            await provisioned(local_host, recreate=True)
        assert Path(f"{env}.lock").read_text() == ""
    finally:
        job.kill()
        await job.wait()

    check = await asyncio.create_subprocess_exec(first.python, "-I", "-", stdin=PIPE)
    assert check.stdin is not None
    before, steps = env.stat().st_ino, list[Step]()
    building = asyncio.create_task(provisioned(local_host, recreate=True, steps=steps))
    await until(Path(f"{env}.lock").read_text, "the lock is taken")
    assert env.stat().st_ino == before
    check.stdin.close()
    await check.wait()
    await building
    assert "environment" in done(steps)
    assert env.stat().st_ino != before


async def test_what_cannot_be_installed_is_said_in_one_sentence(
    local_host: Host, payload: Path, tmp_path: Path
) -> None:
    (payload / "remote" / "worker.in").write_text("no-such-package-of-ours @ file:///nowhere\n")
    with pytest.raises(UnsuitableError, match="environment cannot be built: ") as refusal:
        await provisioned(local_host)
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "workdir" / "envs").glob("*.part"))


@pytest.mark.parametrize(
    ("packages", "build", "wheels", "expected"),
    [
        (Packages(), "cpu", (), ([], "torch==2.13.0+cpu", "cpu")),
        (Packages(), "cu130", (), ([], "", "cu130")),
        (Packages(), "auto", (), ([], "", "auto")),
        (
            Packages(find_links="/w"),
            "cpu",
            (),
            (["--find-links", "/w"], "torch==2.13.0+cpu", ""),
        ),
        (Packages(find_links="/w"), "cu130", (), (["--find-links", "/w"], "", "")),
        (
            Packages(find_links="/w", torch_backend=TorchBackend.CU126),
            "cu126",
            (),
            (["--find-links", "/w"], "torch==2.13.0+cu126", ""),
        ),
        (
            Packages(index_url="https://m.example/simple", torch_backend=TorchBackend.NONE),
            "",
            (),
            (["--index-url", "https://m.example/simple"], "", ""),
        ),
        (
            Packages(index_url="https://m.example/simple", wheelhouse="/here"),
            "cu130",
            ("/there/a", "/there/b"),
            (["--no-index", "--find-links", "/there/a", "--find-links", "/there/b"], "", ""),
        ),
    ],
)
def test_where_packages_come_from_and_which_torch(
    packages: Packages, build: str, wheels: tuple[str, ...], expected: tuple[list[str], str, str]
) -> None:
    found = install_options(packages, build=build, arch="x86_64", lock=LOCK, wheels=wheels)
    assert found == expected


def test_a_full_disk_is_named_as_such() -> None:
    output = b"error: Failed to write to `/x`\n  Caused by: No space left on device (os error 28)\n"
    assert "no space left for the environment in /wd" in str(build_error("w1", "/wd", output))
