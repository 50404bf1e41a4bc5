"""`sollol dashboard`: the terminal application in a browser."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress

import click

from sollol_tui.blocking import run
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.errors import SollolError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="The next free one when it is taken.",
)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
              help="Where to listen; other machines reach it when it is not this one.")  # fmt: skip
@click.option("--control/--readonly", default=False, help="Whether the browser may act.  "
              "[default: readonly]")  # fmt: skip
@pass_session
def dashboard(session: Session, port: int, host: str, control: bool) -> None:
    """The terminal application in a browser, on this machine and read-only unless asked.

    Prints the address to open, whose token is the key: who has it, has the dashboard. Ctrl+C ends
    it and all its tabs; jobs go on.

    \b
    Example: sollol dashboard
    """
    if control:
        session.check_acting()
    try:
        from sollol_tui.ui.served import Dashboard, listen_on, serve, tab_command
    except ModuleNotFoundError as error:
        raise SollolError(
            f"the dashboard needs the package {error.name}",
            remedy="pip install 'sollol-tui[web]'",
        ) from None
    with session.client() as client:
        inventory = str(client.inventory_file)  # tabs show the same one; a missing one is told now
    page = Dashboard(tab_command(inventory, readonly=not control), host)
    with listen_on(host, port) as listener:
        taken = listener.getsockname()[1]
        if taken != port:
            say(f"port {port} is taken, so it is {taken}")
        shown = host if ":" not in host else f"[{host}]"
        if host not in _LOOPBACK:
            say(f"{host} is not this machine alone, and nothing here is encrypted: better let it "
                f"listen here and come by ssh -L {taken}:localhost:{taken}")  # fmt: skip

        def tell() -> None:
            click.echo(f"http://{shown}:{taken}/?token={page.token}")
            say("may act on jobs" if control else "read-only; --control lets it act")
            say("Ctrl+C ends it; jobs go on")

        with suppress(KeyboardInterrupt):
            run(_until_ended(serve(page, listener, tell)))


async def _until_ended(serving: Coroutine[None, None, None]) -> None:
    """A polite signal ends it as Ctrl+C does, tabs first."""
    task = asyncio.create_task(serving)
    for each in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
