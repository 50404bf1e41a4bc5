"""Every way to be let in: certificates of both sides, agents, passphrases, IPv6, quick ciphers."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from sollol_tui.hosts import ssh
from sollol_tui.hosts.ssh import connect
from sollol_tui.model.errors import AuthenticationError, HostKeyError
from sollol_tui.model.inventory import Host
from tests.hosts.conftest import Server


@pytest.fixture
def authority() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@asynccontextmanager
async def listening(
    told: Server, *, host_keys: list[object] | None = None, address: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    async with asyncssh.listen(
        address,
        0,
        server_factory=lambda: told,
        server_host_keys=host_keys or [told.host_key],
        process_factory=lambda process: told.answer(process),
        encoding=None,
    ) as listener:
        told.port = listener.get_port()
        yield told


def known(folder: Path, line: str) -> Path:
    file = folder / "known_hosts"
    file.write_text(line)
    return file


@pytest.mark.parametrize("named", ["beside the key", "by CertificateFile"])
async def test_a_user_certificate_lets_in(
    tmp_path: Path, isolated_home: Path, authority: asyncssh.SSHKey, named: str
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    identity = tmp_path / "identity"
    key.write_private_key(identity)
    identity.chmod(0o600)
    certificate = authority.generate_user_certificate(key, "ada", principals=["ml"])
    told = Server(admitted=asyncssh.generate_private_key("ssh-ed25519"), authority=authority)
    async with listening(told):
        file = known(tmp_path, told.known_hosts_line)
        host = Host(name="w1", address="127.0.0.1", port=told.port, user="ml")
        if named == "beside the key":
            certificate.write_certificate(tmp_path / "identity-cert.pub")
            host = Host(
                name="w1",
                address="127.0.0.1",
                port=told.port,
                user="ml",
                identity_file=str(identity),
            )
        else:
            certificate.write_certificate(tmp_path / "signed.pub")
            (isolated_home / ".ssh").mkdir(mode=0o700)
            (isolated_home / ".ssh" / "config").write_text(
                f"Host w1\n  IdentityFile {identity}\n  CertificateFile {tmp_path}/signed.pub\n"
            )
        async with connect(host, [file]):
            pass
    assert told.logins == ["ml"]


async def test_a_host_certificate_is_known_by_its_authority_alone(
    server: Server, host: Host, tmp_path: Path, authority: asyncssh.SSHKey
) -> None:
    certificate = authority.generate_host_certificate(
        server.host_key, "w1", principals=["127.0.0.1"]
    )
    line = f"@cert-authority * {authority.export_public_key().decode()}"
    async with listening(server, host_keys=[(server.host_key, certificate)]):
        there = Host(
            name="w1",
            address="127.0.0.1",
            port=server.port,
            user="ml",
            identity_file=host.identity_file,
        )
        async with connect(there, [known(tmp_path, line)]):
            pass
        assert server.logins == ["ml"]


async def test_a_host_certificate_of_a_stranger_is_refused_before_any_login(
    server: Server, host: Host, tmp_path: Path, authority: asyncssh.SSHKey
) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    certificate = stranger.generate_host_certificate(server.host_key, "w1", principals=["*"])
    line = f"@cert-authority * {authority.export_public_key().decode()}"
    async with listening(server, host_keys=[(server.host_key, certificate)]):
        there = Host(
            name="w1", address="127.0.0.1", port=server.port, identity_file=host.identity_file
        )
        with pytest.raises(HostKeyError) as refusal:
            async with connect(there, [known(tmp_path, line)]):
                pass
    assert stranger.get_fingerprint() in str(refusal.value)
    assert "authority that is unknown" in str(refusal.value)
    assert server.logins == []


async def test_a_host_certificate_for_another_name_is_refused(
    server: Server, host: Host, tmp_path: Path, authority: asyncssh.SSHKey
) -> None:
    certificate = authority.generate_host_certificate(
        server.host_key, "w1", principals=["elsewhere"]
    )
    line = f"@cert-authority * {authority.export_public_key().decode()}"
    async with listening(server, host_keys=[(server.host_key, certificate)]):
        there = Host(
            name="w1", address="127.0.0.1", port=server.port, identity_file=host.identity_file
        )
        with pytest.raises(HostKeyError, match=r"certificate .* is not valid"):
            async with connect(there, [known(tmp_path, line)]):
                pass
    assert server.logins == []


async def test_an_ipv6_address_and_its_port_are_reached_and_named(
    server: Server, identity: Path, tmp_path: Path
) -> None:
    try:
        async with listening(server, address="::1"):
            key = server.host_key.export_public_key().decode()
            there = Host(
                name="w1", address="::1", port=server.port, user="ml", identity_file=str(identity)
            )
            with pytest.raises(HostKeyError, match=rf"\[::1\]:{server.port} is unknown"):
                async with connect(there, [tmp_path / "none"]):
                    pass
            file = known(tmp_path, f"[::1]:{server.port} {key}")
            async with connect(there, [file]) as connection:
                assert connection.address == "::1"
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def add(*arguments: str) -> int:
    return subprocess.run(["ssh-add", *arguments], capture_output=True).returncode


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ssh-agent of the test's own, still empty."""
    sock = tmp_path / "agent"
    running = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        while add("-l") == 2:  # it does not answer yet
            assert running.poll() is None
        yield sock
    finally:
        running.terminate()
        running.wait()


