"""Tries the network between hosts as a job would use it: ports both ways, bandwidth, latency.

The payload's `remote/link.py` runs on each host for as long as that takes, under whatever Python 3
is there; it travels on standard input, so nothing needs to be installed. Leaves nothing behind.
"""

import asyncio
import ipaddress
import json
import math
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.shell import assignments, script
from sollol_tui.hosts.ssh import HostConnection, RemoteProcess, connect
from sollol_tui.model.errors import CommandError, HostError, unexpected
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Host, Network
from sollol_tui.model.links import Endpoint, Firewall, Link, NetworkReport, Reach, rounds
from sollol_tui.model.text import clean

ANSWER_S: Final = 20.0
PROBE_S: Final = 4.0  # a SYN is sent again after 1 s and 3 s
MEASURE_S: Final = 1.0
MEASURE_BYTES: Final = 64_000_000
MEASURE_LIMIT_S: Final = 20.0  # of one direction, with all that may stall in it
_MAX_LINE: Final = 1024 * 1024

_OWN_ADDRESS: Final = "set internal_ip of the host in the inventory to one of its own addresses"

# A Python of 3.8 or newer that starts; pyenv's shims only when nothing else does.
_START: Final = r"""
for python in $pythons "$workdir"/envs/*/bin/python "$workdir"/python/cpython-3*/bin/python3 \
    /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 "$HOME"/miniconda3/bin/python3 \
    "$HOME"/.local/share/uv/python/cpython-3*/bin/python3 "$(command -v python3)"; do
  [ -x "$python" ] || continue
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' </dev/null 2>/dev/null ||
    continue
  exec "$python" -I -c "$bootstrap" "$size"
done
echo '{"v": 1, "error": "no Python"}'
"""
_BOOTSTRAP: Final = (
    "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), 'link', 'exec'))"
)

# Told by files and services that anybody may read; rules themselves only to root.
_FIREWALL: Final = r"""
PATH=$PATH:/usr/sbin:/sbin
active() { systemctl is-active --quiet "$1" 2>/dev/null; }
if grep -qsi '^ENABLED=yes' /etc/ufw/ufw.conf; then echo ufw
elif active firewalld || [ -e /run/firewalld ]; then echo firewalld
elif iptables -S INPUT 2>/dev/null | grep -qE -e '-j (DROP|REJECT)|^-P INPUT (DROP|REJECT)'; then
  echo iptables
elif active nftables || nft list ruleset 2>/dev/null | grep -qE 'policy drop|(drop|reject)$'; then
  echo nftables
elif active netfilter-persistent || active iptables; then echo iptables
else echo unknown; fi
"""


@dataclass(slots=True, kw_only=True)
class _Station:
    """A host while it is examined."""

    host: Host
    facts: HostFacts
    endpoint: Endpoint
    process: RemoteProcess | None = None
    requests: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, within_s: float, **request: object) -> dict[str, Any]:
        """One request to link.py there. Raises CommandError when it cannot carry it out."""
        assert self.process is not None
        async with self.turn:
            self.requests += 1
            line = json.dumps({"v": 1, "id": self.requests, **request}).encode() + b"\n"
            try:
                async with asyncio.timeout(within_s):
                    with suppress(BrokenPipeError):  # what it said before it ended tells why
                        await self.process.write(line)
                    answer = await self._answer()
            except TimeoutError:
                raise CommandError(
                    self.host.name, f"its network check gave no answer within {within_s:g} s"
                ) from None
        if answer.get("error"):
            raise CommandError(
                self.host.name,
                clean(str(answer["error"]), limit=300),
                remedy=_OWN_ADDRESS if request.get("op") == "open" else "",
            )
        return answer

    async def _answer(self) -> dict[str, Any]:
        assert self.process is not None
        while line := await self.process.readline(_MAX_LINE):
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(answer, dict) or answer.get("v") != 1:
                continue
            if answer.get("error") == "no Python":
                raise CommandError(
                    self.host.name,
                    "has no Python 3.8 or newer to check its network with",
                    remedy=f"sollol provision {self.host.name} brings one",
                )
            if answer.get("id") == self.requests:
                return answer
        said = clean(self.process.error_output[-300:], limit=200)
        raise CommandError(self.host.name, f"its network check ended early: {said or 'no reason'}")


