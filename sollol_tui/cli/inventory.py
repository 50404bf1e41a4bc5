"""`sollol hosts add`, `rm`, `import`, `cordon`, `uncordon`: edits of inventory.yaml.

Each is shown as a diff first, and on a terminal asked about."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from sollol_tui.blocking import run
from sollol_tui.cli.params import HOSTS
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.errors import InputError, NotFoundError, SollolError

_GIT_USER: Final = "git"  # aliases that log in as this are forges, not machines


@click.command()
@click.argument("name")
@click.option("--address", metavar="ADDRESS", help="A name or IP; else what ~/.ssh/config says.")
@click.option("--port", type=int, help="The port of sshd.")
@click.option("--user", metavar="USER", help="Who to log in as.")
@click.option("--identity-file", metavar="FILE", help="The private key.")
@click.option("--proxy-jump", metavar="HOST", help="The host to go through.")
@click.option("--tag", "tags", metavar="WORD", multiple=True, help="For --workers tag:WORD.")
@click.option("--set", "extra", metavar="KEY=VALUE", multiple=True, help="Any key of a host.")
@pass_session
def add(
    session: Session, /, name: str, tags: tuple[str, ...], extra: tuple[str, ...], **given: Any
) -> None:
    """Adds a host to the inventory.

    \b
    Example: sollol hosts add desktop --address 192.0.2.40 --tag cuda --set limits.cpu_cores=8
    """
    from sollol_tui.model.inventory_edit import add_host

    settings = {key: value for key, value in given.items() if value is not None}
    if tags:
        settings["tags"] = list(tags)
    for setting in extra:
        _put(settings, setting)
    edit(session, lambda text, file: add_host(text, name, settings, file=file))
    say(f"next: sollol hosts trust {name}")


@click.command("rm")
@click.argument("names", metavar="HOST...", nargs=-1, required=True, type=HOSTS)
@pass_session
def remove(session: Session, names: tuple[str, ...]) -> None:
    """Takes hosts out of the inventory; nothing on them changes.

    \b
    Example: sollol hosts rm desktop
    """
    from sollol_tui.model.inventory_edit import remove_host
    from sollol_tui.model.inventory_file import expand_names

    chosen = _entries(session, names)
    with session.client(acts=True) as client:
        working = {host.name: host.job for host in client.snapshot().hosts if host.job}
    for name in [member for entry in chosen for member in expand_names(entry)]:
        if name in working:
            raise SollolError(
                f"{name} works for {working[name]}", remedy=f"first: sollol cancel {working[name]}"
            )
    edit(session, _for_each(chosen, remove_host))


@click.command()
@click.argument("names", metavar="HOST...", nargs=-1, required=True, type=HOSTS)
@pass_session
def cordon(session: Session, names: tuple[str, ...]) -> None:
    """Keeps hosts out of new jobs that do not name them; what runs there goes on.

    \b
    Example: sollol hosts cordon attic
    """
    from sollol_tui.model.inventory_edit import set_value

    def one(text: str, name: str, *, file: str) -> str:
        return set_value(text, name, "enabled", False, file=file)

    edit(session, _for_each(_entries(session, names), one))


@click.command()
@click.argument("names", metavar="HOST...", nargs=-1, required=True, type=HOSTS)
@pass_session
def uncordon(session: Session, names: tuple[str, ...]) -> None:
    """Lets hosts take part in jobs again.

    \b
    Example: sollol hosts uncordon attic
    """
    from sollol_tui.model.inventory_edit import enable_host

    edit(session, _for_each(_entries(session, names), enable_host))


@click.command("import")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All but those that log in as git.")
@pass_session
def import_hosts(session: Session, names: tuple[str, ...], everything: bool) -> None:
    """Adds hosts that ~/.ssh/config names; without a name, lists them to tick.

    \b
    Example: sollol hosts import hydra attic
    """
    session.check_acting()
    from sollol_tui.aliases import places_of, read_aliases, ssh_config
    from sollol_tui.inventories import find_inventory, read_text
    from sollol_tui.model.inventory_edit import add_host
    from sollol_tui.model.inventory_file import parse_inventory

    aliases = read_aliases(ssh_config())
    file = find_inventory(session.inventory)
    inventory = parse_inventory(read_text(file).encode(), _shown(file))
    there = {host.name for host in inventory.hosts}
    if unknown := [name for name in names if name not in aliases]:
        raise NotFoundError(
            f"no Host {', '.join(unknown)} in {ssh_config()}",
            remedy="sollol hosts add takes any name",
        )
    chosen = list(names)
    if not names:
        places = run(places_of(aliases))
        if everything:
            chosen = machines(aliases, places)
        else:
            new = [alias for alias in aliases if alias not in there]
            chosen = _choose(new, places)
    for name in chosen:
        if name in there:
            click.echo(f"{name} is there already, skipped", err=True)
    chosen = [name for name in chosen if name not in there]
    if chosen:

        def one(text: str, name: str, *, file: str) -> str:
            return add_host(text, name, {}, file=file)

        edit(session, _for_each(chosen, one))
        say(f"next: sollol hosts trust {' '.join(chosen)}")


def edit(session: Session, change: Callable[[str, str], str]) -> None:
    """Shows what `change` makes of the inventory, asks on a terminal, and writes it."""
    from sollol_tui.inventories import find_inventory, read_text, write_text
    from sollol_tui.model.inventory_edit import unified_diff

    session.check_acting()
    path = find_inventory(session.inventory)
    file, old = _shown(path), read_text(path)
    new = change(old, file)
    if new == old:
        say(f"{file} says so already, nothing to change")
        return
    click.echo(unified_diff(old, new, file), nl=False)
    if session.asks:
        click.confirm(f"write {file}?", default=True, abort=True, err=True)
    write_text(path, new, instead_of=old)
    say(f"{file} is written")


def machines(aliases: Sequence[str], places: dict[str, tuple[str, str]]) -> list[str]:
    """The aliases without those of code forges, which are named."""
    for alias in aliases:
        if places[alias][0] == _GIT_USER:
            click.echo(f"{alias} logs in as {_GIT_USER}, left out", err=True)
    return [alias for alias in aliases if places[alias][0] != _GIT_USER]


def _choose(aliases: Sequence[str], places: dict[str, tuple[str, str]]) -> list[str]:
    if not aliases:
        click.echo("every host of ~/.ssh/config is there already", err=True)
        return []
    width = max(map(len, aliases))
    lines = [f"{alias:<{width}}  {places[alias][1]}" for alias in aliases]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        click.echo("\n".join(lines))
        say("to add some: sollol hosts import NAME..., or --all")
        return []
    from sollol_tui.ui.tick_list import ticked

    return [aliases[at] for at in ticked("hosts of ~/.ssh/config to add", lines) or ()]


def _for_each(names: Sequence[str], one: Callable[..., str]) -> Callable[[str, str], str]:
    def change(text: str, file: str) -> str:
        for name in names:
            text = one(text, name, file=file)
        return text

    return change


def _entries(session: Session, patterns: Sequence[str]) -> list[str]:
    """The entries of the inventory that the patterns mean, each once."""
    from sollol_tui.inventories import find_inventory, read_text
    from sollol_tui.model.inventory_edit import entries_of

    session.check_acting()
    path = find_inventory(session.inventory)
    file, text = _shown(path), read_text(path)
    return list(dict.fromkeys(e for p in patterns for e in entries_of(text, p, file=file)))


def _put(settings: dict[str, Any], setting: str) -> None:
    """Lays `limits.cpu_cores=8` over the settings, its value read as YAML."""
    from sollol_tui.model.document import read_document

    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise InputError.single("--set", f"'{setting}' is not KEY=VALUE")
    *folders, last = key.strip().split(".")
    for folder in folders:
        settings = settings.setdefault(folder, {})
        if not isinstance(settings, dict):
            raise InputError.single("--set", f"'{folder}' holds no keys")
    settings[last] = read_document(f"value: {value}".encode(), "--set").data["value"]


def _shown(path: Path) -> str:
    """The path as short as it can be from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
