"""The `connection: local` transport: an SSH server for this very process, on a socket pair.

Nothing listens, keys live in memory, and commands take the path of every other host.
Refuses any peer but its own socket.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Final

import asyncssh

CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_KEY_EXCHANGE: Final = "curve25519-sha256"  # nothing leaves the machine: the quick one will do
_USER: Final = "sollol"
_CHUNK: Final = 256 * 1024
_GRACE_S: Final = 0.5


@asynccontextmanager
async def connect_local(timeout_s: float) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connects to a server in this process. What its commands started in a session of their own
    outlives it; the rest ends with the connection."""
    key = _host_key()
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
            server_factory=_OneUser,
            server_host_keys=[key],
            process_factory=run,
            kex_algs=[_KEY_EXCHANGE],
            encryption_algs=CIPHERS,
            compression_algs=None,
            agent_forwarding=False,
            line_editor=False,
            encoding=None,
            login_timeout=timeout_s,
        )

    async def log_in() -> asyncssh.SSHClientConnection:
        return await asyncssh.run_client(
            near,
            config=None,
            username=_USER,
            known_hosts=([key.convert_to_public()], [], []),
            client_keys=None,
            agent_path=None,
            gss_kex=False,
            gss_auth=False,
            kex_algs=[_KEY_EXCHANGE],
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
    """Asks for no proof: the socket is this process's own, which no other can hold."""

    def begin_auth(self, username: str) -> bool:
        return False


@cache
def _host_key() -> asyncssh.SSHKey:
    """This process's, made once: two hundred local hosts are two hundred connections."""
    return asyncssh.generate_private_key("ssh-ed25519")


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
        # Not asyncio's: it starts a thread for each (Python 3.11) and counts a command as running
        # while a daemon holds one of its pipes open. Both leave Popen to the thread of the loop.
        child = subprocess.Popen(  # noqa: ASYNC220
            ["/bin/sh", "-c", process.command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path.home(),
            env=_environment(),
            start_new_session=True,
        )
        feed = await _writer(stack, child.stdin)
        feeding = asyncio.create_task(_feed(process.stdin, feed))
        draining = [
            asyncio.create_task(_drain(await _reader(stack, child.stdout), process.stdout)),
            asyncio.create_task(_drain(await _reader(stack, child.stderr), process.stderr)),
        ]
        leaving = asyncio.create_task(process.wait_closed())
        ending = asyncio.create_task(_ended(child))
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
            if not ending.done():
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            code = await ending
            for task in (feeding, *draining, leaving):
                task.cancel()
            await asyncio.gather(feeding, *draining, leaving, return_exceptions=True)
            if not process.is_closing():
                process.exit(code if code >= 0 else 128 - code)


async def _ended(child: subprocess.Popen[bytes]) -> int:
    """The exit status, once there is one; without a thread where the kernel has pidfds."""
    if not hasattr(os, "pidfd_open"):
        return await asyncio.to_thread(child.wait)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(child.pid)
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return child.wait()


def _all(tasks: list[asyncio.Task[None]]) -> asyncio.Task[None]:
    async def wait() -> None:
        await asyncio.wait(tasks)

    return asyncio.create_task(wait())


async def _writer(stack: AsyncExitStack, pipe: IO[bytes] | None) -> asyncio.StreamWriter:
    """What writes to a child's standard input."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    stack.callback(_abort, transport)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _abort(transport: asyncio.WriteTransport) -> None:
    if not transport.is_closing():  # a pipe's transport cannot be aborted twice
        transport.abort()


async def _reader(stack: AsyncExitStack, pipe: IO[bytes] | None) -> asyncio.StreamReader:
    """What reads a child's output."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    stack.callback(transport.close)
    return reader


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
