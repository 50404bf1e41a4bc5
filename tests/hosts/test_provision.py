"""Provisioning a local host with a payload that needs psutil only."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from sollol_tui.hosts.build import build_error, install_options
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.provision import Step, StepState, provision
from sollol_tui.hosts.ssh import connect
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.inventory import Host, Packages, TorchBackend
from tests.payloads import stub_payload

LOCK = "torch==2.13.0\npsutil==7.2.2\n"


@pytest.fixture(autouse=True)
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = stub_payload(tmp_path / "stub")
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(folder))
    return folder


async def provisioned(
    host: Host, *, recreate: bool = False, cache: str = ""
) -> tuple[Environment, list[Step]]:
    steps: list[Step] = []
    async with connect(host, []) as connection:
        facts = await gather_facts(connection)
        environment = await provision(
            connection,
            facts,
            Packages(),
            accelerator="cpu",
            env={"UV_CACHE_DIR": cache or os.environ["UV_CACHE_DIR"]},
            report=steps.append,
            recreate=recreate,
        )
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
    assert "uv" in done(steps)
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
