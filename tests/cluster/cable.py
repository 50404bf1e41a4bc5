"""A lab machine's network: its namespace, its cable to the switch, and what may go wrong with it.

Refuses: to know what runs behind the network card.
"""

import shlex
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

NAMESPACES = Path("/run/netns")
BRIDGE = "bridge"


class LabError(Exception):
    """The lab could not do what a test asked of it."""


def tool(*argv: str, timeout_s: float = 20.0) -> str:
    """Runs a system tool to its end and returns what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise LabError(f"{shlex.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """From `eth0` in the host's namespace to the port of the switch that has the host's name."""

    name: str
    address: str
    gateway: str
    namespace: str
    switch: str

    def plug_in(self, rate: str) -> None:
        """Makes the namespace anew: a kernel that has just booted remembers no connection."""
        self.unplug()
        if (NAMESPACES / self.namespace).exists():
            tool("ip", "netns", "del", self.namespace)
        tool("ip", "netns", "add", self.namespace)
        # The card keeps its address over a reboot, so neighbours need not ask for it again.
        number = f"{int(ip_address(self.address)):08x}"
        mac = "02:00:" + ":".join(number[at : at + 2] for at in range(0, 8, 2))
        card = ["eth0", "address", mac, "netns", self.namespace]
        self._at_switch("link", "add", self.name, "type", "veth", "peer", "name", *card)
        self._at_switch("link", "set", self.name, "master", BRIDGE, "up")
        self._at_host("addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._at_host("link", "set", device, "up")
        self._at_host("route", "add", "default", "via", self.gateway)
        self.set_rate(rate)

    def unplug(self) -> None:
        """Takes the network away for good: nothing that is said from now on reaches anyone."""
        if f" {self.name}@" in tool("ip", "-n", self.switch, "-o", "link"):
            self._at_switch("link", "del", self.name)

    def cut(self) -> None:
        self._at_switch("link", "set", self.name, "down")

    def heal(self) -> None:
        self._at_switch("link", "set", self.name, "up")
        self._filter("-F", "INPUT")

    def drop_incoming_from(self, address: str) -> None:
        self._filter("-I", "INPUT", "-s", address, "-j", "DROP")

    def set_rate(self, rate: str) -> None:
        shape = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "100ms"]
        tool("tc", "-n", self.namespace, "qdisc", "replace", "dev", "eth0", *shape)
        tool("tc", "-n", self.switch, "qdisc", "replace", "dev", self.name, *shape)

    def _at_switch(self, *words: str) -> None:
        tool("ip", "-n", self.switch, *words)

    def _at_host(self, *words: str) -> None:
        tool("ip", "-n", self.namespace, *words)

    def _filter(self, *words: str) -> None:
        tool("ip", "netns", "exec", self.namespace, "iptables", "-w", *words)