async def examine_network(
    hosts: Sequence[tuple[Host, HostFacts]],
    network: Network,
    known_hosts: Sequence[Path],
    say: Callable[[str], None],
) -> NetworkReport:
    """Every ordered pair of `hosts`: reached at once, then measured in rounds of disjoint pairs.
    A host that fails is an endpoint with a problem. `say` hears of the progress."""
    stations = {host.name: _station(host, facts) for host, facts in hosts}
    secret = {"token": secrets.token_hex(16), "proof": secrets.token_hex(16)}
    async with AsyncExitStack() as stack:
        say(f"opening ports on {len(stations)} hosts")
        await _each((s, _open(s, network, known_hosts, secret, stack)) for s in _usable(stations))
        links = _pairs(stations)
        say(f"trying {len(links)} directions")
        await _each((s, _probe(s, stations, links)) for s in _usable(stations))
        await _measure_all(stations, links, say)
    return NetworkReport(
        endpoints=tuple(station.endpoint for station in stations.values()),
        links=tuple(links.values()),
    )


_Links = dict[tuple[str, str], Link]


def _station(host: Host, facts: HostFacts) -> _Station:
    address = facts.address.partition("%")[0]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        said = clean(address, limit=80) or "nothing"
        endpoint = Endpoint(
            host=host.name,
            address="0.0.0.0",
            problem=f"says that its address is {said}",
            remedy=_OWN_ADDRESS,
        )
    else:
        endpoint = Endpoint(host=host.name, address=address, has_gpus=bool(facts.gpus))
    return _Station(host=host, facts=facts, endpoint=endpoint)


def _usable(stations: Mapping[str, _Station]) -> list[_Station]:
    return [station for station in stations.values() if not station.endpoint.problem]


