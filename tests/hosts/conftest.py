"""A local host, and an SSH server in this process that a test can make hostile."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.model.inventory import ConnectionKind, Host


@pytest.fixture
def local_host(tmp_path: Path) -> Host:
    return Host(name="here", connection=ConnectionKind.LOCAL, workdir=str(tmp_path / "workdir"))


@pytest.fixture
async def local(local_host: Host) -> AsyncIterator[HostConnection]:
    async with connect(local_host, []) as connection:
        yield connection


@dataclass
class Server(asyncssh.SSHServer):
    """What a test may change about the server, and what it saw."""

    admitted: asyncssh.SSHKey
    port: int = 0
    host_key: asyncssh.SSHKey = field(
        default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519")
    )
    authority: asyncssh.SSHKey | None = None
    drops: int = 0
    entering: int = 0
    most_entering: int = 0
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    answer: Callable[["asyncssh.SSHServerProcess[bytes]"], None] = lambda process: process.exit(0)

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connections.append(conn)
        self.entering += 1
        self.most_entering = max(self.entering, self.most_entering)
        if self.drops:
            self.drops -= 1
            conn.abort()

    def begin_auth(self, username: str) -> bool:
        self.logins.append(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key == self.admitted.convert_to_public()

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return self.authority is not None and key == self.authority.convert_to_public()

    def auth_completed(self) -> None:
        self.entering -= 1

    @property
    def known_hosts_line(self) -> str:
        key = self.host_key.export_public_key().decode().strip()
        return f"[127.0.0.1]:{self.port} {key}\n"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    told = Server(admitted=asyncssh.generate_private_key("ssh-ed25519"))
    async with asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: told,
        server_host_keys=[told.host_key],
        process_factory=lambda process: told.answer(process),
        encoding=None,
    ) as listener:
        told.port = listener.get_port()
        yield told
    for connection in told.connections:  # else the loop may end before they have
        connection.abort()
        await connection.wait_closed()


@pytest.fixture
def identity(server: Server, tmp_path: Path) -> Path:
    """The private key that the server admits."""
    file = tmp_path / "identity"
    server.admitted.write_private_key(file)
    file.chmod(0o600)
    return file


@pytest.fixture
def known_hosts(server: Server, tmp_path: Path) -> Path:
    file = tmp_path / "known_hosts"
    file.write_text(server.known_hosts_line)
    return file


@pytest.fixture
def host(server: Server, identity: Path) -> Host:
    return Host(
        name="w1",
        address="127.0.0.1",
        port=server.port,
        user="ml",
        identity_file=str(identity),
        connect_timeout_s=5.0,
    )
