"""Provisioning real OpenSSH hosts that reach nothing but the coordinator: no index, no cache."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.preview import preview
from sollol_tui.hosts.provision import Step, StepState, provision
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.steps import Site
from sollol_tui.hosts.uv import NO_UV, Uv, fetch_python, find_uv
from sollol_tui.hosts.wheelhouse import Wheelhouse
from sollol_tui.model.errors import HostError, UnsuitableError
from sollol_tui.model.facts import Python
from sollol_tui.model.inventory import Host, Packages
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.jobs.bench import until as wait_until
from tests.payloads import stub_payload
from tests.wheels import write_uv_wheel, write_wheel

DEADLINE_S = 60.0
SELFCHECK = """import alpha, json
print(json.dumps({"v": 1, "torch": "none", "accelerator": "cpu"}))
"""


@pytest.fixture(autouse=True)
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A payload that needs one small package, which no index has."""
    folder = stub_payload(tmp_path / "stub")
    (folder / "remote" / "worker.in").write_text("alpha\n")
    (folder / "remote" / "worker.lock").write_text("alpha==1.0\n")
    (folder / "remote" / "selfcheck.py").write_text(SELFCHECK)
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(folder))
    return folder


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    """A wheelhouse on the coordinator with that package."""
    alpha = {"alpha/__init__.py": b"name = 'alpha'\n"}
    write_wheel(tmp_path / "wheels", "alpha", "1.0", "py3-none-any", alpha)
    write_wheel(tmp_path / "wheels", "beta", "1.0", "py3-none-any", {})
    return Packages(wheelhouse=str(tmp_path / "wheels"))


@asynccontextmanager
async def reached(lab: Lab, workdir: str = "~/.sollol") -> AsyncIterator[HostConnection]:
    machine, known_hosts = lab.hosts[0], lab.folder / "known_hosts"
    known_hosts.write_text(lab.known_hosts_text())
    host = Host(
        name=machine.name,
        address=machine.address,
        user="root",
        identity_file=str(lab.identity),
        workdir=workdir,
    )
    async with connect(host, [known_hosts]) as connection:
        yield connection


async def provisioned(
    connection: HostConnection,
    packages: Packages,
    env: dict[str, str] | None = None,
    said: list[Step] | None = None,
    *,
    recreate: bool = False,
) -> Environment:
    facts = await gather_facts(connection)
    site = await Site.read(connection, facts, packages, accelerator="cpu", env=env or {})
    return await provision(
        site, report=[].append if said is None else said.append, recreate=recreate
    )


def done(steps: list[Step]) -> list[str]:
    return [step.name for step in steps if step.state is StepState.DONE]


def workdir(lab: Lab) -> Path:
    return lab.hosts[0].home / ".sollol"


def halves(folder: Path) -> list[str]:
    return [path.name for path in (folder / "envs").glob("*") if path.suffix in (".part", ".log")]


async def until(claim: Callable[[], object], what: str) -> None:
    await asyncio.wait_for(asyncio.to_thread(wait_until, claim, what, DEADLINE_S), 2 * DEADLINE_S)


@contextmanager
def gate(machine: Machine) -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """What to give a build's uv to read, which is not there before somebody opens the gate."""
    pipe = machine.folder / "tmp" / "gate"
    os.mkfifo(pipe)
    try:
        yield {"UV_OVERRIDE": "/tmp/gate"}, lambda: os.close(os.open(pipe, os.O_RDWR))
    finally:
        pipe.unlink()


def is_building(lab: Lab) -> bool:
    """Whether uv waits at the gate there."""
    return any("uv pip install" in process.command for process in lab.hosts[0].processes())


async def test_a_dry_run_touches_nothing_and_says_how_much_would_be_sent(
    lab: Lab, packages: Packages
) -> None:
    before = sorted(lab.hosts[0].home.rglob("*"))
    said: list[Step] = []
    async with reached(lab) as connection:
        facts = await gather_facts(connection)
        site = await Site.read(connection, facts, packages, accelerator="cpu", env={})
        assert await preview(site, report=said.append)
    would = {step.name: step.detail for step in said if step.state is StepState.WOULD}
    assert list(would) == ["workdir", "payload", "uv", "wheels", "environment", "selfcheck"]
    assert would["uv"].startswith("send ours, ")
    assert would["wheels"].startswith("send 1 of 1, ")
    assert sorted(lab.hosts[0].home.rglob("*")) == before