async def _each(works: Iterable[tuple[_Station, Coroutine[Any, Any, None]]]) -> None:
    """All at once. A host that fails is a value, and stops nobody else."""

    async def guarded(station: _Station, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # one host's, whatever it is, must not end the others' check
            told = error if isinstance(error, HostError) else unexpected(station.host.name, error)
            station.endpoint = replace(
                station.endpoint, problem=told.message, remedy=told.remedy, interface=""
            )

    async with asyncio.TaskGroup() as group:
        for station, work in works:
            group.create_task(guarded(station, work))


async def _open(
    station: _Station,
    network: Network,
    known_hosts: Sequence[Path],
    secret: Mapping[str, str],
    stack: AsyncExitStack,
) -> None:
    connection = await stack.enter_async_context(connect(station.host, known_hosts))
    station.process = await _start(connection, station.facts)
    stack.push_async_callback(station.process.close)
    firewall = await _firewall(connection)
    answer = await station.ask(
        ANSWER_S,
        op="open",
        address=station.endpoint.address,
        ports=list(network.ports),
        **secret,
    )
    speed = answer.get("speed_mbit")
    station.endpoint = replace(
        station.endpoint,
        interface=clean(str(answer.get("interface") or ""), limit=32) or "?",
        speed_mbit=speed if isinstance(speed, int) and 0 < speed < 10_000_000 else None,
        job_port=_port(answer.get("job_port")),
        free_port=_port(answer.get("free_port")),
        firewall=firewall,
    )


def _port(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < 65536 else None


async def _start(connection: HostConnection, facts: HostFacts) -> RemoteProcess:
    program = await asyncio.to_thread((payloads.payload_root() / "remote" / "link.py").read_bytes)
    variables = {
        "pythons": " ".join(python.path for python in facts.pythons if " " not in python.path),
        "workdir": facts.workdir,
        "bootstrap": _BOOTSTRAP,
        "size": str(len(program)),
    }
    process = await connection.open(f"{assignments(variables)}\n{_START}")
    with suppress(BrokenPipeError):
        await process.write(program)
    return process


async def _firewall(connection: HostConnection) -> Firewall:
    """The firewall seen at work there; what cannot be told is unknown, never an error."""
    try:
        done = await connection.run("sh -s", input=script(_FIREWALL), timeout_s=ANSWER_S)
        return Firewall(clean(done.stdout, limit=40).strip())
    except (CommandError, ValueError):
        return Firewall.UNKNOWN


def _pairs(stations: Mapping[str, _Station]) -> _Links:
    usable = [station.endpoint for station in _usable(stations)]
    links = {}
    for origin in usable:
        for target in usable:
            if origin is target:
                continue
            link = Link(origin=origin.host, target=target.host)
            if target.is_loopback and not origin.is_loopback:
                link = replace(
                    link,
                    free_port=Reach.UNREACHABLE,
                    detail=f"{target.address} is {target.host}'s own; set its internal_ip",
                )
            links[origin.host, target.host] = link
    return links


async def _probe(station: _Station, stations: Mapping[str, _Station], links: _Links) -> None:
    """All peers of one host at once; both ports of each."""
    targets = []
    for (origin, name), link in links.items():
        peer = stations[name].endpoint
        if origin != station.host.name or link.free_port is not Reach.UNTRIED:
            continue
        for kind, port in (("job_port", peer.job_port), ("free_port", peer.free_port)):
            if port is not None:
                targets.append({"key": f"{name} {kind}", "address": peer.address, "port": port})
    if not targets:
        return
    patience_s = max(stations[name].host.connect_timeout_s for name in stations)
    timeout_s = min(PROBE_S, patience_s)
    answer = await station.ask(
        timeout_s + ANSWER_S, op="probe", targets=targets, timeout_s=timeout_s
    )
    results = answer.get("results")
    for result in results if isinstance(results, list) else []:
        if not isinstance(result, dict):
            continue
        name, _, kind = str(result.get("key")).partition(" ")
        known = links.get((station.host.name, name))
        if known is None or kind not in ("job_port", "free_port"):
            continue
        reach = _reach(result.get("outcome"))
        detail = clean(str(result.get("detail") or ""), limit=120)
        links[station.host.name, name] = replace(
            known,
            job_port=reach if kind == "job_port" else known.job_port,
            free_port=reach if kind == "free_port" else known.free_port,
            detail=known.detail or detail,
            source=_source(result.get("source")),
        )


def _reach(value: object) -> Reach:
    told = {
        "ok": Reach.OK,
        "refused": Reach.REFUSED,
        "filtered": Reach.FILTERED,
        "unreachable": Reach.UNREACHABLE,
    }
    return told.get(str(value), Reach.STRANGER)


def _source(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        return ""


async def _measure_all(
    stations: Mapping[str, _Station], links: _Links, say: Callable[[str], None]
) -> None:
    names = [station.host.name for station in _usable(stations)]
    plan = list(rounds(names))
    for number, pairs in enumerate(plan, 1):
        say(f"measuring, round {number} of {len(plan)}")
        for directed in (pairs, [(other, one) for one, other in pairs]):
            await _each(
                (stations[origin], _measure(stations[origin], stations[target], links))
                for origin, target in directed
            )


async def _measure(origin: _Station, target: _Station, links: _Links) -> None:
    """Over the port that is open; a link that lets nothing through is told by its probe."""
    if origin.endpoint.problem or target.endpoint.problem:
        return
    key = (origin.host.name, target.host.name)
    link = links[key]
    port = target.endpoint.free_port if link.free_port is Reach.OK else target.endpoint.job_port
    if Reach.OK not in (link.free_port, link.job_port):
        return
    try:
        answer = await origin.ask(
            MEASURE_LIMIT_S,
            op="measure",
            address=target.endpoint.address,
            port=port,
            seconds=MEASURE_S,
            bytes=MEASURE_BYTES,
            timeout_s=PROBE_S,
        )
    except CommandError as error:
        links[key] = replace(link, detail=f"opens, but {error.message}")
        return
    rate, latency = _number(answer.get("bytes_per_s")), _number(answer.get("latency_s"))
    links[key] = replace(link, bytes_per_s=rate or None, latency_s=latency)
    if not rate:
        links[key] = replace(
            links[key], detail="opens, but large packets are lost: is the MTU right?"
        )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
