"""hosts/ against real OpenSSH servers that make it hard: two jumps, few sessions, slow shells."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.ssh import connect
from sollol_tui.model.inventory import Host
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine


@pytest.fixture
def known_hosts(lab: Lab, tmp_path: Path, isolated_home: Path) -> Path:
    """The hosts' keys, and ~/.ssh/config with the identity for hosts and jumps alike."""
    file = tmp_path / "known_hosts"
    file.write_text(lab.known_hosts_text())
    (isolated_home / ".ssh").mkdir(mode=0o700)
    (isolated_home / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {lab.identity}\n")
    return file


@contextmanager
def sshd_with(machine: Machine, **settings: str) -> Iterator[None]:
    """Other settings of a host's sshd for a while."""
    file = machine.folder / "sshd_config"
    before = file.read_text()
    kept = [line for line in before.splitlines() if line.split()[0] not in settings]
    file.write_text("\n".join([*kept, *(f"{key} {value}" for key, value in settings.items()), ""]))
    machine.restart_sshd()
    try:
        yield
    finally:
        file.write_text(before)
        machine.restart_sshd()


async def test_a_host_behind_two_jumps_is_reached(lab: Lab, known_hosts: Path) -> None:
    first, second, last = lab.hosts
    host = Host(
        name="behind",
        address=last.address,
        user="root",
        proxy_jump=f"root@{first.address},root@{second.address}",
    )
    async with connect(host, [known_hosts]) as connection:
        done = await connection.run("uname -n; echo $SSH_CONNECTION", timeout_s=10)
    name, came_from, *_ = done.stdout.decode().split()
    assert (name, came_from) == (last.name, second.address)


async def test_twelve_logins_at_a_server_that_admits_two_at_a_time_all_get_in(
    lab: Lab, known_hosts: Path
) -> None:
    machine = lab.hosts[0]
    with sshd_with(machine, MaxStartups="2:100:2", MaxSessions="2", LogLevel="VERBOSE"):
        begun = time.monotonic()

        async def one(number: int) -> str:
            host = Host(name=f"w{number}", address=machine.address, user="root")
            async with connect(host, [known_hosts], timeout_s=30) as connection:
                return (await gather_facts(connection)).hostname

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(12)]
        taken_s = time.monotonic() - begun
        dropped = machine.sshd_log.count("past MaxStartups")
    assert {task.result() for task in tasks} == {machine.name}
    assert dropped > 0
    assert taken_s < 30


async def test_a_server_without_sftp_and_with_one_session_tells_its_facts(
    lab: Lab, known_hosts: Path
) -> None:
    machine = lab.hosts[0]
    with sshd_with(machine, Subsystem="sftp /bin/false", MaxSessions="1"):
        host = Host(name="w1", address=machine.address, user="root")
        async with connect(host, [known_hosts]) as connection:
            facts = await gather_facts(connection)
            assert (await connection.run("echo again", timeout_s=10)).stdout == b"again\n"
    assert facts.hostname == machine.name


async def test_a_slow_and_talkative_bashrc_is_waited_for_once(lab: Lab, known_hosts: Path) -> None:
    machine = lab.hosts[0]
    bashrc, starts = machine.home / ".bashrc", machine.home / "starts"
    bashrc.write_text("echo Welcome; echo begin=facts; echo x >>~/starts; echo oops >&2; sleep 2\n")
    try:
        begun = time.monotonic()
        host = Host(name="w1", address=machine.address, user="root")
        async with connect(host, [known_hosts]) as connection:
            facts = await gather_facts(connection)
        taken_s = time.monotonic() - begun
        assert facts.hostname == machine.name
        assert starts.read_text() == "x\n"
        assert taken_s >= 2
        # Shells that take their time before they let a command run do not make its clock wrong.
        assert facts.clock_skew_s is not None
        assert abs(facts.clock_skew_s) < 1
    finally:
        bashrc.unlink()
        starts.unlink(missing_ok=True)


async def test_facts_name_the_interface_at_which_a_host_was_reached(
    lab: Lab, known_hosts: Path
) -> None:
    machine = lab.hosts[0]
    host = Host(name="w1", address=machine.address, user="root")
    async with connect(host, [known_hosts]) as connection:
        facts = await gather_facts(connection)
    (own,) = [one for one in facts.interfaces if one.address == facts.address]
    assert (own.name, own.prefix) == ("eth0", 24)
    assert facts.kernel
    assert facts.distribution
