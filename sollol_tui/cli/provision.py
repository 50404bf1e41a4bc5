"""`sollol provision`: brings the training environment to hosts, says what that would be, or removes
what older ones have left."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from sollol_tui.blocking import run
from sollol_tui.cli.exits import exit_code_of_all
from sollol_tui.cli.interrupts import held
from sollol_tui.cli.params import HOSTS
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import console, is_quiet
from sollol_tui.model.errors import SollolError
from sollol_tui.model.patterns import select
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.table import Table

    from sollol_tui.client import SOLLOLClient
    from sollol_tui.hosts.steps import Step
    from sollol_tui.model.inventory import Host

    Say = Callable[[Step], None]
    Work = Callable[[Host, Say], Awaitable[str]]  # returns the last word about a host


@click.command()
@click.argument("names", metavar="[HOST...]", nargs=-1, type=HOSTS)
@click.option("--dry-run", is_flag=True, help="Say what would be done; touch nothing.")
@click.option("--recreate", is_flag=True, help="Build the environment anew.")
@click.option("--prune", is_flag=True, help="Remove what no lock, run or process needs any more.")
@pass_session
def provision(
    session: Session, names: tuple[str, ...], dry_run: bool, recreate: bool, prune: bool
) -> int:
    """Brings the training environment to hosts; a second run changes nothing.

    \b
    Example: sollol provision hydra attic
    """
    if prune and recreate:
        raise click.UsageError("--prune and --recreate do not go together")
    with session.client(acts=not dry_run) as client:
        inventory = client.inventory().with_coordinator()
        chosen = {h.name: h for name in names or ("all",) for h in select(inventory, name).hosts}
        is_live = sys.stderr.isatty() and not (dry_run or prune or is_quiet())
        board = Rows(chosen) if is_live else Lines()
        work = _work(client, dry_run=dry_run, recreate=recreate, prune=prune)
        try:
            errors = run(_on_all(list(chosen.values()), work, board))
        except KeyboardInterrupt:
            if not dry_run and not prune:
                click.echo(
                    "interrupted: what hosts are building they build to its end; "
                    "the next `sollol provision` takes it up",
                    err=True,
                )
            raise
    return exit_code_of_all(errors)


def _work(client: "SOLLOLClient", *, dry_run: bool, recreate: bool, prune: bool) -> "Work":
    async def prepare(host: "Host", say: "Say") -> str:
        environment = await client.provision_host(host, say, recreate=recreate)
        return "ready" if environment.changed else "ready, nothing to change"

    async def foresee(host: "Host", say: "Say") -> str:
        would = await client.preview_host(host, say, recreate=recreate)
        return "dry run, nothing was touched" if would else "ready, nothing to change"

    async def tidy(host: "Host", say: "Say") -> str:
        pruned = await client.prune_host(host, dry_run=dry_run)
        did = "would remove" if dry_run else "removed"
        for removal in pruned.removed:
            click.echo(f"{host.name}  {did} {removal.name}: {format_bytes(removal.size_bytes)}")
        for reason in pruned.kept:
            click.echo(f"{host.name}  kept {reason}")
        freed = format_bytes(sum(removal.freed_bytes for removal in pruned.removed))
        return f"{did} {len(pruned.removed)}, {freed} free again" if pruned.removed else "tidy"

    if prune:
        return tidy
    return foresee if dry_run else prepare


async def _on_all(chosen: "list[Host]", work: "Work", board: "Lines | Rows") -> list[SollolError]:
    """The errors of those that failed; each is on its own."""
    errors: list[SollolError] = []

    async def one(host: "Host") -> None:
        try:
            board.ready(host.name, await work(host, lambda step: board.step(host.name, step)))
        except SollolError as error:
            errors.append(error)
            board.failed(host.name, error)

    with board:
        await asyncio.gather(*map(one, chosen))
    return errors


class Lines:
    """Every step of every host as a line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def step(self, host: str, step: "Step") -> None:
        click.echo(f"{host}  {step.name}: {step.state} {step.progress}".rstrip())

    def ready(self, host: str, words: str) -> None:
        click.echo(f"{host}  {words}")

    def failed(self, host: str, error: SollolError) -> None:
        click.echo(f"sollol: {error}", err=True)


@dataclass(slots=True)
class _Row:
    since: float
    step: str = "connecting"
    detail: str = ""
    ended: float | None = None


class Rows:
    """A live table on the terminal, one row per host; how each ended follows as lines."""

    def __init__(self, hosts: Iterable[str]) -> None:
        from rich.live import Live

        self._begun = time.monotonic()
        self._rows = {host: _Row(since=self._begun) for host in hosts}
        self._endings = Lines()
        self._live = Live(
            get_renderable=self._table,
            console=console(stderr=True),
            refresh_per_second=5,
            transient=True,
        )
        self._last_words: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *error: object) -> None:
        with held():
            self._live.stop()
        for say in self._last_words:
            say()

    def step(self, host: str, step: "Step") -> None:
        row = self._rows[host]
        if row.step != step.name:
            row.since = time.monotonic()
        row.step, row.detail = step.name, f"{step.state} {step.progress}"

    def ready(self, host: str, words: str) -> None:
        took = self._end(host, "ready", "")
        self._last_words.append(partial(self._endings.ready, host, f"{words} ({took})"))

    def failed(self, host: str, error: SollolError) -> None:
        self._end(host, "failed", str(error))
        self._last_words.append(partial(self._endings.failed, host, error))

    def _end(self, host: str, step: str, detail: str) -> str:
        row = self._rows[host]
        row.step, row.detail, row.since = step, detail, self._begun
        row.ended = time.monotonic()
        return format_duration(row.ended - self._begun)

    def _table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        table.add_column("HOST", no_wrap=True, min_width=max(map(len, self._rows), default=4))
        table.add_column("STEP", no_wrap=True, min_width=len("environment"))
        table.add_column("DETAIL", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("TIME", justify="right", no_wrap=True, min_width=len("59m 59s"))
        for host, row in self._rows.items():
            seconds = format_duration((row.ended or time.monotonic()) - row.since)
            table.add_row(Text(host), Text(row.step), Text(clean(row.detail)), seconds)
        return table
