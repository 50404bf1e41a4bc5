"""`sollol status` and `sollol version`: the cluster at a glance."""

import json

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.tables import print_status
from sollol_tui.model.snapshot import HostState

PROBE_TIMEOUT_S = 5.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.status/1).")
@click.option("--check", is_flag=True, help="Exit with 3 when a host is down or refused.")
@click.option("--cached", is_flag=True, help="Ask no host; show what is known.")
@pass_session
def status(
    session: Session, as_json: bool = False, check: bool = False, cached: bool = False
) -> int:
    """Hosts, jobs and resources at a glance.

    \b
    Example: sollol status --json | jq .hosts
    """
    with session.client() as client:
        if not cached:
            import asyncio

            asyncio.run(client.probe_hosts(timeout_s=PROBE_TIMEOUT_S))
        snapshot = client.snapshot()
    if as_json:
        click.echo(json.dumps(snapshot.as_data(), ensure_ascii=True))
    else:
        print_status(snapshot)
    down = any(host.state in (HostState.DOWN, HostState.REFUSED) for host in snapshot.hosts)
    return ExitCode.DOWN if check and down else ExitCode.OK


@click.command()
def version() -> None:
    """The version of sollol and of what it stands on."""
    import platform
    from importlib.metadata import version as version_of

    click.echo(
        f"sollol {version_of('sollol-tui')} (Python {platform.python_version()}, "
        f"asyncssh {version_of('asyncssh')}, textual {version_of('textual')})"
    )
