"""The way to a host: names, jumps, proxies and ports that are something else, each told apart."""

import asyncio
import shlex
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.trust import scan_key
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.probe import ask
from sollol_tui.model.errors import AuthenticationError, HostError, HostKeyError, UnreachableError
from sollol_tui.model.inventory import Host
from tests.hosts.conftest import Server


async def why_not(host: Host, *files: Path, timeout_s: float = 5.0) -> HostError:
    with pytest.raises(HostError) as failure:
        async with connect(host, files, timeout_s=timeout_s):
            pass
    return failure.value


def ssh_config(home: Path, text: str) -> None:
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "config").write_text(text)


@asynccontextmanager
async def listening(answer: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[int]:
    """A port that is no sshd's: `answer` is what it does with whoever comes."""

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        answer(writer)
        writer.close()

    server = await asyncio.start_server(come, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("address", ["node1..lan", ".", "a" * 64, "a" * 64 + ".lan"])
async def test_an_address_that_no_name_can_have_is_the_failure_of_that_host_alone(
    address: str, local_host: Host
) -> None:
    odd = Host(name="odd", address=address)
    answers = await ask(open_home(), [odd, local_host], lambda connection: asyncio.sleep(0, "up"))
    assert answers.said == {"here": "up"}
    assert "is not known to this machine; set its address" in str(answers.errors["odd"])
    with pytest.raises(UnreachableError, match="is not known to this machine"):
        await scan_key(odd)


async def test_what_nobody_foresaw_is_the_failure_of_that_host_alone(
    local_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Host(name="odd", address="127.0.0.9")
    loop = asyncio.get_running_loop()
    real = loop.create_connection

    async def break_down(factory: object, host: object = None, *rest: object, **how: object):
        if host == odd.address:
            raise RuntimeError("something new")
        return await real(factory, host, *rest, **how)

    monkeypatch.setattr(loop, "create_connection", break_down)
    answers = await ask(open_home(), [odd, local_host], lambda connection: asyncio.sleep(0, "up"))
    assert answers.said == {"here": "up"}
    assert "something new" in str(answers.errors["odd"])
    with pytest.raises(HostError, match="something new"):
        await scan_key(odd)


@pytest.mark.parametrize("config", [
    "Host loop\n  ProxyJump loop\n",
    "Host loop\n  ProxyJump other\nHost other\n  ProxyJump loop\n",
])  # fmt: skip
async def test_jumps_in_a_circle_are_refused_by_name(isolated_home: Path, config: str) -> None:
    ssh_config(isolated_home, config)
    said = str(await why_not(Host(name="w1", proxy_jump="loop")))
    assert said.startswith("w1: its jumps go in a circle: w1 -> loop -> ")
    assert "ProxyJump" in said
    with pytest.raises(UnreachableError, match="in a circle"):
        await scan_key(Host(name="w1", proxy_jump="loop"))


async def test_a_jump_is_looked_up_in_the_inventory_before_ssh_config(
    server: Server, host: Host, known_hosts: Path
) -> None:
    through = Host(name="w2", address="127.0.0.1", port=1, proxy_jump="w1", jump_hosts=(host,))
    error = await why_not(through, known_hosts)
    assert server.logins == ["ml"]
    assert str(error).startswith("w2: ")
    other = replace(
        through, proxy_jump=f"ada@w1:{server.port}", jump_hosts=(replace(host, port=1),)
    )
    await why_not(other, known_hosts)
    assert server.logins == ["ml", "ada"]


async def test_what_fails_at_a_jump_says_that_it_is_the_jump(
    server: Server, host: Host, tmp_path: Path
) -> None:
    unknown = tmp_path / "none"
    listed = await why_not(Host(name="w2", proxy_jump="w1", jump_hosts=(host,)), unknown)
    assert isinstance(listed, HostKeyError)
    assert str(listed).startswith("w2: its jump w1: the host key of ")
    assert str(listed).endswith("sollol hosts trust w1")
    alien = await why_not(Host(name="w2", proxy_jump=f"ml@127.0.0.1:{server.port}"), unknown)
    assert str(alien).startswith(f"w2: its jump ml@127.0.0.1:{server.port}: the host key of ")
    assert str(alien).endswith(f"ssh -p {server.port} ml@127.0.0.1")
    lost = await why_not(Host(name="w2", proxy_jump="no.such.name.invalid"), unknown)
    assert str(lost).startswith("w2: its jump no.such.name.invalid: the name ")


async def test_a_host_that_its_jump_does_not_reach_is_told_from_one_that_is_off(
    server: Server, host: Host, known_hosts: Path
) -> None:
    beyond = Host(name="w2", address="192.0.2.7", proxy_jump="w1", jump_hosts=(host,))

    def forbid(*_: object) -> bool:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")

    server.connection_requested = forbid  # type: ignore[method-assign]
    shut = str(await why_not(beyond, known_hosts))
    assert shut.startswith(
        "w2: its jump 127.0.0.1 lets nobody on to 192.0.2.7 port 22 (open failed); "
    )
    assert "AllowTcpForwarding" in shut
    del server.connection_requested  # asyncssh's own refuses
    refused = str(await why_not(beyond, known_hosts))
    assert refused == (
        "w2: its jump 127.0.0.1 does not reach 192.0.2.7 port 22: Connection refused; "
        f"`ssh -i {host.identity_file} -p {server.port} ml@127.0.0.1` opens a shell there to try"
        " from"
    )


async def test_the_command_that_copies_a_key_goes_the_same_way(
    server: Server, host: Host, known_hosts: Path, tmp_path: Path
) -> None:
    """Names the key of the inventory, the port and the jump: any other command would admit
    another key, or nobody."""
    key = tmp_path / "a key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(key))
    server.connection_requested = lambda *_: True  # type: ignore[method-assign]
    stranger = Host(
        name="w2",
        address="127.0.0.1",
        port=server.port,
        user="ada",
        identity_file=str(key),
        proxy_jump="w1",
        jump_hosts=(host,),
    )
    error = await why_not(stranger, known_hosts)
    assert isinstance(error, AuthenticationError)
    copy, _, rest = error.remedy.partition(", or ")
    assert shlex.split(copy) == [
        "ssh-copy-id",
        *("-i", str(key)),
        *("-p", str(server.port)),
        *("-o", f"ProxyJump=ml@127.0.0.1:{server.port}"),
        "ada@127.0.0.1",
    ]
    assert rest.startswith("load the key into the agent")


async def test_an_account_without_any_key_is_told_to_make_one(
    isolated_home: Path, server: Server, host: Host, known_hosts: Path
) -> None:
    error = await why_not(replace(host, identity_file=None), known_hosts)
    assert error.remedy == (
        f"make a key with ssh-keygen -t ed25519, then ssh-copy-id -p {server.port} ml@127.0.0.1"
    )


@pytest.mark.parametrize("answer", [
    lambda writer: None,
    lambda writer: writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
])  # fmt: skip
async def test_a_port_of_something_else_is_not_a_machine_that_is_off(
    answer: Callable[[asyncio.StreamWriter], None],
) -> None:
    async with listening(answer) as port:
        host = Host(name="w1", address="127.0.0.1", port=port)
        wanted = f"w1: 127.0.0.1 port {port} accepts connections, but no SSH server answers there"
        assert str(await why_not(host, timeout_s=0.5)).startswith(wanted)
        with pytest.raises(
            UnreachableError, match="accepts connections, but no SSH server"
        ) as said:
            await scan_key(host, timeout_s=0.5)
        assert "port" in said.value.remedy


async def test_a_port_that_stays_silent_is_not_a_machine_that_is_off() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = Host(name="w1", address="127.0.0.1", port=silent.getsockname()[1])
        said = "accepts connections, but no SSH server answers there within 0.3 s"
        assert said in str(await why_not(host, timeout_s=0.3))
        with pytest.raises(UnreachableError, match=said):
            await scan_key(host, timeout_s=0.3)


async def test_a_proxy_command_that_fails_is_quoted_at_once(
    isolated_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ssh_config(isolated_home, "Host w1\n  ProxyCommand sh -c 'echo no way out >&2; exit 3'\n")
    for _ in range(3):
        said = str(await why_not(Host(name="w1")))
        assert said.startswith("w1: its ProxyCommand (sh -c 'echo no way out >&2; exit 3') ended")
        assert "status 3: no way out" in said
    with pytest.raises(UnreachableError, match="status 3: no way out"):
        await scan_key(Host(name="w1"))
    assert not caplog.records


async def test_a_proxy_command_that_is_not_there_is_named(isolated_home: Path) -> None:
    ssh_config(isolated_home, "Host w1\n  ProxyCommand no-such-program %h %p\n")
    said = str(await why_not(Host(name="w1")))
    assert said.startswith("w1: its ProxyCommand (no-such-program w1 22) cannot be run: No such f")


async def test_a_silent_proxy_command_is_given_up_and_ended(
    isolated_home: Path, tmp_path: Path
) -> None:
    there = tmp_path / "pid"
    ssh_config(isolated_home, f"Host w1\n  ProxyCommand sh -c 'echo $$ >{there}; exec sleep 60'\n")
    said = str(await why_not(Host(name="w1"), timeout_s=0.5))
    assert "no SSH server answers within 0.5 s through its ProxyCommand" in said
    assert not Path(f"/proc/{there.read_text().strip()}").exists()


async def test_a_proxy_command_leads_to_the_host(
    server: Server, host: Host, known_hosts: Path, isolated_home: Path
) -> None:
    relay = f"exec 3<>/dev/tcp/127.0.0.1/{server.port}; cat <&3 & exec cat >&3"
    ssh_config(isolated_home, f"Host w1\n  ProxyCommand bash -c '{relay}'\n")
    async with connect(host, [known_hosts]):
        assert server.logins == ["ml"]
    assert (await scan_key(host, [known_hosts])).is_known


async def test_a_key_file_that_is_none_is_named(
    host: Host, known_hosts: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    error = await why_not(replace(host, identity_file=str(broken)), known_hosts)
    assert isinstance(error, AuthenticationError)
    assert f"the key file {broken} cannot be used" in str(error)


@pytest.mark.parametrize("where", ["inventory", "ssh config"])
async def test_a_public_key_file_names_a_key_of_the_agent(
    server: Server, host: Host, known_hosts: Path, tmp_path: Path, isolated_home: Path,
    monkeypatch: pytest.MonkeyPatch, where: str,
) -> None:  # fmt: skip
    public = tmp_path / "work.pub"
    public.write_bytes(server.admitted.export_public_key())
    wanted = replace(host, identity_file=str(public) if where == "inventory" else None)
    ssh_config(isolated_home, f"Host *\n  IdentityFile {public}\n")
    error = await why_not(wanted, known_hosts)
    assert f"{public} is a public key" in str(error)
    assert "ssh-add" in error.remedy
    path = tmp_path / "agent"
    agent = await asyncio.create_subprocess_exec("ssh-agent", "-D", "-a", str(path), stdout=-3)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        add = await asyncio.create_subprocess_shell(
            f"until [ -S {path} ]; do sleep 0.02; done; ssh-add -q -", stdin=-1, stderr=-1
        )
        await add.communicate(server.admitted.export_private_key())
        assert add.returncode == 0
        async with connect(wanted, [known_hosts]):
            pass
    finally:
        agent.terminate()
        await agent.wait()