async def test_a_host_without_a_way_out_is_provisioned_from_the_wheelhouse_once(
    lab: Lab, packages: Packages
) -> None:
    said: list[Step] = []
    async with reached(lab) as connection:
        first = await provisioned(connection, packages, said=said)
        assert done(said) == ["workdir", "payload", "uv", "wheels", "environment", "selfcheck"]
        found = await connection.run(
            f"{first.python} -P -c 'import alpha; print(alpha.name)'", timeout_s=20
        )
        assert found.stdout == b"alpha\n"
        sent = [path.name for path in workdir(lab).glob("wheels/*/*")]
        assert sent == ["alpha-1.0-py3-none-any.whl"]
        said.clear()
        again = await provisioned(connection, packages, said=said)
        assert (again.changed, done(said)) == (False, [])
        said.clear()
        await provisioned(connection, packages, said=said, recreate=True)
        assert done(said) == ["environment", "selfcheck"]
    assert halves(workdir(lab)) == []


async def test_of_two_coordinators_one_builds_and_the_other_says_who_it_waits_for(
    lab: Lab, packages: Packages
) -> None:
    said: list[Step] = []
    async with reached(lab) as one, reached(lab) as two:
        with gate(lab.hosts[0]) as (env, opened):
            first = asyncio.create_task(provisioned(one, packages, env))
            await until(lambda: is_building(lab), "the first builds")
            second = asyncio.create_task(provisioned(two, packages, said=said))
            await until(lambda: any("waiting" in step.detail for step in said), "the second waits")
            opened()
            built, found = await first, await second
    assert built.env_id == found.env_id
    assert "environment" not in done(said)
    told = next(step.detail for step in said if "waiting" in step.detail)
    assert "has been building the same environment" in told
    assert halves(workdir(lab)) == []


async def test_a_build_outlives_its_coordinator_and_the_next_run_takes_it_up(
    lab: Lab, packages: Packages
) -> None:
    said: list[Step] = []
    with gate(lab.hosts[0]) as (env, opened):
        async with reached(lab) as connection:
            begun = asyncio.create_task(provisioned(connection, packages, env))
            await until(lambda: is_building(lab), "it builds")
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)
        assert is_building(lab)
        assert list(workdir(lab).glob("envs/*/.complete")) == []
        async with reached(lab) as connection:
            next_run = asyncio.create_task(provisioned(connection, packages, said=said))
            await until(lambda: any("waiting" in step.detail for step in said), "it waits")
            opened()
            assert (await next_run).env_id
    assert "environment" not in done(said)
    assert halves(workdir(lab)) == []


async def test_what_a_killed_build_left_is_never_taken_for_whole(
    lab: Lab, packages: Packages
) -> None:
    said: list[Step] = []
    with gate(lab.hosts[0]) as (env, _):
        async with reached(lab) as connection:
            begun = asyncio.create_task(provisioned(connection, packages, env))
            await until(lambda: is_building(lab), "it builds")
            lab.hosts[0].kill_leftovers()
            with pytest.raises(HostError, match="connection was lost"):
                await begun
    assert {Path(name).suffix for name in halves(workdir(lab))} == {".part", ".log"}
    async with reached(lab) as connection:
        assert (await provisioned(connection, packages, said=said)).changed
    assert "environment" in done(said)
    assert halves(workdir(lab)) == []


async def test_an_environment_in_use_is_not_built_anew(lab: Lab, packages: Packages) -> None:
    async with reached(lab) as connection:
        environment = await provisioned(connection, packages)
        user = await connection.open(
            f"exec {environment.python} -c 'import sys; print(1, flush=True); sys.stdin.read()'"
        )
        await user.readline()
        with pytest.raises(UnsuitableError, match=r"in use by process \d+"):
            await provisioned(connection, packages, recreate=True)
        await user.write_eof()
        await user.wait()
        await user.close()
        assert (await provisioned(connection, packages, recreate=True)).changed


@asynccontextmanager
async def mounted(machine: Machine, options: str) -> AsyncIterator[str]:
    machine.run(["mkdir", "-p", "/mnt/disk"])
    machine.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", "/mnt/disk"])
    try:
        yield "/mnt/disk/sollol"
    finally:
        machine.run(["umount", "--lazy", "/mnt/disk"])


