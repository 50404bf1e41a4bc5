"""`sollol init`: an inventory, a job file and a few rows to begin with, in this folder."""

from pathlib import Path
from typing import Final

import click

from sollol_tui.blocking import run
from sollol_tui.cli.inventory import machines
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.errors import SollolError

_STARTER: Final = Path(__file__).parents[1] / "starter"
_PLACES: Final = {  # where each starter file goes
    "inventory.yaml": "inventory.yaml",
    "train.yaml": "train.yaml",
    "instructions.jsonl": "data/instructions.jsonl",
}
_PLACEHOLDER: Final = "this-machine"  # the starter's only host


@click.command()
@click.option("--from-ssh-config", is_flag=True, help="Name the hosts of ~/.ssh/config in it.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@pass_session
def init(session: Session, from_ssh_config: bool, force: bool) -> None:
    """Writes inventory.yaml, train.yaml and sample data into this folder.

    \b
    Example: sollol init --from-ssh-config
    """
    from sollol_tui.inventories import read_text, write_text

    session.check_acting()
    texts = {Path(place): read_text(_STARTER / name) for name, place in _PLACES.items()}
    there = [str(path) for path in texts if path.exists()]
    if there and not force:
        raise SollolError(
            f"{', '.join(there)} would be overwritten, nothing was written",
            remedy="--force does it, another folder avoids it",
        )
    inventory = Path("inventory.yaml")
    hosts: list[str] = []
    if from_ssh_config:
        texts[inventory], hosts = _with_ssh_hosts(texts[inventory])
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        write_text(path, text, instead_of=read_text(path) if path.exists() else None)
        click.echo(f"wrote {path}")
    say("next:")
    if hosts:
        say("  sollol hosts trust all      accept the machines' host keys")
    else:
        say("  sollol hosts add NAME       name your machines")
    say("  sollol status               do they answer?")
    say("  sollol train train.yaml     after a look into it")


def _with_ssh_hosts(text: str) -> tuple[str, list[str]]:
    """The inventory with the hosts of ~/.ssh/config in place of the starter's own."""
    from sollol_tui.aliases import places_of, read_aliases, ssh_config
    from sollol_tui.model.inventory_edit import add_host, remove_host

    aliases = read_aliases(ssh_config())
    hosts = machines(aliases, run(places_of(aliases)))
    if not hosts:
        click.echo(f"{ssh_config()} names no machine", err=True)
        return text, []
    for host in hosts:
        text = add_host(text, host, {}, file="inventory.yaml")
    return remove_host(text, _PLACEHOLDER, file="inventory.yaml"), hosts