async def test_a_key_that_only_the_agent_holds_lets_in(
    server: Server, identity: Path, known_hosts: Path, agent: Path
) -> None:
    there = Host(name="w1", address="127.0.0.1", port=server.port, user="ml")
    with pytest.raises(AuthenticationError, match="tried: the ssh-agent"):
        async with connect(there, [known_hosts]):
            pass
    assert add(str(identity)) == 0
    identity.unlink()
    async with connect(there, [known_hosts]):
        pass


async def test_a_key_with_a_passphrase_is_named_until_the_agent_holds_it(
    server: Server, host: Host, known_hosts: Path, identity: Path, agent: Path
) -> None:
    plain = identity.with_name("plain")
    shutil.copy(identity, plain)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "tell-nobody", "-f", str(identity)]
    subprocess.run(change, check=True, stdout=subprocess.DEVNULL)  # noqa: ASYNC221
    with pytest.raises(AuthenticationError) as refusal:
        async with connect(host, [known_hosts]):
            pass
    assert f"the key {identity} has a passphrase" in refusal.value.message
    assert refusal.value.remedy == f"ssh-add {identity}"
    assert add(str(plain)) == 0
    async with connect(host, [known_hosts]):
        pass


async def test_the_quick_cipher_is_agreed_on(server: Server, host: Host, known_hosts: Path) -> None:
    agreed: list[str] = []

    def answer(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        agreed.append(process.get_extra_info("send_cipher"))
        process.exit(0)

    server.answer = answer
    async with connect(host, [known_hosts]) as connection:
        process = await connection.open("true")
        await process.wait()
        await process.close()
    assert agreed == ["aes128-gcm@openssh.com"]


async def test_logins_that_the_server_drops_are_tried_again(
    server: Server, host: Host, known_hosts: Path
) -> None:
    server.drops = 2  # as sshd does while it has too many logins open
    async with connect(host, [known_hosts], timeout_s=20):
        assert (server.drops, server.logins) == (0, ["ml"])


async def test_a_crowd_of_hosts_logs_in_a_few_at_a_time(
    server: Server, host: Host, known_hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "AT_ONCE", 3)

    async def one() -> None:
        async with connect(host, [known_hosts]):
            await everybody.wait()  # open connections do not count, or this would never end

    everybody = asyncio.Barrier(12)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(one())
    assert len(server.logins) == 12
    assert server.most_entering == 3


def test_no_line_of_ours_switches_the_check_of_host_keys_off() -> None:
    root = Path(__file__).parents[2]
    switch = "known_hosts=" + "None"
    found = [
        str(file)
        for folder in ("sollol_tui", "remote", "tests")
        for file in sorted((root / folder).rglob("*.py"))
        if switch in file.read_text() or "AutoAdd" + "Policy" in file.read_text()
    ]
    assert found == []
