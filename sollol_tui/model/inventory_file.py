"""inventory.yaml: reads its text into an Inventory, or into every problem with its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any

from sollol_tui.model.document import Document, check, read_document, unknown_key
from sollol_tui.model.errors import InputError, NotFoundError, Problem
from sollol_tui.model.inventory import (
    ConnectionKind,
    Host,
    Inventory,
    Limits,
    Network,
    Packages,
)
from sollol_tui.model.inventory_settings import (
    SECRETS,
    SETTING_ALIASES,
    HostSettings,
    NetworkSettings,
    PackageSettings,
)
from sollol_tui.model.names import COORDINATOR, JUMP, MAX_JUMPS, check_name
from sollol_tui.model.patterns import select

_RANGE = re.compile(r"(.*?)\[(\d{1,9}):(\d{1,9})\](.*)")
_MAX_NAMES = 1000  # that one entry may stand for


@dataclass(slots=True)
class _Reader:
    """Walks the document and gathers problems, so that the user sees all of them at once."""

    document: Document
    problems: list[Problem] = field(default_factory=list)

    def take(self, kind: type, data: Any, path: tuple[str | int, ...]) -> Any:
        """`data` as a `kind`, or None after its problems were noted."""
        try:
            return check(self.document, kind, data, path)
        except InputError as error:
            self.problems += error.problems
            return None

    def note(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(self.document.problem(path, message))

    def settings(self, data: Any, path: tuple[str | int, ...]) -> HostSettings:
        if data is None:
            return HostSettings()
        if isinstance(data, dict):
            for key in data:
                if SECRETS.search(key):
                    self.note(
                        (*path, key),
                        f"'{key}': secrets do not belong in this file; use keys or ssh-agent",
                    )
            data = {
                SETTING_ALIASES.get(key, key): value
                for key, value in data.items()
                if not SECRETS.search(key)
            }
        return self.take(HostSettings, data, path) or HostSettings()


_TOP = ["version", "defaults", "hosts", "groups", "network", "packages"]


def parse_inventory(raw: bytes, file: str) -> Inventory:
    """Reads the bytes of an inventory file. Raises InputError with every problem in it."""
    document = read_document(raw, file)
    reader = _Reader(document)
    data = document.data
    if not isinstance(data, dict):
        raise InputError(
            [document.problem((), "holds no mapping; the shortest inventory is 'hosts: [HOST]'")]
        )
    for key in data:
        if key not in _TOP:
            reader.note((key,), unknown_key(key, _TOP))
    if data.get("version", 1) != 1:
        reader.note(
            ("version",), f"version {data['version']!r} is not known; this sollol reads version 1"
        )
    defaults = reader.settings(data.get("defaults"), ("defaults",))
    own = dict(_host_entries(reader, data.get("hosts")))
    groups = _group_entries(reader, data.get("groups"))
    network = reader.take(NetworkSettings, data.get("network") or {}, ("network",))
    hosts = _resolve(reader, file, own, groups, defaults)
    packages = reader.take(PackageSettings, data.get("packages") or {}, ("packages",))
    if reader.problems:
        raise InputError(reader.problems)
    return Inventory(
        file=file,
        hosts=tuple(replace(host, cidr=network.cidr) for host in hosts),
        groups=tuple(groups),
        network=Network(cidr=network.cidr, ports=network.ports),
        packages=_packages(packages, file),
    )


def _packages(settings: PackageSettings, file: str) -> Packages:
    """A relative wheelhouse lies beside the file."""
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    if settings.wheelhouse is not None and not settings.wheelhouse.startswith("~"):
        values["wheelhouse"] = str(PurePath(file).parent / settings.wheelhouse)
    return Packages(**values)


def _host_entries(reader: _Reader, data: Any) -> Iterator[tuple[str, HostSettings]]:
    seen: set[str] = set()
    if isinstance(data, list):
        entries: list[tuple[Any, Any, tuple[str | int, ...]]] = [
            (name, None, ("hosts", index)) for index, name in enumerate(data)
        ]
    elif isinstance(data, dict):
        entries = [(name, value, ("hosts", name)) for name, value in data.items()]
    else:
        reader.note(("hosts",), "lacks hosts; the shortest inventory is 'hosts: [HOST]'")
        return
    if not entries:
        reader.note(("hosts",), "names no host")
    for pattern, value, path in entries:
        settings = reader.settings(value, path)
        if not isinstance(pattern, str):
            reader.note(path, f"a name is text; put it into quotes: without them it is {pattern}")
            continue
        for name in expand_names(pattern):
            try:
                check_name(name)
            except ValueError as error:
                reader.note(path, _range_problem(name) or str(error))
                continue
            if name in seen:
                reader.note(path, f"host '{name}' is there twice")
            elif name.isdecimal():
                reader.note(path, f"'{name}' means that many workers; give it a name with a letter")
            elif name in ("all", COORDINATOR) and settings.connection != "local":
                reader.note(path, f"'{name}' is a reserved name; choose another")
            else:
                seen.add(name)
                yield name, settings


def expand_names(pattern: str) -> list[str]:
    """The names of `pi[01:03]`; leading zeros are kept. A range that is empty or too long is left
    as it stands, which is no name."""
    match = _RANGE.fullmatch(pattern)
    if match is None:
        return [pattern]
    before, first, last, after = match.groups()
    numbers, endings = range(int(first), int(last) + 1), expand_names(after)
    if not 0 < len(numbers) * len(endings) <= _MAX_NAMES or _RANGE.fullmatch(endings[0]):
        return [pattern]
    return [f"{before}{number:0{len(first)}d}{ending}" for number in numbers for ending in endings]


def _range_problem(pattern: str) -> str:
    """Why a range was left as it stands; empty for what is none."""
    shown, ranges = f"{pattern[:80]!r}", re.findall(r"\[(\d{1,9}):(\d{1,9})\]", pattern)
    if any(int(first) > int(last) for first, last in ranges):
        return f"{shown} goes down; write the smaller number first"
    return f"{shown} stands for more than {_MAX_NAMES} hosts; split it" if ranges else ""


def _group_entries(reader: _Reader, data: Any) -> dict[str, tuple[str, HostSettings]]:
    groups: dict[str, tuple[str, HostSettings]] = {}
    if data is not None and not isinstance(data, dict):
        reader.note(("groups",), "groups: write NAME: {match: PATTERN}")
        return groups
    for name, value in (data or {}).items():
        path = ("groups", name)
        if not isinstance(value, dict) or not isinstance(value.get("match"), str | list):
            reader.note(path, f"group '{name}' needs match: a pattern or a list of hosts")
            continue
        match = value["match"]
        rest = {key: item for key, item in value.items() if key != "match"}
        pattern = ",".join(map(str, match)) if isinstance(match, list) else match
        groups[name] = (pattern, reader.settings(rest, path))
    return groups


def _resolve(
    reader: _Reader,
    file: str,
    own: dict[str, HostSettings],
    groups: dict[str, tuple[str, HostSettings]],
    defaults: HostSettings,
) -> tuple[Host, ...]:
    """Lays defaults under groups under each host's own settings."""
    bare = Inventory(
        file=file, hosts=tuple(Host(name=name, tags=s.tags or ()) for name, s in own.items())
    )
    members: dict[str, set[str]] = {}
    for group, (pattern, _) in groups.items():
        try:
            members[group] = {host.name for host in select(bare, pattern).hosts}
        except NotFoundError as error:
            reader.note(("groups", group), f"group '{group}': {error}")
    hosts = []
    for name, settings in own.items():
        mine = tuple(group for group, names in members.items() if name in names)
        layers = [defaults, *(groups[group][1] for group in mine), settings]
        hosts.append(_host(name, mine, layers))
    jumps = _Jumps(
        reader=reader,
        hosts={host.name: host for host in hosts},
        chosen={name for name, settings in own.items() if settings.proxy_jump},
    )
    return tuple(jumps.resolved(host.name, ()) for host in hosts)


