"""`sollol resources`: what the hosts have, and who holds it."""

import json

import click

from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.status import PROBE_TIMEOUT_S
from sollol_tui.cli.tables import print_lines, resource_lines
from sollol_tui.model.resources import is_free, resources_data


@click.command()
@click.option("--free", is_flag=True, help="Only hosts that no job holds.")
@click.option("--cached", is_flag=True, help="Ask no host; show what is known.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object (schema sollol.resources/1)."
)
@pass_session
def resources(session: Session, free: bool, cached: bool, as_json: bool) -> None:
    """CPU, memory, GPUs and disk of each host, and the job that holds it.

    \b
    Example: sollol resources --free
    """
    with session.client() as client:
        if not cached:
            from sollol_tui.blocking import run

            run(client.probe_hosts(timeout_s=PROBE_TIMEOUT_S))
        snapshot = client.snapshot()
    shown = [host for host in snapshot.hosts if is_free(host) or not free]
    if as_json:
        click.echo(json.dumps(resources_data(snapshot, shown)))
    else:
        print_lines(resource_lines(shown))
