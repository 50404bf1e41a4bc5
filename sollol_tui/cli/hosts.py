"""`sollol hosts` and `sollol provision`: machines, one at a time."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from sollol_tui.cli.exits import ExitCode
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


@hosts.command()
@click.argument("names", metavar="HOST...", nargs=-1, required=True)
@click.option("--replace", is_flag=True, help="Accept a key that has changed.")
@pass_session
def trust(session: Session, names: tuple[str, ...], replace: bool) -> int:
    """Accepts the host keys of hosts, after showing their fingerprints.

    \b
    Example: sollol hosts trust hydra
    """
    code = ExitCode.OK
    with session.client(acts=True) as client:
        inventory = client.inventory()
        for host in [h for name in names for h in select(inventory, name).hosts]:
            try:
                _trust(session, client, host, replace)
            except HostError as error:
                click.echo(f"sollol: {error}", err=True)
                code = ExitCode.FAILED
    return code


def _trust(session: Session, client: "SOLLOLClient", host: "Host", replace: bool) -> None:
    from sollol_tui.hosts.trust import scan_key, trust

    key = asyncio.run(scan_key(host, [client.home.known_hosts]))
    click.echo(f"{host.name}  {key.algorithm} {key.fingerprint}")
    if not session.yes and sys.stdin.isatty():
        click.confirm("is that the machine's key?", abort=True, err=True)
    trust([key], client.home.known_hosts, replace=replace)
    click.echo(f"{host.name}  trusted")


@hosts.command("ls")
@pass_session
def list_hosts(session: Session) -> None:
    """The hosts, asked now.

    \b
    Example: sollol hosts ls
    """
    with session.client() as client:
        print_hosts(client.list_nodes())


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
        failed = asyncio.run(_provision_all(client, list(chosen.values()), recreate))
    return ExitCode.FAILED if failed else ExitCode.OK


async def _provision_all(client: "SOLLOLClient", chosen: "list[Host]", recreate: bool) -> bool:
    """Whether any of them failed; each is on its own."""

    async def one(host: "Host") -> bool:
        def say(step: "Step") -> None:
            click.echo(f"{host.name}  {step.name}: {step.state} {step.detail}".rstrip())

        try:
            environment = await client.provision_host(host, say, recreate=recreate)
        except HostError as error:
            click.echo(f"sollol: {error}", err=True)
            return False
        state = "ready" if environment.changed else "ready, nothing to change"
        click.echo(f"{host.name}  {state}")
        return True

    return not all(await asyncio.gather(*(one(host) for host in chosen)))
