"""Transfers to real OpenSSH hosts: cut cables, power cuts, full and read-only disks."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.transfer import BIG, send_file, send_tree
from sollol_tui.hosts.tree import file_sha256, read_tree
from sollol_tui.model.errors import HostError, TransferError, UnreachableError
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.test_hosts import inventory_host

FAR = "/root/.sollol/far"
NOTICED_S = 40.0  # a cut cable, by SSH's keepalive


@pytest.fixture
def known_hosts(lab: Lab, tmp_path: Path) -> Path:
    file = tmp_path / "known_hosts"
    file.write_text(lab.known_hosts_text())
    return file


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(os.urandom(6 * BIG))
    return file


def far(machine: Machine, path: str) -> Path:
    """A path of the host as this machine sees it."""
    return machine.home / Path(path).relative_to("/root")


def once_past(count: int, act: Callable[[], None]) -> Callable[[int, int], None]:
    """A report that does something in the middle of a transfer."""
    waiting = [act]

    def report(done: int, total: int) -> None:
        if done >= count and waiting:
            waiting.pop()()

    return report


@asynccontextmanager
async def disk(connection: HostConnection, *options: str) -> AsyncIterator[str]:
    """A small disk of its own on the host, mounted in its own namespace."""
    place = "/mnt/small"
    mount = f"mkdir -p {place} && mount -t tmpfs -o {','.join(options)} tmpfs {place}"
    await connection.run(mount, timeout_s=10)
    try:
        yield place
    finally:
        await connection.run(f"umount -l {place}", timeout_s=10)


async def test_a_host_that_loses_power_is_named_and_the_transfer_goes_on_when_it_is_back(
    lab: Lab, known_hosts: Path, rows: Path
) -> None:
    machine, host, sha256 = lab.hosts[0], inventory_host(lab), file_sha256(rows)
    machine.set_rate("100mbit")
    target = f"{FAR}/rows.jsonl"
    report = once_past(3 * BIG, machine.power_off)
    with pytest.raises(UnreachableError, match="connection was lost") as lost:
        async with asyncio.timeout(NOTICED_S), connect(host, [known_hosts]) as connection:
            await send_file(connection, rows, target, sha256, report=report)
    assert lost.value.host == machine.name
    assert not far(machine, target).exists()
    arrived = far(machine, f"{target}.part").stat().st_size
    assert arrived >= BIG
    machine.boot()
    seen: list[int] = []
    async with connect(host, [known_hosts], timeout_s=20) as connection:
        await send_file(connection, rows, target, sha256, report=lambda done, _: seen.append(done))
    assert seen[0] == arrived  # only the rest travelled
    assert seen[-1] == rows.stat().st_size
    assert file_sha256(far(machine, target)) == sha256


async def test_a_model_on_its_way_when_the_cable_is_cut_arrives_whole_later(
    lab: Lab, known_hosts: Path, rows: Path
) -> None:
    machine, host = lab.hosts[0], inventory_host(lab)
    folder = rows.parent / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for shard in ("shard-1", "shard-2"):
        (folder / shard).write_bytes(os.urandom(4 * BIG))
    tree, target = read_tree(folder), f"{FAR}/model"
    machine.set_rate("100mbit")
    with pytest.raises(UnreachableError, match="connection was lost"):
        async with asyncio.timeout(NOTICED_S), connect(host, [known_hosts]) as connection:
            await send_tree(connection, tree, target, report=once_past(6 * BIG, machine.cut))
    assert not far(machine, target).exists()
    machine.heal()
    machine.set_rate("1gbit")
    seen: list[int] = []
    async with connect(host, [known_hosts], timeout_s=20) as connection:
        await send_tree(connection, tree, target, report=lambda done, _: seen.append(done))
    assert seen[0] >= 4 * BIG  # the first shard did not travel again
    assert read_tree(far(machine, target)).sha256 == tree.sha256


async def test_a_disk_without_room_is_told_before_anything_is_sent(
    lab: Lab, known_hosts: Path, rows: Path
) -> None:
    tree = read_tree(rows.parent)
    async with (
        connect(inventory_host(lab), [known_hosts]) as connection,
        disk(connection, "size=8m") as place,
    ):
        for send in (
            send_file(connection, rows, f"{place}/x/rows", file_sha256(rows)),
            send_tree(connection, tree, f"{place}/x/tree"),
        ):
            with pytest.raises(TransferError, match=r"needs 24\.0 MiB, 8\.0 MiB are free") as e:
                await send
            assert e.value.host == lab.hosts[0].name
            assert "free some" in e.value.remedy


async def test_a_disk_that_fills_up_is_told_and_left_as_it_was(
    lab: Lab, known_hosts: Path, rows: Path
) -> None:
    machine = lab.hosts[0]
    machine.set_rate("100mbit")

    def fill() -> None:
        machine.run(["sh", "-c", "dd if=/dev/zero of=/mnt/small/other bs=1M 2>/dev/null; true"])

    async with (
        connect(inventory_host(lab), [known_hosts]) as connection,
        disk(connection, "size=32m") as place,
    ):
        with pytest.raises(HostError, match=r"no (room|space left) for what is sent"):
            await send_file(
                connection,
                rows,
                f"{place}/rows",
                file_sha256(rows),
                report=once_past(2 * BIG, fill),
            )
        left = await connection.run(f"ls {place}", timeout_s=10)
        assert left.stdout.split() == [b"other", b"rows.part.lock"]


async def test_a_read_only_disk_is_told(lab: Lab, known_hosts: Path, rows: Path) -> None:
    async with (
        connect(inventory_host(lab), [known_hosts]) as connection,
        disk(connection, "ro") as place,
    ):
        with pytest.raises(HostError, match="read-only") as refusal:
            await send_file(connection, rows, f"{place}/x/rows", file_sha256(rows))
    assert "set workdir" in refusal.value.remedy
