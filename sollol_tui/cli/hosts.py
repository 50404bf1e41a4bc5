"""`sollol hosts` and `sollol provision`: machines, one at a time."""

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sollol_tui.cli.exits import exit_code_of_all
from sollol_tui.cli.inventory import add, cordon, import_hosts, remove, uncordon
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.tables import print_hosts
from sollol_tui.model.errors import HostError
from sollol_tui.model.patterns import select

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.hosts.provision import Step
    from sollol_tui.model.inventory import Host


@click.group()
def hosts() -> None:
    """The machines of the inventory."""


for command in (add, remove, import_hosts, cordon, uncordon):
    hosts.add_command(command)


@hosts.command()
@click.argument("names", metavar="HOST...", nargs=-1, required=True)
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
        for host in [h for name in names for h in select(inventory, name).hosts]:
            try:
                _trust(session, client, host, replace)
            except HostError as error:
                click.echo(f"sollol: {error}", err=True)
                errors.append(error)
    return exit_code_of_all(errors)


def _trust(session: Session, client: "SOLLOLClient", host: "Host", replace: bool) -> None:
    from sollol_tui.hosts.trust import scan_key, trust

    key = asyncio.run(scan_key(host, [client.home.known_hosts]))
    click.echo(f"{host.name}  {key.algorithm} {key.fingerprint}")
    if not session.yes and sys.stdin.isatty():
        click.confirm("is that the machine's key?", abort=True, err=True)
    trust([key], client.home.known_hosts, replace=replace)
    click.echo(f"{host.name}  trusted")


@hosts.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.hosts/1).")
@pass_session
def list_hosts(session: Session, as_json: bool) -> None:
    """The hosts, asked now.

    \b
    Example: sollol hosts ls
    """
    with session.client() as client:
        listed = client.list_nodes()
    if as_json:
        data = {"schema": "sollol.hosts/1", "hosts": [asdict(host) for host in listed]}
        click.echo(json.dumps(data))
    else:
        print_hosts(listed)


@click.command()
@click.argument("names", metavar="[HOST...]", nargs=-1)
@click.option("--recreate", is_flag=True, help="Build the environment anew.")
@pass_session
def provision(session: Session, names: tuple[str, ...], recreate: bool) -> int:
    """Brings the training environment to hosts; a second run changes nothing.

    \b
    Example: sollol provision hydra attic
    """
    with session.client(acts=True) as client:
        inventory = client.inventory().with_coordinator()
        chosen = {h.name: h for name in names or ("all",) for h in select(inventory, name).hosts}
        errors = asyncio.run(_provision_all(client, list(chosen.values()), recreate))
    return exit_code_of_all(errors)


async def _provision_all(
    client: "SOLLOLClient", chosen: "list[Host]", recreate: bool
) -> list[HostError]:
    """The errors of those that failed; each is on its own."""
    errors: list[HostError] = []

    async def one(host: "Host") -> None:
        def say(step: "Step") -> None:
            click.echo(f"{host.name}  {step.name}: {step.state} {step.detail}".rstrip())

        try:
            environment = await client.provision_host(host, say, recreate=recreate)
        except HostError as error:
            click.echo(f"sollol: {error}", err=True)
            errors.append(error)
            return
        state = "ready" if environment.changed else "ready, nothing to change"
        click.echo(f"{host.name}  {state}")

    await asyncio.gather(*(one(host) for host in chosen))
    return errors
