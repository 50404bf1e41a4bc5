"""`sollol status` and `sollol version`: the cluster at a glance, once or as it changes."""

import json
import time
from typing import TYPE_CHECKING

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.interrupts import held
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.tables import print_lines, status_lines
from sollol_tui.cli.terminal import console, say
from sollol_tui.model.snapshot import HostState, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from sollol_tui.client import SOLLOLClient

PROBE_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 0.5
_REDRAW_EVERY_S = 2.0  # ages grow though nothing happens


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Go on as things change, until Ctrl+C.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object (schema sollol.status/1); one a line with -w.",
)
@click.option("--check", is_flag=True, help="Exit with 3 when a host is down or refused.")
@click.option("--cached", is_flag=True, help="Ask no host; show what is known.")
@pass_session
def status(
    session: Session,
    watch: bool = False,
    as_json: bool = False,
    check: bool = False,
    cached: bool = False,
) -> int:
    """Hosts, jobs and resources at a glance.

    \b
    Example: sollol status --json | jq .hosts
    """
    if watch and check:
        raise click.UsageError("--check looks once and does not go with --watch")
    with session.client() as client:
        if watch:
            try:
                _watch(client, as_json=as_json, cached=cached)
            except KeyboardInterrupt:
                say("\nno longer watching; jobs go on. again: sollol status -w")
            return ExitCode.OK
        if not cached:
            from sollol_tui.blocking import run

            run(client.probe_hosts(timeout_s=PROBE_TIMEOUT_S))
        snapshot = client.snapshot()
    if as_json:
        click.echo(_json(snapshot))
    else:
        print_lines(status_lines(snapshot))
    down = any(host.state in (HostState.DOWN, HostState.REFUSED) for host in snapshot.hosts)
    return ExitCode.DOWN if check and down else ExitCode.OK


def _json(snapshot: Snapshot) -> str:
    return json.dumps(snapshot.as_data(), ensure_ascii=True)


def _watch(client: "SOLLOLClient", *, as_json: bool, cached: bool) -> None:
    """Shows the cluster whenever it has changed, for ever."""
    import sys

    from sollol_tui.blocking import run

    if as_json or not sys.stdout.isatty():

        def show(snapshot: Snapshot) -> None:
            click.echo(_json(snapshot) if as_json else "\n".join([*status_lines(snapshot), ""]))
            sys.stdout.flush()

        run(_look(client, show, cached=cached, redraw=False))
        return
    from rich.live import Live
    from rich.text import Text

    live = Live(console=console(), auto_refresh=False, screen=True, vertical_overflow="crop")

    def draw(snapshot: Snapshot) -> None:
        live.update(Text.from_ansi("\n".join(status_lines(snapshot))), refresh=True)

    try:
        with held():
            live.start()
        run(_look(client, draw, cached=cached, redraw=True))
    finally:
        with held():  # the terminal is as it was, whatever else is pressed
            live.stop()


async def _look(
    client: "SOLLOLClient", show: "Callable[[Snapshot], None]", *, cached: bool, redraw: bool
) -> None:
    """Gives `show` a snapshot when the state was written, and with `redraw` every now and then."""
    import asyncio

    async def keep_up() -> None:
        while True:
            await asyncio.to_thread(client.revive)
            if not cached:
                await client.probe_hosts(timeout_s=PROBE_TIMEOUT_S)
            await asyncio.sleep(PROBE_TIMEOUT_S)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_up())
            seen, shown_at = -1, float("-inf")
            while True:
                version, now = client.state_version(), time.monotonic()
                if version != seen or (redraw and now - shown_at >= _REDRAW_EVERY_S):
                    seen, shown_at = version, now
                    show(client.snapshot())
                await asyncio.sleep(_LOOK_EVERY_S)
    except ExceptionGroup as failed:
        # One of the two ended it: a reader that has gone, an inventory that has.
        raise failed.exceptions[0] from None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.version/1).")
def version(as_json: bool) -> None:
    """The version of sollol and of what it stands on.

    \b
    Example: sollol version
    """
    import platform
    from importlib.metadata import version as version_of

    own, python = version_of("sollol-tui"), platform.python_version()
    packages = {name: version_of(name) for name in ("asyncssh", "textual")}
    if as_json:
        data = {"schema": "sollol.version/1", "sollol": own, "python": python, **packages}
        click.echo(json.dumps(data))
        return
    told = ", ".join(f"{name} {number}" for name, number in packages.items())
    click.echo(f"sollol {own} (Python {python}, {told})")
