"""The `connection: local` transport: an SSH server for this very process, on a socket pair.

Nothing listens, keys live in memory, and commands take the path of every other host.
Refuses any peer but its own socket.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import asyncssh

CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_USER: Final = "sollol"
_CHUNK: Final = 256 * 1024
_GRACE_S: Final = 0.5


@asynccontextmanager
async def connect_local(timeout_s: float) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connects to a server in this process. What its commands started in a session of their own
    outlives it; the rest ends with the connection."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    near, far = await _loopback_pair()
    commands: set[asyncio.Task[None]] = set()

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.current_task()
        assert task is not None
        commands.add(task)
        try:
            await _run_command(process)
        finally:
            commands.discard(task)

    async def serve() -> asyncssh.SSHServerConnection:
        return await asyncssh.run_server(
            far,
            server_factory=lambda: _OneUser(user_key),
            server_host_keys=[host_key],
            process_factory=run,
            encryption_algs=CIPHERS,
            compression_algs=None,
            agent_forwarding=False,
            encoding=None,
            login_timeout=timeout_s,
        )

    async def log_in() -> asyncssh.SSHClientConnection:
        return await asyncssh.run_client(
            near,
            config=None,
            username=_USER,
            known_hosts=([host_key.convert_to_public()], [], []),
            client_keys=[user_key],
            agent_path=None,
            gss_kex=False,
            gss_auth=False,
            encryption_algs=CIPHERS,
            compression_algs=None,
            login_timeout=timeout_s,
        )

    server, client = await asyncio.gather(serve(), log_in())
    try:
        yield client
    finally:
        client.close()
        server.close()
        await asyncio.gather(client.wait_closed(), server.wait_closed())
        while commands:
            await asyncio.wait(commands)


class _OneUser(asyncssh.SSHServer):
    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key.convert_to_public()

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == _USER and key == self._key


async def _loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets. asyncssh needs a peer name, so a Unix socket pair will not do. The
    listener lives for one connect; whoever else comes in that moment is turned away."""
    loop = asyncio.get_running_loop()
    near = socket.socket()
    near.setblocking(False)
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(8)
            listener.setblocking(False)
            await loop.sock_connect(near, listener.getsockname())
            while True:
                far, peer = await loop.sock_accept(listener)
                if peer == near.getsockname():
                    far.setblocking(False)
                    return near, far
                far.close()
    except BaseException:
        near.close()
        raise


def _environment() -> dict[str, str]:
    """What a login would give: our own variables without those of our Python or of our SSH."""
    dropped = ("SSH_", "PYTHON", "VIRTUAL_ENV", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


async def _run_command(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Runs one command as sshd would without a terminal: in the home folder, in its own session."""
    if process.command is None:
        process.stderr.write(b"this host runs commands, not login shells\n")
        process.exit(1)
        return
    async with AsyncExitStack() as stack:
        # Pipes of our own: asyncio's count a command as running while a daemon holds one open.
        child_in, feed = await _pipe_to_child(stack)
        out, child_out = await _pipe_from_child(stack)
        err, child_err = await _pipe_from_child(stack)
        try:
            child = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                process.command,
                stdin=child_in,
                stdout=child_out,
                stderr=child_err,
                cwd=Path.home(),
                env=_environment(),
                start_new_session=True,
            )
        finally:
            for descriptor in (child_in, child_out, child_err):
                os.close(descriptor)
        feeding = asyncio.create_task(_feed(process.stdin, feed))
        draining = [
            asyncio.create_task(_drain(out, process.stdout)),
            asyncio.create_task(_drain(err, process.stderr)),
        ]
        leaving = asyncio.create_task(process.wait_closed())
        ending = asyncio.create_task(child.wait())
        try:
            await asyncio.wait([leaving, ending], return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                # What the command wrote is still on its way; a slow client may take its time.
                await asyncio.wait([leaving, _all(draining)], return_when=asyncio.FIRST_COMPLETED)
            else:
                # The client is gone: what reads its input sees the end of it and may leave.
                feeding.cancel()
                await stack.aclose()
                await asyncio.wait([ending], timeout=_GRACE_S)
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            code = await ending
            for task in (feeding, *draining, leaving):
                task.cancel()
            await asyncio.gather(feeding, *draining, leaving, return_exceptions=True)
            if not process.is_closing():
                process.exit(code if code >= 0 else 128 - code)


def _all(tasks: list[asyncio.Task[None]]) -> asyncio.Task[None]:
    async def wait() -> None:
        await asyncio.wait(tasks)

    return asyncio.create_task(wait())


async def _pipe_to_child(stack: AsyncExitStack) -> tuple[int, asyncio.StreamWriter]:
    """The descriptor for a child's standard input, and what writes to it."""
    loop = asyncio.get_running_loop()
    theirs, ours = os.pipe()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(ours, "wb", 0)
    )
    stack.callback(_abort, transport)
    return theirs, asyncio.StreamWriter(transport, protocol, None, loop)


def _abort(transport: asyncio.WriteTransport) -> None:
    if not transport.is_closing():  # a pipe's transport cannot be aborted twice
        transport.abort()


async def _pipe_from_child(stack: AsyncExitStack) -> tuple[asyncio.StreamReader, int]:
    """What reads a child's output, and the descriptor for it."""
    loop = asyncio.get_running_loop()
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
    )
    stack.callback(transport.close)
    return reader, theirs


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    with suppress(BrokenPipeError, ConnectionResetError, asyncssh.Error):
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
    target.close()


async def _drain(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError, asyncssh.Error):
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
