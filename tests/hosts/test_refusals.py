"""The table of failures: each its own class, one sentence, and what to do about it."""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import asyncssh
import pytest

from sollol_tui.hosts.disk import disk_error
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.ssh import connect
from sollol_tui.model.errors import (
    AuthenticationError,
    CommandError,
    HostError,
    HostKeyError,
    UnreachableError,
    UnsuitableError,
)
from sollol_tui.model.inventory import Host
from tests.hosts.conftest import Server
from tests.ports import unused_port


@dataclass(frozen=True, kw_only=True)
class Case:
    """`break_it` changes the server, the known_hosts file or the host that is asked."""

    error: type[HostError]
    sentence: str
    break_it: Callable[[Server, Path, Host], Host | None]


def no_name(server: Server, known_hosts: Path, host: Host) -> Host:
    return replace(host, address="no.such.name.invalid")


def failing(code: int) -> Callable[[Server, Path, Host], Host]:
    """What a network without a route answers; this machine's own has one to everywhere."""

    def change(server: Server, known_hosts: Path, host: Host) -> Host:
        loop = asyncio.get_running_loop()

        async def connection(*_: object, **__: object) -> None:
            raise OSError(code, "as the kernel says it")

        loop.create_connection = connection  # type: ignore[assignment,method-assign]
        return host

    return change


def no_server(server: Server, known_hosts: Path, host: Host) -> Host:
    return replace(host, port=unused_port())


def other_key(server: Server, known_hosts: Path, host: Host) -> None:
    before = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {before}")


def says(text: str) -> Callable[[Server, Path, Host], None]:
    def change(server: Server, known_hosts: Path, host: Host) -> None:
        def answer(process: "asyncssh.SSHServerProcess[bytes]") -> None:
            process.stdout.write(text.encode())
            process.exit(1)

        server.answer = answer

    return change


CASES = {
    "name": Case(
        error=UnreachableError,
        sentence="w1: the name 'no.such.name.invalid' is not known to this machine; set its address"
        " in the inventory, or HostName in ~/.ssh/config",
        break_it=no_name,
    ),
    "route": Case(
        error=UnreachableError,
        sentence="w1: no route to 127.0.0.1 port {port}; is it switched on and in this network?",
        break_it=failing(errno.EHOSTUNREACH),
    ),
    "refused": Case(
        error=UnreachableError,
        sentence="w1: 127.0.0.1 port {port} refuses connections; does sshd run there, and on this"
        " port?",
        break_it=no_server,
    ),
    "timeout": Case(
        error=UnreachableError,
        sentence="w1: no answer from 127.0.0.1 port {port}; is it switched on and in this network?",
        break_it=failing(errno.ETIMEDOUT),
    ),
    "key unknown": Case(
        error=HostKeyError,
        sentence="w1: the host key of [127.0.0.1]:{port} is unknown: it shows ssh-ed25519 {shown};"
        " compare it with the machine's own, then: sollol hosts trust w1",
        break_it=lambda server, known_hosts, host: known_hosts.unlink(),
    ),
    "key changed": Case(
        error=HostKeyError,
        sentence="w1: the host key of [127.0.0.1]:{port} has CHANGED: it was ssh-ed25519 {before}"
        " and is now ssh-ed25519 {shown}; somebody may be in between; only when you know why it"
        " changed: sollol hosts trust w1 --replace",
        break_it=other_key,
    ),
    "login": Case(
        error=AuthenticationError,
        sentence="w1: ml@127.0.0.1 does not admit us; tried: key {identity}, no ssh-agent;"
        " ssh-copy-id -i {identity} -p {port} ml@127.0.0.1, or load the key into the agent with"
        " ssh-add",
        break_it=lambda server, known_hosts, host: setattr(
            server, "admitted", asyncssh.generate_private_key("ssh-ed25519")
        ),
    ),
    "key file": Case(
        error=AuthenticationError,
        sentence="w1: there is no key file /no/such/key; check identity_file in the inventory or"
        " IdentityFile in ~/.ssh/config",
        break_it=lambda server, known_hosts, host: replace(host, identity_file="/no/such/key"),
    ),
    "shell": Case(
        error=CommandError,
        sentence="w1: the login shell does not run commands; it says: Choose a menu entry:; give"
        " the account a shell such as /bin/sh, and let its start-up files be silent and short"
        " without a terminal",
        break_it=says("Choose a \x1b[1mmenu\x1b[0m entry:\n1) mail\n"),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_failure_is_a_sentence_with_what_to_do(
    name: str, server: Server, host: Host, known_hosts: Path
) -> None:
    case = CASES[name]
    asked = case.break_it(server, known_hosts, host) or host
    with pytest.raises(case.error) as failure:
        async with connect(asked, [known_hosts]) as connection:
            await connection.run("true", timeout_s=5)
    keys = known_hosts.read_text().split(" ", 1) if known_hosts.exists() else ["", ""]
    before = asyncssh.import_public_key(keys[1]).get_fingerprint() if keys[1] else ""
    assert f"{failure.value}" == case.sentence.format(
        port=asked.port,
        identity=host.identity_file,
        shown=server.host_key.get_fingerprint(),
        before=before,
    )


@pytest.mark.parametrize(
    ("complaint", "sentence"),
    [
        (
            "mkdir: cannot create directory '/home/ml/.sollol': Read-only file system",
            "w1: /home/ml/.sollol lies on a disk that is read-only: mkdir: cannot create directory"
            " '/home/ml/.sollol': Read-only file system; set workdir to a folder on a disk that can"
            " be written",
        ),
        (
            "sh: 1: echo: echo: I/O error\ncat: write error: No space left on device",
            "w1: no space left for the dataset in /home/ml/.sollol: cat: write error: No space left"
            " on device; free some on the disk of its workdir, or set workdir to another one",
        ),
    ],
)
def test_a_disk_that_takes_nothing_is_said(complaint: str, sentence: str) -> None:
    error = disk_error("w1", "the dataset", "/home/ml/.sollol", complaint.encode())
    assert isinstance(error, UnsuitableError)
    assert f"{error}" == sentence


async def test_no_sftp_is_needed(
    server: Server, host: Host, known_hosts: Path, tmp_path: Path
) -> None:
    """The server offers commands only, which real shells carry out."""
    commands: list[str] = []
    running: set[asyncio.Task[None]] = set()

    def answer(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        assert process.subsystem is None
        commands.append(process.command or "")
        running.add(asyncio.create_task(carry_out(process)))

    async def carry_out(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        assert process.command is not None
        shell = await asyncio.create_subprocess_exec(
            "bash", "-c", process.command, stdin=-1, stdout=-1, stderr=-1
        )
        out, err = await shell.communicate(await process.stdin.read())
        process.stdout.write(out)
        process.stderr.write(err)
        process.exit(shell.returncode or 0)

    server.answer = answer
    async with connect(replace(host, workdir=str(tmp_path)), [known_hosts]) as connection:
        facts = await gather_facts(connection)
    assert (facts.system, facts.workdir) == ("Linux", str(tmp_path))
    assert len(commands) == 1
