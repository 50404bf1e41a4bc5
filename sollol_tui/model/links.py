"""What the hosts of a job can do for each other: the pairs, what was found between them, and what
opens a port that is shut. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

COST_BYTES: Final = 50_000_000  # the gradients of a small adapter: TinyLlama, r=32, bf16


class Reach(StrEnum):
    """What becomes of a connection to a port; `stranger` when another program answers there."""

    OK = "ok"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNREACHABLE = "no route"
    STRANGER = "stranger"
    UNTRIED = "not tried"


_SHUT: Final = (Reach.FILTERED, Reach.REFUSED, Reach.UNREACHABLE)


class Firewall(StrEnum):
    UFW = "ufw"
    FIREWALLD = "firewalld"
    NFTABLES = "nftables"
    IPTABLES = "iptables"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One host as its peers see it, the way training does: its address, the interface that owns it
    (GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME), and the two ports that were tried there. `problem`
    says why it could not take part in the check."""

    host: str
    address: str
    has_gpus: bool = False
    interface: str = ""
    speed_mbit: int | None = None
    job_port: int | None = None
    free_port: int | None = None
    firewall: Firewall = Firewall.UNKNOWN
    problem: str = ""
    remedy: str = ""

    @property
    def backends(self) -> str:
        """Who is told the interface; ranks on GPUs use both."""
        return "gloo and NCCL" if self.has_gpus else "gloo"

    @property
    def is_public(self) -> bool:
        """Not private, not CGNAT or a VPN's range, not of this machine alone."""
        return _address(self.address).is_global

    @property
    def is_loopback(self) -> bool:
        return _address(self.address).is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction between two hosts. `source` is the address from which the kernel reaches the
    target."""

    origin: str
    target: str
    job_port: Reach = Reach.UNTRIED
    free_port: Reach = Reach.UNTRIED
    detail: str = ""
    source: str = ""
    bytes_per_s: float | None = None
    latency_s: float | None = None

    @property
    def is_open(self) -> bool:
        return self.job_port in (Reach.OK, Reach.UNTRIED) and self.free_port is Reach.OK

    @property
    def blocked(self) -> Reach | None:
        """What keeps a job from using it, if anything."""
        if self.is_open:
            return None
        return self.free_port if self.free_port is not Reach.OK else self.job_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A line for one host's administrator; `alternative` where its firewall is not known."""

    host: str
    firewall: Firewall
    line: str
    alternative: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkReport:
    endpoints: tuple[Endpoint, ...]
    links: tuple[Link, ...]

    @property
    def blocked(self) -> tuple[Link, ...]:
        return tuple(link for link in self.links if link.blocked is not None)

    @property
    def has_failed(self) -> bool:
        return bool(self.blocked) or any(each.problem for each in self.endpoints)

    @property
    def slowest(self) -> Link | None:
        measured = [link for link in self.links if link.bytes_per_s]
        return min(measured, key=lambda link: link.bytes_per_s or 0.0, default=None)

    @property
    def astray(self) -> tuple[Link, ...]:
        """Those whose packets leave by another address than the one that peers are told."""
        told = {each.host: each.address for each in self.endpoints}
        return tuple(
            link for link in self.links if link.source and link.source != told[link.origin]
        )

    @property
    def cut_off(self) -> tuple[str, ...]:
        """Those with whom nothing works in either direction, while others reach each other. Each
        loses even the replies to its own connections, so the firewall in the way is its own."""
        reached = {name for link in self.links if link.blocked is None for name in _ends(link)}
        shut = {name for link in self.blocked if link.blocked in _SHUT for name in _ends(link)}
        return tuple(
            each.host for each in self.endpoints if reached and each.host in shut - reached
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """For each host that keeps others out, the line that admits all of its peers."""
        shut = [link for link in self.blocked if link.blocked in _SHUT]
        admitting = {link.target for link in self.links if link.blocked is None}
        cut_off = self.cut_off
        keepers = {
            link.target
            for link in shut
            if not (link.origin in cut_off and link.target in admitting)
        }
        usable = [each for each in self.endpoints if each.interface and not each.is_loopback]
        return tuple(
            admission(each, [peer.address for peer in usable if peer.host != each.host])
            for each in usable
            if each.host in keepers
        )

    def as_data(self) -> dict[str, Any]:
        slowest = self.slowest
        return {
            "endpoints": [
                {**asdict(each), "public": each.is_public, "backends": each.backends}
                for each in self.endpoints
            ],
            "links": [{**asdict(link), "open": link.is_open} for link in self.links],
            "slowest": slowest and {"origin": slowest.origin, "target": slowest.target},
            "remedies": [asdict(each) for each in self.remedies],
        }


def _ends(link: Link) -> tuple[str, str]:
    return link.origin, link.target


def cost_s(link: Link) -> float | None:
    """How long COST_BYTES take on it."""
    return COST_BYTES / link.bytes_per_s if link.bytes_per_s else None


def rounds(names: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Every unordered pair once, in rounds in which nobody stands twice (the circle method of
    round-robin tournaments), so that no measurement disturbs another."""
    circle: list[str | None] = list(names)
    if len(circle) % 2:
        circle.append(None)
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        ends = zip(circle[:half], reversed(circle[half:]), strict=True)
        yield [(one, other) for one, other in ends if one is not None and other is not None]
        circle = [circle[0], circle[-1], *circle[1:-1]]


def admission(keeper: Endpoint, peers: Sequence[str]) -> Remedy:
    """The line that lets TCP from `peers` in. gloo and NCCL take the ports that the kernel gives
    them, so it cannot name ports."""
    lines = {
        Firewall.UFW: _ufw,
        Firewall.FIREWALLD: _firewalld,
        Firewall.NFTABLES: _nft,
        Firewall.IPTABLES: _iptables,
    }
    unique = list(dict.fromkeys(str(_address(peer)) for peer in peers))
    write = lines.get(keeper.firewall)
    if write is None:
        return Remedy(
            host=keeper.host,
            firewall=keeper.firewall,
            line=_ufw(unique),
            alternative=_nft(unique),
        )
    return Remedy(host=keeper.host, firewall=keeper.firewall, line=write(unique))


def _ufw(peers: Sequence[str]) -> str:
    if len(peers) == 1:
        return f"sudo ufw allow proto tcp from {peers[0]}"
    return f"for ip in {' '.join(peers)}; do sudo ufw allow proto tcp from $ip; done"


def _firewalld(peers: Sequence[str]) -> str:
    rules = " ".join(
        f"--add-rich-rule='rule family=ipv{ipaddress.ip_address(peer).version} "
        f"source address={peer} protocol value=tcp accept'"
        for peer in peers
    )
    return f"sudo firewall-cmd --permanent {rules} && sudo firewall-cmd --reload"


def _nft(peers: Sequence[str]) -> str:
    return " && ".join(
        f"sudo nft insert rule inet filter input {protocol} saddr '{{ {', '.join(some)} }}' "
        "meta l4proto tcp accept"
        for protocol, some in zip(("ip", "ip6"), _by_version(peers), strict=True)
        if some
    )


def _iptables(peers: Sequence[str]) -> str:
    return " && ".join(
        f"sudo {tool} -I INPUT -p tcp -s {','.join(some)} -j ACCEPT"
        for tool, some in zip(("iptables", "ip6tables"), _by_version(peers), strict=True)
        if some
    )


def _by_version(peers: Sequence[str]) -> tuple[list[str], list[str]]:
    split: Mapping[int, list[str]] = {4: [], 6: []}
    for peer in peers:
        split[ipaddress.ip_address(peer).version].append(peer)
    return split[4], split[6]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError for what is no address; endpoints are made of addresses only."""
    return ipaddress.ip_address(text.partition("%")[0])
