"""`sollol config`: where things lie, which settings count and why, their edit, and units for
systemd."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from sollol_tui.cli.params import Word
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.model.errors import InputError, NotFoundError
from sollol_tui.model.text import clean

_SOURCES: Final = {
    ParameterSource.COMMANDLINE: "command line",
    ParameterSource.ENVIRONMENT: "environment",
}
_PARTS: Final = ("service", "timer")


@click.group()
def config() -> None:
    """Where things lie, which settings count, an editor for them, and units for systemd.

    \b
    Example: sollol config show
    """


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.config-path/1).")
@pass_session
def path(session: Session, as_json: bool) -> None:
    """The files and folders that sollol uses on this machine.

    \b
    Example: sollol config path
    """
    from sollol_tui.inventories import find_inventory
    from sollol_tui.jobs.home import open_home
    from sollol_tui.preferences import preferences_file

    home = open_home()
    try:
        inventory = str(find_inventory(session.inventory))
    except NotFoundError:
        inventory = ""
    places = {
        "inventory": inventory,
        "screen": str(preferences_file()),
        "state": str(home.root),
        "database": str(home.database),
        "jobs": str(home.root / "jobs"),
        "known_hosts": str(home.known_hosts),
    }
    if as_json:
        click.echo(json.dumps({"schema": "sollol.config-path/1", **places}))
        return
    for name, place in places.items():
        click.echo(f"{name:<12} {clean(place) or 'none yet: sollol init writes one'}")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.config/1).")
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Every setting that counts for all commands, its value, and where that comes from.

    \b
    Example: sollol config show
    """
    session = ctx.find_object(Session) or Session()
    settings = [*_options(ctx.find_root()), *_of_inventory(session), *_of_screen()]
    if as_json:
        listed = [
            {"name": name, "value": value, "from": source} for name, value, source in settings
        ]
        click.echo(json.dumps({"schema": "sollol.config/1", "settings": listed}))
        return
    width = max(len(name) for name, _, _ in settings)
    for name, value, source in settings:
        joint = "-" if name == "network.ports" else ", "
        told = joint.join(map(str, value)) if isinstance(value, tuple) else str(value)
        told = "-" if value is None else clean(told, limit=200)
        click.echo(f"{name:<{width}}  {told}  ({source})")


def _options(root: click.Context) -> list[tuple[str, object, str]]:
    from sollol_tui.jobs.home import VARIABLE, open_home

    source = f"environment, {VARIABLE}" if os.environ.get(VARIABLE) else "default"
    found: list[tuple[str, object, str]] = [("state", str(open_home().root), source)]
    for option in root.command.params:
        name = option.name or ""
        if isinstance(option, click.Option) and name in root.params:
            came = _SOURCES.get(root.get_parameter_source(name) or ParameterSource.DEFAULT)
            variable = f", SOLLOL_{name.upper()}" if came == "environment" else ""
            told = (name, root.params[name], f"{came}{variable}" if came else "default")
            found.append(_found_inventory() if name == "inventory" and not came else told)
    return found


def _found_inventory() -> tuple[str, object, str]:
    """The inventory that counts where nobody named one."""
    from sollol_tui.inventories import find_inventory

    try:
        return "inventory", str(find_inventory()), "found"
    except NotFoundError:
        return "inventory", None, "default"


def _of_inventory(session: Session) -> list[tuple[str, object, str]]:
    """What the inventory says for all hosts; nothing while there is none."""
    from sollol_tui.inventories import InventoryFile

    try:
        inventory = InventoryFile(session.inventory).read()
    except NotFoundError:
        return []
    except InputError as error:
        click.echo(f"{error}", err=True)
        return []
    return [
        (f"{part}.{key}", value, inventory.file)
        for part, settings in (("network", inventory.network), ("packages", inventory.packages))
        for key, value in asdict(settings).items()
    ]


def _of_screen() -> list[tuple[str, object, str]]:
    """What the user likes on the screen, as far as that was ever said."""
    from sollol_tui.preferences import PreferencesFile

    file = PreferencesFile()
    try:
        liked = file.read()
    except InputError as error:
        click.echo(f"{error}", err=True)
        return []
    found: list[tuple[str, object]] = [] if liked.theme is None else [("theme", liked.theme)]
    found += [(f"hide.{table}", tuple(columns)) for table, columns in liked.hide.items()]
    found += [(f"keys.{binding}", keys) for binding, keys in liked.keys.items()]
    return [(f"screen.{name}", value, str(file.path)) for name, value in found]


@config.command()
@click.argument("which", type=Word(("screen", "inventory")), default="screen")
@pass_session
def edit(session: Session, which: str) -> None:
    """Opens the settings of the screen, or the inventory, in $EDITOR; written once they are right.

    \b
    Example: sollol config edit inventory
    """
    from sollol_tui.cli.edit import Editable, edit_file

    command = f"sollol config edit {which}"
    if which == "screen":
        from sollol_tui.preferences import HEAD, parse_preferences, preferences_file

        file = preferences_file()
        edit_file(
            session, Editable(path=file, command=command, check=parse_preferences, blank=HEAD)
        )
        return
    from sollol_tui.inventories import find_inventory
    from sollol_tui.model.inventory_file import parse_inventory

    path = find_inventory(session.inventory)
    edit_file(session, Editable(path=path, command=command, check=parse_inventory))


@config.command()
@click.option("--unit", type=Word(_PARTS), help="Only this one, to go into its file.")
def systemd(unit: str | None) -> None:
    """Units of systemd that give jobs their supervisors back after a reboot.

    \b
    Example: sollol config systemd --unit timer > ~/.config/systemd/user/sollol.timer
    """
    from sollol_tui.hosts.shell import unit_word
    from sollol_tui.jobs.home import VARIABLE, open_home

    words = (sys.executable, "-P", "-m", "sollol_tui", "supervise", "--all")
    texts = {
        "service": _SERVICE.format(
            command=" ".join(unit_word(word, in_command=True) for word in words),
            home=unit_word(f"{VARIABLE}={open_home().root}", in_command=False),
        ),
        "timer": _TIMER,
    }
    if unit is not None:
        click.echo(texts[unit], nl=False)
        return
    click.echo(_HOW)
    for name in _PARTS:
        click.echo(f"# {Path('~/.config/systemd/user') / f'sollol.{name}'}\n{texts[name]}")


_HOW: Final = """\
# Put each part into the file that its first line names, then:
#   systemctl --user daemon-reload
#   systemctl --user enable --now sollol.timer
#   loginctl enable-linger                                  # also while you are not logged in
#   systemctl --user import-environment SSH_AUTH_SOCK       # where an ssh-agent holds your keys
"""
# Supervisors outlive the command that starts them: systemd must not end them with it.
_SERVICE: Final = """\
[Unit]
Description=Supervisors of sollol's jobs

[Service]
Type=oneshot
KillMode=process
Environment={home}
PassEnvironment=SSH_AUTH_SOCK
ExecStart={command}
"""
_TIMER: Final = """\
[Unit]
Description=Supervisors of sollol's jobs, looked after

[Timer]
OnStartupSec=1min
OnUnitInactiveSec=5min

[Install]
WantedBy=timers.target
"""