@dataclass(slots=True, kw_only=True)
class _Jumps:
    """Finds the hosts that proxy_jump names in the same file. `chosen` are those that say it
    themselves: whom a group or defaults send through itself, goes straight."""

    reader: _Reader
    hosts: dict[str, Host]
    chosen: set[str]
    known: dict[str, Host] = field(default_factory=dict)

    def resolved(self, name: str, chain: tuple[str, ...]) -> Host:
        """The host with its jumps; `chain` are the hosts whose jumps led to it."""
        if name in self.known:
            return self.known[name]
        host, chain = self.hosts[name], (*chain, name)
        hops = [
            match for hop in (host.proxy_jump or "").split(",") if (match := JUMP.fullmatch(hop))
        ]
        names = [hop for match in hops if (hop := match[2].strip("[]")) in self.hosts]
        if name in names and name not in self.chosen:
            host, names = replace(host, proxy_jump=None), []
        found: dict[str, Host] = {}
        for hop in names:
            if problem := self._problem(hop, chain):
                self.reader.note(("hosts", name, "proxy_jump"), f"proxy_jump: {problem}")
                break
            found[hop] = self.resolved(hop, chain)
        self.known[name] = replace(host, jump_hosts=tuple(found.values()))
        return self.known[name]

    def _problem(self, hop: str, chain: tuple[str, ...]) -> str:
        if hop in chain:
            return f"{' -> '.join([*chain[chain.index(hop) :], hop])} goes in a circle"
        if self.hosts[hop].connection is ConnectionKind.LOCAL:
            return f"{hop} is this machine (connection: local)"
        if len(chain) > MAX_JUMPS:
            return f"{chain[0]} goes through more than {MAX_JUMPS} hosts"
        return ""


def _host(name: str, groups: tuple[str, ...], layers: list[HostSettings]) -> Host:
    values: dict[str, Any] = {}
    env: dict[str, str] = {}
    limits: dict[str, Any] = {}
    for layer in layers:
        for f in fields(layer):
            if (value := getattr(layer, f.name)) is not None:
                values[f.name] = value
        env |= layer.env or {}
        if layer.limits is not None:
            limits |= {
                f.name: value
                for f in fields(layer.limits)
                if (value := getattr(layer.limits, f.name)) is not None
            }
    timeout = values.pop("connect_timeout", None)
    values |= {"env": env, "limits": Limits(**limits), "groups": groups}
    if "connection" in values:
        values["connection"] = ConnectionKind(values["connection"])
    host = Host(name=name, **values)
    return host if timeout is None else replace(host, connect_timeout_s=timeout)
