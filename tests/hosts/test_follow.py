"""A run's files are copied byte for byte through cuts, by the real stream program."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sollol_tui.hosts.commands import last_answer
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.follow import follow
from sollol_tui.hosts.payload import payload_hash, payload_root, payload_tar
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.errors import CommandError, UnreachableError


@pytest.fixture
def environment() -> Environment:
    root = str(payload_root())
    return Environment(python=sys.executable, payload=root, env_id="e", payload_hash="p")


def false_stream(folder: Path, frames: bytes) -> Environment:
    """A payload whose stream says what a hostile worker might say."""
    package = folder / "payload" / "remote"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "frames").write_bytes(frames)
    (package / "stream.py").write_text(
        "import pathlib, sys\n"
        "sys.stdin.readline()\n"
        "sys.stdout.buffer.write(pathlib.Path(__file__).with_name('frames').read_bytes())\n"
    )
    return Environment(
        python=sys.executable, payload=str(package.parent), env_id="e", payload_hash="p"
    )


async def until(
    connection: HostConnection,
    environment: Environment,
    run_dir: Path,
    copies: Path,
    enough: Callable[[], bool],
) -> None:
    """Follows until `enough` is true after something arrived, then cuts the stream."""
    async with asyncio.timeout(20):
        arrived = asyncio.Event()

        def on_data(file: str, path: Path) -> None:
            if enough():
                arrived.set()

        following = asyncio.create_task(
            follow(
                connection,
                environment,
                str(run_dir),
                copies,
                on_beat=lambda alive, stopped: None,
                on_data=on_data,
            )
        )
        await asyncio.wait(
            [following, waiting := asyncio.create_task(arrived.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        following.cancel()
        await asyncio.gather(following, waiting, return_exceptions=True)
        assert arrived.is_set()


async def test_cuts_leave_no_gap_and_no_repeat(
    local: HostConnection, environment: Environment, tmp_path: Path
) -> None:
    run_dir, copies = tmp_path / "run", tmp_path / "copies"
    run_dir.mkdir()
    log, copy = run_dir / "log.0.1", copies / "log.0.1"
    for number in range(4):
        with log.open("ab") as file:
            file.write(bytes([number, 255, 10, 13]) * 50_000)
        wanted = (number + 1) * 200_000 - (50_000 if number < 3 else 0)
        await until(
            local, environment, run_dir, copies, lambda size=wanted: copy.stat().st_size >= size
        )
    assert copy.read_bytes() == log.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


async def run_false(local: HostConnection, tmp_path: Path, frames: bytes) -> list[str]:
    taken: list[str] = []
    async with asyncio.timeout(20):
        await follow(
            local,
            false_stream(tmp_path, frames),
            "run",
            tmp_path / "copies",
            on_beat=lambda alive, stopped: None,
            on_data=lambda file, path: taken.append(file),
        )
    return taken


async def test_a_file_name_that_is_not_a_runs_is_dropped(
    local: HostConnection, tmp_path: Path
) -> None:
    bad = b"".join(
        b'{"v":1,"file":"%s","offset":0,"size":2}\nxy' % name
        for name in (b"../log.0.1", b"log.0.1/x", b"run.json", b"/etc/x", b"log.0.1.jsonl")
    )
    taken = await run_false(
        local, tmp_path, bad + b'{"v":1,"file":"log.0.1","offset":0,"size":2}\nok'
    )
    assert taken == ["log.0.1"]
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["log.0.1"]
    assert (tmp_path / "copies" / "log.0.1").read_bytes() == b"ok"


@pytest.mark.parametrize(
    "frames",
    [
        b"nonsense\n",
        b"[" * 3000 + b"\n",
        b"x" * 100_000,
        b'{"v":2}\n',
        b'{"v":1,"file":"log.0.1","offset":7,"size":2}\nxy',
        b'{"v":1,"file":"log.0.1","offset":0,"size":-1}\n',
        b'{"v":1,"file":"log.0.1","offset":0,"size":99999999999}\n',
        b'{"v":1,"file":"log.0.1","offset":0}\n',
    ],
)
async def test_a_frame_that_makes_no_sense_ends_the_stream(
    local: HostConnection, tmp_path: Path, frames: bytes
) -> None:
    with pytest.raises(CommandError):
        await run_false(local, tmp_path, frames)


async def test_a_frame_that_breaks_off_is_a_lost_stream(
    local: HostConnection, tmp_path: Path
) -> None:
    with pytest.raises(UnreachableError, match="broke off"):
        await run_false(local, tmp_path, b'{"v":1,"file":"log.0.1","offset":0,"size":9}\nxy')


def test_an_answer_is_the_last_line_of_our_version() -> None:
    assert last_answer(b'{"v":1,"a":1}\nwarning\n{"v":1,"a":2}\n{"v":9}\nnull\n') == {
        "v": 1,
        "a": 2,
    }
    assert last_answer(b"Traceback\n") is None


def test_the_payload_hashes_what_travels_and_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "remote"
    (package / "__pycache__").mkdir(parents=True)
    (package / "a.py").write_text("1")
    before = payload_hash(tmp_path), payload_tar(tmp_path)
    (package / "__pycache__" / "a.py").write_text("2")
    (package / "notes.md").write_text("3")
    assert (payload_hash(tmp_path), payload_tar(tmp_path)) == before
    (package / "b.py").write_text("")
    assert payload_hash(tmp_path) != before[0]
