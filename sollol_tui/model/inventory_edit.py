"""Changes to inventory.yaml: text in, text out; comments, order and notation stay as they are.

Every result has been read again: it is a valid inventory and differs from the old one in what was
asked for and in nothing else. Refuses what would need guessing, and says to edit by hand.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node

from sollol_tui.model.document import read_document
from sollol_tui.model.errors import InputError, Problem
from sollol_tui.model.inventory_file import expand_names, parse_inventory
from sollol_tui.model.inventory_settings import SETTING_ALIASES
from sollol_tui.model.patterns import matching
from sollol_tui.model.yaml_edit import (
    Item,
    compose,
    first_entry,
    in_flow_style,
    insertion,
    is_flow,
    items,
    list_to_mapping,
    removal,
    replacement,
    spliced,
)

Hosts = dict[str, dict[str, Any]]


def entries_of(text: str, pattern: str, *, file: str) -> list[str]:
    """The entries of `hosts:` that a pattern means, disabled ones too. Raises NotFoundError, and
    InputError where it means only a part of a range."""
    hosts = _hosts(text, file)
    if pattern in hosts:
        return [pattern]
    wanted = {host.name for host in matching(parse_inventory(text.encode(), file), pattern)}
    members = {entry: expand_names(entry) for entry in hosts}
    chosen = [entry for entry, names in members.items() if wanted & set(names)]
    for entry in chosen:
        if not wanted >= set(members[entry]):
            part = next(name for name in members[entry] if name in wanted)
            raise _partial(file, part, entry)
    return chosen


def add_host(text: str, name: str, settings: Mapping[str, Any], *, file: str) -> str:
    """The text with one more host, the last. A list of hosts becomes a mapping when the new one has
    settings. Raises InputError for a host that is there and for settings that do not fit."""
    hosts, given = _hosts(text, file), dict(settings)
    if name in hosts:
        raise _refusal(file, f"host '{name}' is there already; rm it first, or edit the file")

    def change() -> str:
        mapped = _with_mapping(text) if given else text
        node = _node(mapped)
        entry = in_flow_style(name)
        if isinstance(node, MappingNode):
            entry += f": {in_flow_style(given)}"
        elif not is_flow(node):
            entry = f"- {entry}"
        return spliced(mapped, insertion(mapped, node, entry))

    return _changed(text, change, {**hosts, name: given}, file, name)


def remove_host(text: str, name: str, *, file: str) -> str:
    """The text without a host. Comments above it stay: they may speak of others. Raises
    NotFoundError, and InputError for the last host or a part of a range."""
    at, hosts = _position(text, name, file), _hosts(text, file)
    if len(hosts) == 1:
        raise _refusal(file, f"'{name}' is its only host, and an inventory needs one")
    inventory, leaving = parse_inventory(text.encode(), file), set(expand_names(name))
    for group in inventory.groups:
        if {host.name for host in inventory.hosts if group in host.groups} <= leaving:
            raise _refusal(
                file,
                f"'{name}' is the only host of group '{group}'; change the group in the file first",
            )
    del hosts[name]
    return _changed(text, lambda: spliced(text, removal(text, _node(text), at)), hosts, file, name)


def set_value(text: str, name: str, key: str, value: Any, *, file: str) -> str:
    """The text with one setting of a host given a value, like `enabled: false`. Raises as
    `remove_host` does."""
    at, hosts = _position(text, name, file), _hosts(text, file)

    def change() -> str:
        mapped = _with_mapping(text)
        host = items(mapped, _node(mapped))[at]
        if host.is_bare and not is_flow(_node(mapped)):
            entry = f"{in_flow_style(key)}: {in_flow_style(value)}"
            return spliced(mapped, first_entry(mapped, host, entry))
        if host.is_bare or not isinstance(host.value, MappingNode):
            return spliced(mapped, replacement(mapped, host, in_flow_style({key: value})))
        old = _setting(mapped, host, key)
        if old is not None:
            return spliced(mapped, replacement(mapped, old[1], in_flow_style(value)))
        entry = f"{in_flow_style(key)}: {in_flow_style(value)}"
        return spliced(mapped, insertion(mapped, host.value, entry))

    known = next((k for k in hosts[name] if SETTING_ALIASES.get(k, k) == key), key)
    hosts[name][known] = value
    return _changed(text, change, hosts, file, name)


def unset_value(text: str, name: str, key: str, *, file: str) -> str:
    """The text without one setting of a host; the same text when it has none. Raises as
    `remove_host` does."""
    at, hosts = _position(text, name, file), _hosts(text, file)
    host = items(text, _node(text))[at]
    old = _setting(text, host, key)
    if old is None or host.value is None:
        return text
    hosts[name] = {k: v for k, v in hosts[name].items() if SETTING_ALIASES.get(k, k) != key}
    settings, number = host.value, old[0]
    return _changed(text, lambda: spliced(text, removal(text, settings, number)), hosts, file, name)


def enable_host(text: str, name: str, *, file: str) -> str:
    """The text with a host that takes part in jobs: without its own word about it where defaults
    and groups let it, else with `enabled: true`. Raises as `remove_host` does."""
    bare = unset_value(text, name, "enabled", file=file)
    members = expand_names(name)
    inventory = parse_inventory(bare.encode(), file)
    if all(inventory.host(member).enabled for member in members):
        return bare
    return set_value(text, name, "enabled", True, file=file)


def unified_diff(old: str, new: str, file: str) -> str:
    """What a change does, as `diff -u` shows it; empty when it does nothing."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), file, file, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _node(text: str) -> Node:
    """The node of `hosts:`."""
    for key, value in compose(text).value:
        if key.value == "hosts":
            assert isinstance(value, Node)
            return value
    raise ValueError("it has no hosts")


