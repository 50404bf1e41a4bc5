"""Which wheels of a wheelhouse a host needs."""

from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.wheelhouse import MissingWheelsError, Wheelhouse, send_wheels
from sollol_tui.model.errors import InputError
from sollol_tui.model.facts import HostFacts
from tests.model.test_torch_build import host

LOCK = """# a comment
torch==2.13.0
numpy==2.4.6 ; python_full_version < '3.12'
numpy==2.5.5 ; python_full_version >= '3.12'
torchft==0.2.0 ; platform_machine == 'x86_64' and sys_platform == 'linux'
colorama==0.4.6 ; sys_platform == 'win32'
rich==15.0.0
"""
X86 = "manylinux_2_28_x86_64"
FILES = (
    f"torch-2.13.0+cpu-cp311-cp311-{X86}.whl",
    f"torch-2.13.0+cu130-cp311-cp311-{X86}.whl",
    f"torch-2.13.0+cu126-cp311-cp311-{X86}.whl",
    f"torch-2.13.0+rocm7.2-cp311-cp311-{X86}.whl",
    f"numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.{X86}.whl",
    f"numpy-2.5.5-cp312-cp312-{X86}.whl",
    "numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl",
    "numpy-2.4.6-cp311-cp311-musllinux_1_2_x86_64.whl",
    f"torchft-0.2.0-cp311-abi3-{X86}.whl",
    "rich-14.0.0-py3-none-any.whl",
    "rich-15.0.0-py3-none-any.whl",
    f"nvidia_cublas-13.1-py3-none-{X86}.whl",
    f"uv-0.13.9-py3-none-{X86}.whl",
    "uv-0.13.9-py3-none-musllinux_1_1_aarch64.whl",
    "notes.whl",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).write_text(name)
    return tmp_path


def chosen(folder: Path, facts: HostFacts, python: str, build: str) -> set[str]:
    wheels = Wheelhouse.read(str(folder)).chosen("w1", facts, python, build, LOCK)
    return {wheel.path.name for wheel in wheels}


def test_a_host_gets_what_the_lock_names_for_its_machine_and_nothing_else(folder: Path) -> None:
    assert chosen(folder, host(), "3.11", "cpu") == {
        f"torch-2.13.0+cpu-cp311-cp311-{X86}.whl",
        f"numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.{X86}.whl",
        f"torchft-0.2.0-cp311-abi3-{X86}.whl",
        "rich-15.0.0-py3-none-any.whl",
    }


@pytest.mark.parametrize("build", ["cu126", "cu130", "rocm7.2"])
def test_of_several_builds_of_torch_only_the_one_that_fits_is_sent(
    folder: Path, build: str
) -> None:
    names = chosen(folder, host(), "3.11", build)
    assert [name for name in names if name.startswith("torch-")] == [
        f"torch-2.13.0+{build}-cp311-cp311-{X86}.whl"
    ]
    assert f"nvidia_cublas-13.1-py3-none-{X86}.whl" in names


def test_wheels_that_are_not_there_are_named_before_anything_is_sent(folder: Path) -> None:
    with pytest.raises(MissingWheelsError, match=r"lacks torch 2.13.0 for Python 3.12"):
        chosen(folder, host(), "3.12", "cpu")
    with pytest.raises(MissingWheelsError, match=r"torch 2.13.0 for Python 3.11 on aarch64"):
        chosen(folder, host(arch="aarch64"), "3.11", "cpu")
    with pytest.raises(MissingWheelsError, match=r"numpy 2\.4\.6"):
        chosen(folder, replace(host(arch="armv7l"), libc="musl"), "3.11", "cpu")


def test_a_uv_for_another_machine_is_found(folder: Path) -> None:
    wheelhouse = Wheelhouse.read(str(folder))
    there = wheelhouse.uv(replace(host(arch="aarch64"), libc="musl"))
    assert there is not None
    assert there.path.name == "uv-0.13.9-py3-none-musllinux_1_1_aarch64.whl"
    assert wheelhouse.uv(host(arch="riscv64")) is None


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_wheelhouse_without_wheels_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"packages\.wheelhouse names a folder"):
        Wheelhouse.read(str(tmp_path / name))


async def test_wheels_travel_once_by_content(
    folder: Path, local: HostConnection, tmp_path: Path
) -> None:
    wheels = Wheelhouse.read(str(folder)).chosen("w1", host(), "3.11", "cpu", LOCK)
    workdir, seen = str(tmp_path / "workdir"), []
    folders = await send_wheels(
        local, workdir, wheels, (), lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] == sum(wheel.size for wheel in wheels)
    sent = {Path(place, wheel.path.name) for place, wheel in zip(folders, wheels, strict=True)}
    assert all(path.read_text() == path.name for path in sent)
    seen.clear()
    there = [wheel.place for wheel in wheels]
    assert await send_wheels(local, workdir, wheels, there, lambda *a: seen.append(a)) == folders
    assert seen == []
