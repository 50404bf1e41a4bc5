"""hosts/ against real OpenSSH servers: keys, logins, facts, cut cables."""

import asyncio
from pathlib import Path

import pytest

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.trust import scan_key, trust
from sollol_tui.model.errors import AuthenticationError, HostKeyError, UnreachableError
from sollol_tui.model.inventory import Host
from tests.cluster.lab import Lab


def inventory_host(lab: Lab, number: int = 0) -> Host:
    machine = lab.hosts[number]
    return Host(
        name=machine.name, address=machine.address, user="root", identity_file=str(lab.identity)
    )


async def test_trusting_a_host_once_lets_every_connection_in_and_a_new_key_shuts_it_out(
    lab: Lab, tmp_path: Path
) -> None:
    host, file = inventory_host(lab), tmp_path / "known_hosts"
    with pytest.raises(HostKeyError, match="unknown"):
        async with connect(host, [file]):
            pass
    trust([await scan_key(host, [file])], file)
    async with connect(host, [file]) as connection:
        facts = await gather_facts(connection)
    assert (facts.address, facts.user) == (lab.hosts[0].address, "root")
    lab.hosts[0].restart_sshd(host_key="new")
    before = lab.hosts[0].sshd_log.count("Accepted")
    with pytest.raises(HostKeyError, match="CHANGED"):
        async with connect(host, [file]):
            pass
    assert lab.hosts[0].sshd_log.count("Accepted") == before


async def test_a_stranger_is_not_admitted(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(lab.known_hosts_text())
    machine = lab.hosts[0]
    with pytest.raises(AuthenticationError, match="does not admit us"):
        async with connect(Host(name="w", address=machine.address, user="root"), [file]):
            pass


async def test_a_host_behind_a_jump_is_reached_under_its_own_address(
    lab: Lab, tmp_path: Path, isolated_home: Path
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(lab.known_hosts_text())
    (isolated_home / ".ssh").mkdir(mode=0o700)
    (isolated_home / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {lab.identity}\n")
    jump, target = lab.hosts[0], lab.hosts[1]
    host = Host(
        name="behind", address=target.address, user="root", proxy_jump=f"root@{jump.address}"
    )
    async with connect(host, [file]) as connection:
        done = await connection.run("uname -n; echo $SSH_CONNECTION", timeout_s=10)
    assert done.stdout.split()[0].decode() == target.name
    assert done.stdout.split()[1].decode() == jump.address


async def test_a_cut_cable_is_noticed_and_named(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(lab.known_hosts_text())
    async with connect(inventory_host(lab), [file]) as connection:
        process = await connection.open("sleep 600")
        lab.hosts[0].cut()
        with pytest.raises(UnreachableError, match="connection was lost"):
            async with asyncio.timeout(40):
                await process.readline()