def _position(text: str, name: str, file: str) -> int:
    """The number of the host's entry. Raises NotFoundError, or InputError for part of a range."""
    hosts = _hosts(text, file)
    if name in hosts:
        return list(hosts).index(name)
    parse_inventory(text.encode(), file).host(name)
    entry = next(entry for entry in hosts if name in expand_names(entry))
    raise _partial(file, name, entry)


def _setting(text: str, host: Item, key: str) -> tuple[int, Item] | None:
    """The entry for `key`, whatever it is called there, with its number."""
    if isinstance(host.value, MappingNode):
        for at, item in enumerate(items(text, host.value)):
            if SETTING_ALIASES.get(item.key.value, item.key.value) == key:
                return at, item
    return None


def _with_mapping(text: str) -> str:
    for key, value in compose(text).value:
        if key.value == "hosts" and not isinstance(value, MappingNode):
            return spliced(text, list_to_mapping(text, value, key))
    return text


def _changed(old: str, change: Callable[[], str], wanted: Hosts, file: str, name: str) -> str:
    """What `change` makes of the old text, once it is certain that it has the wanted hosts."""
    by_hand = f"{file} cannot be changed safely at '{name}'"
    try:
        new = change()
    except ValueError as error:
        raise _refusal(file, f"{by_hand}, because {error}; edit it by hand") from None
    try:
        hosts = _hosts(new, file)
    except InputError as error:
        # Places in a text that was never written would send people to the wrong line.
        raise InputError(
            [Problem(file=name, message=problem.message) for problem in error.problems]
        ) from None
    if list(hosts.items()) != list(wanted.items()) or _rest(new, file) != _rest(old, file):
        raise _refusal(file, f"{by_hand}; edit it by hand")
    return new


def _hosts(text: str, file: str) -> Hosts:
    """The entries of a valid inventory. Raises InputError."""
    parse_inventory(text.encode(), file)
    data = read_document(text.encode(), file).data["hosts"]
    if isinstance(data, list):
        return {str(name): {} for name in data}
    return {name: dict(settings or {}) for name, settings in data.items()}


def _rest(text: str, file: str) -> dict[str, Any]:
    data = read_document(text.encode(), file).data
    return {key: value for key, value in data.items() if key != "hosts"}


def _partial(file: str, name: str, entry: str) -> InputError:
    return _refusal(
        file, f"'{name}' is one of '{entry}'; name that whole entry, or split it by hand"
    )


def _refusal(file: str, message: str) -> InputError:
    return InputError.single(file, message)
