"""The network interfaces of a host that are up, with their addresses and speeds.

Asked of `ip` where it lies at a usual place, else of /proc. The parser is pure. Refuses what leads
nowhere: loopback, link-local and passing addresses.
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from typing import Final

from sollol_tui.hosts.answers import Said
from sollol_tui.model.facts import Interface
from sollol_tui.model.text import clean

_MAX: Final = 64
_DOWN: Final = ("down", "lowerlayerdown", "notpresent", "dormant")
_PASSING_FLAGS: Final = 0x01 | 0x20  # temporary, deprecated: linux/if_addr.h

SCRIPT: Final = r"""
for folder in /sys/class/net/*; do
  peek "$folder/operstate"; state=$value
  peek "$folder/speed"; say link "${folder##*/} $state $value"
done
for file in /usr/sbin/ip /sbin/ip /usr/bin/ip /bin/ip ''; do [ -x "$file" ] && break; done
if [ -n "$file" ]; then
  addresses=$("$file" -o addr 2>/dev/null </dev/null)
  set -f; IFS=$nl; printf 'ip=%s\n' $addresses; unset IFS; set +f
else
  sed -n -e '/|-- /h' -e '/\/32 host LOCAL/{x;s/.*|-- /local=/p;}' /proc/net/fib_trie
  while read -r name target gateway _ _ _ _ mask _; do
    say route "$name $target $gateway $mask"
  done </proc/net/route
  while read -r line; do say inet6 "$line"; done </proc/net/if_inet6
fi 2>/dev/null
"""


def parse_interfaces(said: Said) -> tuple[Interface, ...]:
    """One entry per address; an interface of which nothing else is known counts as up."""
    states: dict[str, tuple[str, str]] = {}
    for line in said.get("link", ()):
        name, _, rest = line.partition(" ")
        state, _, speed = rest.partition(" ")
        states[name] = (state, speed)
    found: dict[tuple[str, str], Interface] = {}
    for name, text in (*_by_ip(said), *_by_proc(said)):
        state, speed = states.get(name, ("", ""))
        try:
            own = ip_interface(text)
        except ValueError:
            continue
        if state in _DOWN or own.is_loopback or own.is_link_local or own.is_unspecified:
            continue
        shown = clean(name, limit=40)
        found.setdefault(
            (shown, str(own.ip)),
            Interface(
                name=shown,
                address=str(own.ip),
                prefix=own.network.prefixlen,
                # -1 and 4294967295 both mean that the driver does not know.
                speed_mbit=int(speed)
                if speed.isdecimal() and 0 < int(speed[:10]) < 10**7
                else None,
            ),
        )
    return tuple(found.values())[:_MAX]


def address_in(found: Sequence[Interface], cidr: str | None, reached: str) -> str:
    """The address at which the others reach the host: one in the network that they share, else the
    one at which it was `reached`, which is also the first choice of several."""
    if cidr is None:
        return reached
    network = ip_network(cidr)
    there = [each.address for each in found if ip_address(each.address) in network]
    return reached if reached in there or not there else there[0]


def source_address(peer: str) -> str | None:
    """The address from which this machine reaches another one; None where no way leads there.
    Nothing is sent."""
    family = socket.AF_INET6 if ip_address(peer).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as end:
        try:
            end.connect((peer, 9))
        except OSError:
            return None
        return str(end.getsockname()[0])


def _by_ip(said: Said) -> Iterator[tuple[str, str]]:
    """`2: eth0    inet 10.0.0.2/24 brd ...`; a tunnel's own address stands before `peer`."""
    for line in said.get("ip", ()):
        words = line.split()
        if len(words) < 4 or words[2] not in ("inet", "inet6"):
            continue
        if {"temporary", "deprecated", "tentative", "dadfailed"} & set(words):
            continue
        address = words[3]
        if len(words) > 5 and words[4] == "peer":
            address = f"{address}/{words[5].partition('/')[2] or 32}"
        yield words[1].partition("@")[0], address


def _by_proc(said: Said) -> Iterator[tuple[str, str]]:
    """The addresses of the routing trie, at the interface whose network holds them, and those of
    if_inet6. An address that no route leads to has no interface here."""
    networks = []
    for line in said.get("route", ()):
        name, target, gateway, mask = (line.split() + [""] * 4)[:4]
        if gateway == "00000000" and (network := _network(target, mask)) is not None:
            networks.append((network, name))
    networks.sort(key=lambda entry: -entry[0].prefixlen)
    for text in said.get("local", ()):
        try:
            own = ip_address(text.strip())
        except ValueError:
            continue
        at = next(((network, name) for network, name in networks if own in network), None)
        if at is not None:
            yield at[1], f"{own}/{at[0].prefixlen}"
    for line in said.get("inet6", ()):
        fields = line.split()
        if len(fields) != 6 or len(fields[0]) != 32:
            continue
        try:
            prefix, flags = int(fields[2], 16), int(fields[4], 16)
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
        except ValueError:
            continue
        if not flags & _PASSING_FLAGS:
            yield fields[5], f"{address}/{prefix}"


def _network(target: str, mask: str) -> IPv4Network | None:
    """Of two words of /proc/net/route, which are in the byte order of the kernel's machine."""
    try:
        address, bits = (struct.pack("<I", int(word, 16)) for word in (target, mask))
        return IPv4Network((address, bin(int.from_bytes(bits, "big")).count("1")))
    except (ValueError, struct.error):
        return None
