"""Connections: verified before anything is said, and every failure a sentence of its own."""

import asyncio
import socket
from pathlib import Path

import asyncssh
import pytest

from sollol_tui.hosts.channel import MAX_OUTPUT
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.trust import scan_key, trust
from sollol_tui.model.errors import (
    AuthenticationError,
    CommandError,
    HostKeyError,
    UnreachableError,
)
from sollol_tui.model.inventory import Host
from tests.hosts.conftest import Server
from tests.ports import unused_port


def say_marks_then(text: bytes, *, before: bytes = b"", status: int = 0):
    """Answers as a shell would that prints `before` in its start-up files."""

    def answer(process: "asyncssh.SSHServerProcess[bytes]", *, ends: bool = True) -> None:
        assert process.command is not None
        mark = process.command.split("sollol-", 1)[1][:16]
        line = f"sollol-{mark}\n".encode()
        process.stdout.write(before + line + text)
        process.stderr.write(before + line)
        if ends:
            process.exit(status)

    return answer


async def complaint_of(
    host: Host, known_hosts: Path, command: str, *, timeout_s: float = 20
) -> CommandError:
    async with connect(host, [known_hosts]) as connection:
        with pytest.raises(CommandError) as refused:
            await connection.run(command, timeout_s=timeout_s)
    return refused.value


async def test_a_login_shell_that_hangs_is_told_from_a_command_that_does(
    server: Server, host: Host, known_hosts: Path
) -> None:
    server.answer = lambda process: None
    told = await complaint_of(host, known_hosts, "sh -s", timeout_s=0.3)
    assert told.message == "its login shell starts no command within 0.3 s"
    assert "start-up files" in told.remedy
    marks = say_marks_then(b"")
    server.answer = lambda process: marks(process, ends=False)
    told = await complaint_of(host, known_hosts, "sh -s", timeout_s=0.3)
    assert told.message == "no answer within 0.3 s to: a script of ours"


@pytest.mark.parametrize("flood", [b"x" * 3_000_000, b"x\n" * 1_500_000], ids=["line", "lines"])
async def test_a_flood_of_a_login_shell_is_named_with_its_remedy(
    server: Server, host: Host, known_hosts: Path, flood: bytes
) -> None:
    server.answer = lambda process: process.stdout.write(flood)
    told = await complaint_of(host, known_hosts, "sh -s")
    assert told.message.startswith(
        "its login shell prints more than 1 MiB before a command; it says: x"
    )
    assert "start-up files" in told.remedy


async def test_a_known_host_is_logged_in_to(server: Server, host: Host, known_hosts: Path) -> None:
    server.answer = say_marks_then(b"hello\n")
    async with connect(host, [known_hosts]) as connection:
        done = await connection.run("echo hello", timeout_s=5)
    assert (done.stdout, connection.address, server.logins) == (b"hello\n", "127.0.0.1", ["ml"])


async def test_an_unknown_key_is_refused_with_its_fingerprint_before_any_login(
    server: Server, host: Host, tmp_path: Path
) -> None:
    with pytest.raises(HostKeyError) as refusal:
        async with connect(host, [tmp_path / "none"]):
            pass
    assert server.host_key.get_fingerprint() in str(refusal.value)
    assert "sollol hosts trust w1" in refusal.value.remedy
    assert server.logins == []


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
async def test_a_changed_key_is_refused_before_any_login(
    server: Server, host: Host, tmp_path: Path, algorithm: str
) -> None:
    before = asyncssh.generate_private_key(algorithm)
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{server.port} {before.export_public_key().decode()}")
    with pytest.raises(HostKeyError, match="CHANGED") as refusal:
        async with connect(host, [file]):
            pass
    assert before.get_fingerprint() in str(refusal.value)
    assert server.host_key.get_fingerprint() in str(refusal.value)
    assert server.logins == []


async def test_user_known_hosts_file_none_does_not_switch_the_check_off(
    server: Server, host: Host, isolated_home: Path
) -> None:
    (isolated_home / ".ssh").mkdir(mode=0o700)
    (isolated_home / ".ssh" / "config").write_text("Host *\n  UserKnownHostsFile none\n")
    with pytest.raises(HostKeyError, match="unknown"):
        async with connect(host, []):
            pass
    assert server.logins == []


async def test_an_address_that_another_name_had_vouches_for_nobody(
    server: Server, host: Host, isolated_home: Path, known_hosts: Path
) -> None:
    named = Host(name="w1", address="localhost", port=host.port, identity_file=host.identity_file)
    with pytest.raises(HostKeyError, match=r"\[localhost\].* is unknown"):
        async with connect(named, [known_hosts]):
            pass


