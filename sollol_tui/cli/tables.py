"""Tables on stdout: the same cells as on the screens, cut to the terminal's width."""

import shutil
import sys
import time
from collections.abc import Collection, Sequence
from typing import Final

import click
from rich.cells import set_cell_size

from sollol_tui.model import columns
from sollol_tui.model.resources import RESOURCE_COLUMNS, free_sentence, resource_rows
from sollol_tui.model.snapshot import HostState, HostView, JobView, Snapshot

PIPE_WIDTH: Final = 160  # a pipe has no width of its own


def print_status(snapshot: Snapshot) -> None:
    width = _width()
    click.echo(columns.headline(snapshot, width=width))
    click.echo()
    print_jobs(snapshot.jobs[:10])
    click.echo()
    print_hosts(snapshot.hosts)


def print_hosts(hosts: Sequence[HostView]) -> None:
    now = time.time()
    troubled = [host for host in hosts if host.state in (HostState.DOWN, HostState.REFUSED)]
    rows = [columns.host_cells(host, now) for host in hosts]
    _print(columns.HOST_COLUMNS, rows, red={hosts.index(host) for host in troubled})
    if troubled:
        click.echo()
    for host in troubled:
        click.echo(f"{host.name}: {columns.host_reason(host, now)}")


def print_jobs(jobs: Sequence[JobView]) -> None:
    if not jobs:
        click.echo("no jobs yet - start one with: sollol train --model DIR --dataset FILE")
        return
    now, bar = time.time(), columns.LONG_BAR if _width() >= 120 else 8
    cells = [columns.job_cells(job, now, bar_width=bar) for job in columns.jobs_in_order(jobs)]
    _print(columns.job_columns(bar), cells)


def print_resources(hosts: Sequence[HostView]) -> None:
    now = time.time()
    _print(RESOURCE_COLUMNS, [row for host in hosts for row in resource_rows(host, now)])
    click.echo()
    click.echo(free_sentence(hosts))


def _print(
    shape: Sequence[columns.Column], rows: Sequence[Sequence[str]], *, red: Collection[int] = ()
) -> None:
    """`red` are the numbers of the rows that want to be looked at; their words say why."""
    widths = columns.fit_columns(shape, rows, _width())
    click.echo(click.style(_line([column.title for column in shape], widths), bold=True))
    for number, row in enumerate(rows):
        line = _line(row, widths)
        click.echo(click.style(line, fg="red") if number in red else line)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = [set_cell_size(cell, width) for cell, width in zip(cells, widths, strict=True) if width]
    return (" " * columns.GAP).join(shown).rstrip()


def _width() -> int:
    if not sys.stdout.isatty():
        return PIPE_WIDTH
    return shutil.get_terminal_size().columns
