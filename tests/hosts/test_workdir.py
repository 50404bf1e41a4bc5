"""Which folders may be a workdir, what is done to them, and what is never touched."""

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.provision import provision
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.steps import Site, Step, StepState
from sollol_tui.hosts.transfer import file_sha256, send_file
from sollol_tui.hosts.workdir import look_into, make_private, objection
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.folder import Folder
from sollol_tui.model.inventory import Host, Packages


async def looked(host: Host) -> Folder:
    async with connect(host, []) as connection:
        return (await look_into(connection, await gather_facts(connection))).folder


async def provisioned(host: Host) -> list[Step]:
    """Its steps; the environment is never reached, because nothing can be built from this index."""
    steps: list[Step] = []
    packages = Packages(index_url="file:///nowhere")
    async with connect(host, []) as connection:
        facts = await gather_facts(connection)
        site = await Site.read(connection, facts, packages, accelerator="cpu", env={})
        with pytest.raises(UnsuitableError) as refused:
            await provision(site, report=steps.append)
    if "cannot be its workdir" in str(refused.value):
        raise refused.value
    return steps


def mode_of(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.parametrize(
    ("mode", "why"), [(0o1777, "that all share"), (0o755, "files that are not sollol's")]
)
async def test_a_folder_with_somebodys_files_is_refused_and_keeps_its_mode(
    local_host: Host, mode: int, why: str
) -> None:
    folder = Path(local_host.workdir)
    folder.mkdir()
    folder.chmod(mode)
    (folder / "notes").write_text("mine")
    with pytest.raises(UnsuitableError, match=f"cannot be its workdir: .*{why}") as refused:
        await provisioned(local_host)
    assert f"{folder}/sollol" in refused.value.remedy
    assert mode_of(folder) == mode
    assert [path.name for path in folder.iterdir()] == ["notes"]


async def test_a_folder_that_provisioning_filled_before_is_only_closed_to_others(
    local_host: Host,
) -> None:
    folder = Path(local_host.workdir)
    (folder / "payload").mkdir(parents=True)
    (folder / "notes").write_text("mine")
    found = await looked(local_host)
    assert (found.is_ours, found.is_private, objection(found)) == (True, False, None)


async def test_an_empty_folder_may_become_the_workdir(local_host: Host) -> None:
    Path(local_host.workdir, "lost+found").mkdir(parents=True)
    found = await looked(local_host)
    assert (found.is_ours, found.is_empty, objection(found)) == (False, True, None)


@pytest.mark.parametrize("place", ["/", "/tmp", "/opt/", "/home", "/usr/local", "//srv"])
def test_a_folder_of_the_system_is_never_a_workdir(place: str) -> None:
    against = objection(Folder(path=place, parent=place, mode="755", owner="root", user="root"))
    assert against is not None
    assert "one of the system's folders" in against.reason


async def test_the_home_is_never_a_workdir(local_host: Host, isolated_home: Path) -> None:
    against = objection(await looked(replace(local_host, workdir="~")))
    assert against is not None
    assert "the account's home" in against.reason


async def test_a_folder_below_a_file_is_refused_in_a_sentence(
    local_host: Host, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below" / "it"):
        with pytest.raises(UnsuitableError, match=f"{file} is no folder"):
            await provisioned(replace(local_host, workdir=str(place)))
    async with connect(local_host, []) as connection:
        with pytest.raises(UnsuitableError, match=r"cannot be made: .*ot a directory") as refused:
            await make_private(connection, f"{file}/below")
    assert "umask" not in str(refused.value)


async def test_the_disk_of_a_workdir_that_is_not_there_yet_is_looked_at(local_host: Host) -> None:
    found = await looked(local_host)
    assert (found.exists, bool(found.filesystem)) == (False, True)
    against = objection(replace(found, options=("rw", "noexec")))
    assert against is not None
    assert "noexec" in against.reason


async def test_a_workdir_below_a_setgid_folder_settles(local_host: Host) -> None:
    parent = Path(local_host.workdir).parent
    parent.chmod(0o2755)
    steps = await provisioned(local_host)
    assert Step(name="workdir", state=StepState.DONE, detail=local_host.workdir) in steps
    assert mode_of(Path(local_host.workdir)) == 0o2700, "else this test is about nothing"
    steps = await provisioned(local_host)
    assert Step(name="workdir", state=StepState.UNCHANGED, detail=local_host.workdir) in steps


SAYS_NO = """#!/bin/sh
case $LC_ALL in C) no='Permission denied' ;; *) no='Keine Berechtigung' ;; esac
echo "$0: $no" >&2; exit 1
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for tools that speak the language of the account, which is German."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def forbid(tool: Path) -> None:
    tool.write_text(SAYS_NO)
    tool.chmod(0o700)


@pytest.mark.parametrize("tool", ["mkdir", "tar"])
async def test_complaints_are_understood_whatever_language_the_account_speaks(
    local_host: Host, foreign: Path, tool: str
) -> None:
    forbid(foreign / tool)
    async with connect(local_host, []) as connection:
        facts = await gather_facts(connection)
        site = await Site.read(connection, facts, Packages(), accelerator="cpu", env={})
        with pytest.raises(UnsuitableError, match="cannot be used by this account"):
            await provision(site, report=[].append)


async def test_a_transfer_is_understood_whatever_language_the_account_speaks(
    local_host: Host, foreign: Path, tmp_path: Path
) -> None:
    forbid(foreign / "mkdir")
    (source := tmp_path / "source").write_bytes(b"x")
    async with connect(local_host, []) as connection:
        with pytest.raises(UnsuitableError, match="cannot be used by this account"):
            await send_file(connection, source, f"{tmp_path}/new/target", file_sha256(source))


async def test_a_workdir_made_by_another_provisioning_meanwhile_is_no_obstacle(
    local_host: Host, foreign: Path
) -> None:
    workdir = Path(local_host.workdir)
    df = shutil.which("df")
    (foreign / "df").write_text(f'#!/bin/sh\n{df} "$@"; exec mkdir -p {workdir}/payload\n')
    (foreign / "df").chmod(0o700)
    async with connect(local_host, []) as connection:
        facts = await gather_facts(connection)
        shutil.rmtree(workdir)
        folder = (await look_into(connection, facts)).folder
    assert workdir.is_dir(), "else this test is about nothing"
    assert objection(folder) is None


def test_a_folder_of_another_account_is_named_and_quoted() -> None:
    folder = Folder(
        path="/data/my dir",
        parent="/data/my dir",
        mode="700",
        owner="eve",
        user="bob",
        is_ours=True,
    )
    against = objection(folder)
    assert against is not None
    assert "belongs to eve" in against.reason
    assert "sudo chown -R bob: '/data/my dir'" in against.remedy