async def test_a_bare_alias_of_the_users_ssh_config_is_a_full_entry(
    server: Server, identity: Path, isolated_home: Path
) -> None:
    folder = isolated_home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "known_hosts").write_text(server.known_hosts_line)
    (folder / "config").write_text(
        f"Host hydra\n  HostName 127.0.0.1\n  Port {server.port}\n  User ada\n"
        f"  IdentityFile {identity}\n"
    )
    async with connect(Host(name="hydra"), []):
        assert server.logins == ["ada"]
    async with connect(Host(name="hydra", user="grace"), []):
        assert server.logins == ["ada", "grace"]


async def test_a_refused_login_names_what_was_tried(
    server: Server, host: Host, known_hosts: Path
) -> None:
    server.admitted = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(AuthenticationError) as refusal:
        async with connect(host, [known_hosts]):
            pass
    assert str(host.identity_file) in str(refusal.value)
    assert "no ssh-agent" in str(refusal.value)


async def test_a_missing_key_file_is_named(host: Host, known_hosts: Path, tmp_path: Path) -> None:
    lost = Host(name="w1", address="127.0.0.1", port=host.port, identity_file="/no/such/key")
    with pytest.raises(AuthenticationError, match="no key file /no/such/key"):
        async with connect(lost, [known_hosts]):
            pass


async def test_a_port_without_a_server_refuses() -> None:
    port = unused_port()
    with pytest.raises(UnreachableError, match=f"port {port} refuses connections"):
        async with connect(Host(name="w1", address="127.0.0.1", port=port), []):
            pass


async def test_a_silent_host_is_given_up_with_the_number_of_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = Host(name="w1", address="127.0.0.1", port=silent.getsockname()[1])
        with pytest.raises(UnreachableError, match=r"no SSH server answers there within 0.3 s"):
            async with connect(host, [], timeout_s=0.3):
                pass


async def test_a_name_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(UnreachableError, match="'nowhere' is not known"):
        async with connect(Host(name="nowhere"), []):
            pass


async def test_start_up_files_may_print_before_a_command(
    server: Server, host: Host, known_hosts: Path
) -> None:
    server.answer = say_marks_then(b"answer\n", before=b"Welcome!\n\x1b]0;owned\x07{}\n")
    async with connect(host, [known_hosts]) as connection:
        assert (await connection.run("true", timeout_s=5)).stdout == b"answer\n"


async def test_an_account_without_a_shell_is_quoted(
    server: Server, host: Host, known_hosts: Path
) -> None:
    def nologin(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        process.stdout.write(b"This account is not \x1b[31mavailable.\n")
        process.exit(1)

    server.answer = nologin
    async with connect(host, [known_hosts]) as connection:
        with pytest.raises(CommandError, match="This account is not available"):
            await connection.run("true", timeout_s=5)


async def test_a_flood_of_output_is_cut(server: Server, host: Host, known_hosts: Path) -> None:
    server.answer = say_marks_then(bytes(MAX_OUTPUT + 1))
    async with connect(host, [known_hosts]) as connection:
        with pytest.raises(CommandError, match="more than 16 MiB"):
            await connection.run("true", timeout_s=20)


async def test_a_connection_that_breaks_is_unreachable_and_not_a_failed_command(
    server: Server, host: Host, known_hosts: Path
) -> None:
    server.answer = lambda process: process.get_extra_info("connection").abort()
    async with connect(host, [known_hosts]) as connection:
        with pytest.raises(UnreachableError, match="connection was lost"):
            await connection.run("true", timeout_s=5)


async def test_a_trusted_key_lets_the_next_connection_in(
    server: Server, host: Host, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "known_hosts"
    shown = await scan_key(host)
    assert shown.fingerprint == server.host_key.get_fingerprint()
    assert server.logins == []
    trust([shown], file)
    trust([shown], file)
    assert len(file.read_text().splitlines()) == 1
    assert file.stat().st_mode & 0o777 == 0o600
    async with connect(host, [file]):
        assert server.logins == ["ml"]


async def test_a_changed_key_takes_the_place_of_the_old_one_only_when_told(
    server: Server, host: Host, tmp_path: Path
) -> None:
    file = tmp_path / "known_hosts"
    old = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    file.write_text(f"other {old}\n[127.0.0.1]:{server.port} {old}\n")
    shown = await scan_key(host, [file])
    assert shown.has_changed
    with pytest.raises(HostKeyError, match="is known by"):
        trust([shown], file)
    trust([shown], file, replace=True)
    lines = file.read_text().splitlines()
    assert lines[0].startswith("other ")
    assert len(lines) == 2
    async with connect(host, [file]):
        pass


async def test_a_jump_host_is_verified_too(
    server: Server, host: Host, known_hosts: Path, tmp_path: Path
) -> None:
    through = Host(name="w1", address="10.255.0.1", proxy_jump=f"ml@127.0.0.1:{server.port}")
    with pytest.raises(HostKeyError, match="unknown"):
        async with connect(through, []):
            pass
    assert server.logins == []
