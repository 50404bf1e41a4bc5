"""`sollol metrics`: the figures of a job over time, from the copies of its events. Asks no host."""

import csv
import io
import json
import locale
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Final

import click

from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import width
from sollol_tui.model.metrics import (
    ASCII_BLOCKS,
    BLOCKS,
    Series,
    StepPoint,
    curve,
    host_series,
    sparkline,
    step_series,
)
from sollol_tui.model.text import clean

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.model.snapshot import JobView

_LONGEST: Final = 60  # blocks of a line
_SHORTEST: Final = 8
_NAME_WIDTHS: Final = (13, 28)


@click.command()
@click.argument("job", required=False, type=JOB)
@click.option("--csv", "as_csv", is_flag=True, help="One line a step, for other programs.")
@click.option("--compare", metavar="JOB2", type=JOB, help="A second job beside it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.metrics/1).")
@pass_session
def metrics(
    session: Session, job: str | None, as_csv: bool, compare: str | None, as_json: bool
) -> None:
    """Loss, speed, sync and how busy each host was; by default of the newest job.

    \b
    Example: sollol metrics j-7f3a --compare j-81c0
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json do not go together")
    with session.client() as client:
        chosen = [client.get_job_status(job) if job else client.newest_job()]
        if compare is not None:
            chosen.append(client.get_job_status(compare))
        curves = {view.id: curve(client.metrics(view.id)) for view in chosen}
        hosts = {view.id: _host_series(client, view.id) for view in chosen}
    if as_csv:
        click.echo(_csv(curves), nl=False)
    elif as_json:
        click.echo(json.dumps(_data(chosen, curves, hosts)))
    else:
        _print(chosen, {key: [*step_series(c), *hosts[key]] for key, c in curves.items()})


def _host_series(client: "SOLLOLClient", job: str) -> list[Series]:
    by_host = client.host_figures(job)
    return [series for host, data in sorted(by_host.items()) for series in host_series(host, data)]


_COLUMNS: Final = [
    field.name for field in fields(StepPoint) if field.name not in ("generation", "attempt")
]


def _csv(curves: dict[str, tuple[StepPoint, ...]]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["job", *_COLUMNS])
    for job, points in curves.items():
        for point in points:
            writer.writerow([job, *(point[column] for column in _COLUMNS)])
    return written.getvalue()


def _data(
    chosen: Sequence["JobView"],
    curves: dict[str, tuple[StepPoint, ...]],
    hosts: dict[str, list[Series]],
) -> dict[str, object]:
    return {
        "schema": "sollol.metrics/1",
        "jobs": [
            {
                "id": view.id,
                "name": view.name,
                "steps": [asdict(point) for point in curves[view.id]],
                "hosts": [asdict(series) for series in hosts[view.id]],
            }
            for view in chosen
        ],
    }


def _print(chosen: Sequence["JobView"], told: dict[str, list[Series]]) -> None:
    for number, view in enumerate(chosen):
        if number:
            click.echo()
        click.echo(click.style(f"{view.id}  {clean(view.name)}  {view.state}", bold=True))
        if not told[view.id]:
            click.echo("no figures yet: they come with the first step")
        for line in _lines(told[view.id]):
            click.echo(line)
    if len(chosen) == 2:
        for line in _compared(chosen, told):
            click.echo(line)


def _lines(told: Sequence[Series]) -> list[str]:
    """ "loss           ▇▅▃▂▁  4.512 -> 1.204", as wide as the terminal allows."""
    least, most = _NAME_WIDTHS
    ends = [_ends(series) for series in told]
    name_width = min(most, max([least, *(len(series.name) for series in told)]))
    room = width() - name_width - max(map(len, ends), default=0) - 4
    blocks, length = _blocks(), max(_SHORTEST, min(_LONGEST, room))
    lines = []
    for series, end in zip(told, ends, strict=True):
        drawn = sparkline(series.values, length, blocks=blocks)
        name = clean(series.name, limit=name_width)
        lines.append(f"{name:<{name_width}}  {drawn:<{length}}  {end}"[: max(width(), 1)].rstrip())
    return lines


def _ends(series: Series) -> str:
    first, last = (f"{value:.{series.digits}f}" for value in (series.values[0], series.values[-1]))
    numbers = first if first == last else f"{first} -> {last}"
    return f"{numbers} {series.unit}".rstrip()


def _compared(chosen: Sequence["JobView"], told: dict[str, list[Series]]) -> list[str]:
    """Where two jobs stand beside each other, for the figures that both have."""
    one, two = ({series.name: series for series in told[view.id]} for view in chosen)
    both = [name for name in one if name in two and name in _COMPARED]
    if not both:
        return []
    head = f"\n{'':<13}  {chosen[0].id:>12}  {chosen[1].id:>12}  {'difference':>12}"
    lines = [head]
    for name in both:
        a, b = (_typical(name, side[name]) for side in (one, two))
        digits = one[name].digits
        ratio = f"{(b - a) / a:+.1%}" if a else "-"
        lines.append(f"{name:<13}  {a:>12.{digits}f}  {b:>12.{digits}f}  {ratio:>12}")
    return lines


_COMPARED: Final = ("loss", "speed", "sync per step")


def _typical(name: str, series: Series) -> float:
    """The last loss, as it is what a job has reached; of all else the mean."""
    return series.values[-1] if name == "loss" else sum(series.values) / len(series.values)


def _blocks() -> str:
    encoding = sys.stdout.encoding or locale.getpreferredencoding(do_setlocale=False)
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII_BLOCKS
    return BLOCKS