async def test_a_full_disk_is_a_sentence_and_nothing_half_is_left(lab: Lab, tmp_path: Path) -> None:
    machine = lab.hosts[0]
    links = machine.folder / "tmp" / "links"
    write_wheel(links, "alpha", "1.0", "py3-none-any", {"alpha/data": bytes(40 << 20)})
    env = {"UV_CACHE_DIR": "/tmp/cache", "UV_OFFLINE": "1", "UV_LINK_MODE": "copy"}
    async with mounted(machine, "size=60m") as place, reached(lab, place) as connection:
        with pytest.raises(UnsuitableError, match=f"no space left for the environment in {place}"):
            await provisioned(connection, Packages(find_links="/tmp/links"), env)
        left = machine.run(["find", f"{place}/envs", "-mindepth", "1"]).stdout.split()
        assert [Path(path).suffix for path in left] == [".lock"]
    shutil.rmtree(links)
    async with mounted(machine, "size=20m") as place, reached(lab, place) as connection:
        with pytest.raises(HostError, match=r"no (space left|room) "):
            await provisioned(connection, Packages())


async def test_a_read_only_disk_is_a_sentence(lab: Lab) -> None:
    async with mounted(lab.hosts[0], "ro") as place, reached(lab, place) as connection:
        with pytest.raises(UnsuitableError, match="on a disk that is read-only"):
            await provisioned(connection, Packages())


async def found_uv(
    connection: HostConnection, packages: Packages, env: dict[str, str], python: str = ""
) -> Uv:
    """As on a host for which ours is not made, and which has none."""
    facts = replace(await gather_facts(connection), libc="musl", uv="")
    if python:
        facts = replace(facts, pythons=(Python(path=python, version="3.11"),))
    wheelhouse = Wheelhouse.read(packages.wheelhouse) if packages.wheelhouse else None
    return await find_uv(
        connection, facts, packages, wheelhouse, there=NO_UV, env=env, say=lambda detail: None
    )


async def test_where_ours_does_not_fit_uv_comes_from_the_wheelhouse(
    lab: Lab, packages: Packages
) -> None:
    assert packages.wheelhouse is not None
    async with reached(lab) as connection:
        with pytest.raises(UnsuitableError, match="the wheelhouse has none that fits"):
            await found_uv(connection, packages, {})
        write_uv_wheel(Path(packages.wheelhouse), "py3-none-musllinux_1_1_x86_64")
        found = await found_uv(connection, packages, {})
    assert found.detail.startswith("uv 0.")
    assert (workdir(lab) / "bin" / "uv").stat().st_mode & 0o777 == 0o700


async def test_where_there_is_none_uv_comes_by_pip(lab: Lab) -> None:
    links = lab.hosts[0].folder / "tmp" / "links"
    async with reached(lab) as connection:
        with pytest.raises(UnsuitableError, match=r"/nowhere/python3 -m venv: ") as refusal:
            await found_uv(connection, Packages(), {}, python="/nowhere/python3")
        assert "ours is for Linux" in str(refusal.value)
        assert "it has none of its own" in str(refusal.value)
        assert list((workdir(lab) / "bin").iterdir()) == []
        write_uv_wheel(links, "py3-none-any")
        found = await found_uv(connection, Packages(find_links="/tmp/links"), {"PIP_NO_INDEX": "1"})
        shutil.rmtree(links)
        assert found.detail.endswith("by pip")
        assert [path.name for path in (workdir(lab) / "bin").iterdir()] == ["uv"]
        done = await connection.run(f"{found.path} --version", timeout_s=20)
    assert done.stdout.startswith(b"uv ")


async def test_a_python_that_no_mirror_has_is_a_sentence(lab: Lab, packages: Packages) -> None:
    async with reached(lab) as connection:
        facts = await gather_facts(connection)
        found = await find_uv(
            connection, facts, packages, None, there=NO_UV, env={}, say=lambda detail: None
        )
        empty = Packages(python_mirror="file:///tmp/no-mirror")
        with pytest.raises(UnsuitableError, match=r"from packages\.python_mirror failed: ") as no:
            await fetch_python(connection, facts, empty, found.path, {})
    assert "no-mirror" in str(no.value)
