"""Tables for stdout: the same cells as on the screens, cut to the terminal's width."""

import time
from collections.abc import Collection, Sequence
from typing import Final

import click
from rich.cells import set_cell_size

from sollol_tui.cli.terminal import width
from sollol_tui.model import columns
from sollol_tui.model.resources import RESOURCE_COLUMNS, free_sentence, resource_rows
from sollol_tui.model.snapshot import HostState, HostView, JobView, Snapshot

NO_JOBS: Final = "no jobs yet - start one with: sollol train --model DIR --dataset FILE"
_SHOWN_JOBS = 10  # at a glance
_WIDE = 120  # cells from which the bars are long


def status_lines(snapshot: Snapshot) -> list[str]:
    """The headline, the newest jobs and all hosts."""
    return [
        columns.headline(snapshot, width=width()),
        "",
        *job_lines(snapshot.jobs[:_SHOWN_JOBS]),
        "",
        *host_lines(snapshot.hosts),
    ]


def host_lines(hosts: Sequence[HostView]) -> list[str]:
    now = time.time()
    troubled = [host for host in hosts if host.state in (HostState.DOWN, HostState.REFUSED)]
    rows = [columns.host_cells(host, now) for host in hosts]
    lines = _table(columns.HOST_COLUMNS, rows, red={hosts.index(host) for host in troubled})
    why = [columns.host_trouble(host, now) for host in troubled]
    return [*lines, "", *why] if why else lines


def job_lines(jobs: Sequence[JobView], *, or_else: str = NO_JOBS) -> list[str]:
    if not jobs:
        return [or_else]
    now, bar = time.time(), columns.LONG_BAR if width() >= _WIDE else 8
    cells = [columns.job_cells(job, now, bar_width=bar) for job in columns.jobs_in_order(jobs)]
    return _table(columns.job_columns(bar), cells)


def resource_lines(hosts: Sequence[HostView]) -> list[str]:
    now = time.time()
    rows = [row for host in hosts for row in resource_rows(host, now)]
    return [*_table(RESOURCE_COLUMNS, rows), "", free_sentence(hosts)]


def print_lines(lines: Sequence[str]) -> None:
    click.echo("\n".join(lines))


def _table(
    shape: Sequence[columns.Column], rows: Sequence[Sequence[str]], *, red: Collection[int] = ()
) -> list[str]:
    """`red` are the numbers of the rows that want to be looked at; their words say why."""
    widths = columns.fit_columns(shape, rows, width())
    head = click.style(_line([column.title for column in shape], widths), bold=True)
    lines = [_line(row, widths) for row in rows]
    return [head, *(click.style(x, fg="red") if n in red else x for n, x in enumerate(lines))]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = [set_cell_size(cell, cut) for cell, cut in zip(cells, widths, strict=True) if cut]
    return (" " * columns.GAP).join(shown).rstrip()
