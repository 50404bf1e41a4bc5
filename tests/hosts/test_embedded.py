"""The local transport behaves as a host with an sshd does."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.model.errors import CommandError
from sollol_tui.model.inventory import Host


async def gone(pid: int, deadline_s: float = 5.0) -> bool:
    """Whether the process ends before the deadline."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(deadline_s):
            return await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_a_command_runs_at_home_without_what_is_ours(
    local: HostConnection, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/ours")
    done = await local.run('pwd; echo "[$PYTHONPATH$SSH_AUTH_SOCK]"; cat', input=b"in", timeout_s=5)
    assert done.stdout == f"{isolated_home}\n[]\nin".encode()


async def test_megabytes_travel_both_ways_unchanged(local: HostConnection) -> None:
    data = os.urandom(3_000_000)
    assert (await local.run("cat", input=data, timeout_s=20)).stdout == data


async def test_a_failed_command_says_its_first_complaint(local: HostConnection) -> None:
    with pytest.raises(CommandError, match=r"no \[31msuch|no such thing"):
        await local.run("echo 'no such thing' >&2; echo more >&2; exit 3", timeout_s=5)
    done = await local.run("exit 3", timeout_s=5, check=False)
    assert done.exit_status == 3


async def test_a_command_that_takes_too_long_is_ended_and_the_limit_named(
    local: HostConnection, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    with pytest.raises(CommandError, match=r"within 0.3 s"):
        await local.run(f"echo $$ >{file}; exec sleep 60", timeout_s=0.3)
    assert await gone(int(file.read_text()))


async def test_a_command_that_ignores_its_input_is_no_failure(local: HostConnection) -> None:
    assert (await local.run("true", input=bytes(5_000_000), timeout_s=20)).exit_status == 0


async def test_a_daemon_outlives_the_connection_and_the_rest_does_not(
    local_host: Host, tmp_path: Path
) -> None:
    async with connect(local_host, []) as connection:
        await connection.run(
            f"setsid sh -c 'echo $$ >{tmp_path}/daemon; exec sleep 60' >/dev/null 2>&1 </dev/null &"
            f" while [ ! -s {tmp_path}/daemon ]; do :; done",
            timeout_s=5,
        )
        process = await connection.open("echo $$; exec sleep 60")
        child = int(await process.readline())
    daemon = int((tmp_path / "daemon").read_text())
    assert await gone(child)
    assert Path(f"/proc/{daemon}").exists()
    os.kill(daemon, signal.SIGKILL)


async def test_a_long_lived_process_is_read_line_by_line_and_told_when_to_end(
    local: HostConnection,
) -> None:
    process = await local.open("cat")
    await process.write(b"one\ntwo")
    assert await process.readline() == b"one\n"
    await process.write_eof()
    assert [await process.readline(), await process.readline()] == [b"two", b""]
    assert await process.wait() == 0
    await process.close()


async def test_a_line_without_end_is_refused(local: HostConnection) -> None:
    process = await local.open("cat /dev/zero")
    with pytest.raises(CommandError, match="more than 4096 bytes"):
        await process.readline(4096)
    await process.close()


async def test_nothing_listens_while_connected(local: HostConnection) -> None:
    listening = psutil.CONN_LISTEN
    assert not [c for c in psutil.Process().net_connections() if c.status == listening]


async def test_sixteen_local_hosts_connect_at_once(local_host: Host) -> None:
    async def one() -> bytes:
        async with connect(local_host, []) as connection:
            return (await connection.run("echo x", timeout_s=20)).stdout

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(16)]
    assert {task.result() for task in tasks} == {b"x\n"}
