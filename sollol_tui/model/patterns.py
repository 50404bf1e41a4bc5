"""Worker patterns: `3`, `all`, `hydra,attic`, a group, `tag:cuda`, `!desktop`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sollol_tui.model.inventory import ConnectionKind, Host, Inventory
from sollol_tui.model.names import COORDINATOR, not_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The hosts that a pattern admits, in the inventory's order. When it was a number, exactly that
    many workers are taken of them."""

    hosts: tuple[Host, ...]
    at_most: int | None = None

    @property
    def at_least(self) -> int:
        return self.at_most or 1


def select(inventory: Inventory, pattern: str) -> Selection:
    """Resolves a pattern. Disabled hosts take part only when named, and so do the coordinator and
    other local hosts, unless the inventory holds nothing else. Raises NotFoundError for a part that
    fits no host."""
    enabled = [host for host in inventory.hosts if host.enabled and host.name != COORDINATOR]
    remote = [host for host in enabled if host.connection is not ConnectionKind.LOCAL]
    usable = remote or enabled
    pattern = pattern.strip()
    if pattern.isdecimal() and int(pattern[:9]) > 0:
        return Selection(hosts=tuple(usable), at_most=int(pattern[:9]))
    everyone = inventory.with_coordinator()
    wanted = _wanted(everyone, usable, pattern)
    return Selection(hosts=tuple(host for host in everyone.hosts if host.name in wanted))


def matching(inventory: Inventory, pattern: str) -> tuple[Host, ...]:
    """The hosts of the inventory that a pattern means when it is not about taking part in a job:
    disabled and local ones too. Raises NotFoundError for a part that fits no host."""
    wanted = _wanted(inventory, inventory.hosts, pattern)
    return tuple(host for host in inventory.hosts if host.name in wanted)


def names_meant(inventory: Inventory, patterns: Sequence[str]) -> frozenset[str]:
    """The hosts of the inventory that any of the patterns means; without a pattern all."""
    if not patterns:
        return frozenset(host.name for host in inventory.hosts)
    return frozenset(host.name for each in patterns for host in matching(inventory, each))


def _wanted(inventory: Inventory, usable: Sequence[Host], pattern: str) -> set[str]:
    parts = [part.strip() for part in pattern.split(",") if part.strip()]
    wanted: set[str] = set()
    if parts and all(part.startswith("!") for part in parts):
        wanted = {host.name for host in usable}
    for part in parts:
        names = _names(inventory, usable, part.removeprefix("!"))
        wanted = wanted - names if part.startswith("!") else wanted | names
    return wanted


def _names(inventory: Inventory, usable: Sequence[Host], part: str) -> set[str]:
    if part == "all":
        return {host.name for host in usable}
    if part.startswith("tag:"):
        names = {host.name for host in usable if part[4:] in host.tags}
    elif part in inventory.groups:
        names = {host.name for host in usable if part in host.groups}
    else:
        names = {host.name for host in inventory.hosts if host.name == part}
    if not names:
        known = [*_told(inventory), *inventory.groups, "all"]
        raise not_found("no host or group fits", part, known, where=f" in {inventory.file}")
    return names


def _told(inventory: Inventory) -> Iterator[str]:
    """The names of the hosts that the file has; the coordinator always exists."""
    return (host.name for host in inventory.hosts if host.name != COORDINATOR)
