"""`sollol hosts`: the machines of the inventory."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sollol_tui.blocking import run
from sollol_tui.cli.exits import exit_code_of_all
from sollol_tui.cli.inventory import add, cordon, import_hosts, remove, uncordon
from sollol_tui.cli.lazy import Group
from sollol_tui.cli.params import HOSTS
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.tables import host_lines, print_lines
from sollol_tui.model.errors import HostError, HostKeyError
from sollol_tui.model.patterns import select

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.model.inventory import Host


@click.group(cls=Group)
def hosts() -> None:
    """The machines of the inventory."""


for command in (add, remove, import_hosts, cordon, uncordon):
    hosts.add_command(command)


@hosts.command()
@click.argument("names", metavar="HOST...", nargs=-1, required=True, type=HOSTS)
@click.option("--replace", is_flag=True, help="Accept a key that has changed.")
@pass_session
def trust(session: Session, names: tuple[str, ...], replace: bool) -> int:
    """Accepts the host keys of hosts, after showing their fingerprints.

    \b
    Example: sollol hosts trust hydra
    """
    errors: list[HostError] = []
    with session.client(acts=True) as client:
        inventory = client.inventory()
        for host in {h.name: h for name in names for h in select(inventory, name).hosts}.values():
            try:
                _trust(session, client, host, replace)
            except HostError as error:
                click.echo(f"sollol: {error}", err=True)
                errors.append(error)
    return exit_code_of_all(errors)


def _trust(session: Session, client: "SOLLOLClient", host: "Host", replace: bool) -> None:
    from sollol_tui.hosts.trust import scan_key, trust

    key = run(scan_key(host, [client.home.known_hosts]))
    click.echo(f"{host.name}  {key.algorithm} {key.fingerprint}")
    if key.is_known:
        click.echo(f"{host.name}  trusted already")
        return
    if not session.yes:
        if not sys.stdin.isatty():
            raise HostKeyError(
                host.name,
                "its key is not trusted yet: nobody can be asked here",
                remedy=f"compare it, then: sollol -y hosts trust {host.name}"
                + (" --replace" if replace else ""),
            )
        click.confirm("is that the machine's key?", abort=True, err=True)
    trust([key], client.home.known_hosts, replace=replace)
    click.echo(f"{host.name}  trusted")


@hosts.command("ls")
@click.argument("names", metavar="[HOST...]", nargs=-1, type=HOSTS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.hosts/1).")
@pass_session
def list_hosts(session: Session, names: tuple[str, ...], as_json: bool) -> None:
    """The hosts, or those named, asked now.

    \b
    Example: sollol hosts ls
    """
    with session.client() as client:
        listed = client.list_nodes(names)
    if as_json:
        data = {"schema": "sollol.hosts/1", "hosts": [asdict(host) for host in listed]}
        click.echo(json.dumps(data))
    else:
        print_lines(host_lines(listed))
