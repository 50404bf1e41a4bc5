"""`sollol jobs --prune`: what ended jobs have left is shown with its size, asked about, removed."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.session import Session
from sollol_tui.cli.terminal import folded
from sollol_tui.model.errors import SollolError
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes, format_duration, parse_duration_s

if TYPE_CHECKING:
    from sollol_tui.jobs.prune import Remains
    from sollol_tui.jobs.taught import Taught


def age(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Seconds of an age like 30d."""
    if value is None:
        return None
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def prune_jobs(
    session: Session,
    *,
    older_than_s: float,
    keep: int,
    dry_run: bool,
    forget: bool,
    as_json: bool,
) -> int:
    with session.client(acts=not dry_run) as client:
        found = client.prunable_jobs(older_than_s=older_than_s, keep=keep)
        taught = client.unneeded_scores([each.job for each in found])
        if dry_run or not (found or taught):
            _tell(found, taught, as_json, removed=False)
            return ExitCode.OK
        if not as_json:
            _tell(found, taught, as_json, removed=False)
        if not session.yes:
            _ask(len(found))
        removed = client.prune_jobs([each.job for each in found], forget=forget)
        taught = client.prune_scores()
    if as_json:
        _tell(removed, taught, as_json, removed=True)
        return _code(removed)
    for each in removed:
        for place, reason in each.obstacles.items():
            kept = "" if forget and "" not in each.obstacles else " stays in the list"
            click.echo(f"{each.job}{kept}: {place or 'here'}: {clean(reason)}", err=True)
    gone = [each for each in removed if not each.obstacles or (forget and "" not in each.obstacles)]
    if removed:
        click.echo(f"removed {_counted(gone)}")
    if taught:
        click.echo(f"removed {_of_teachers(taught)}")
    return _code(removed)


def _code(removed: "Sequence[Remains]") -> ExitCode:
    return ExitCode.FAILED if any(each.obstacles for each in removed) else ExitCode.OK


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise SollolError("nobody can be asked here", remedy="add -y: sollol -y jobs --prune")
    what = "this job" if count == 1 else f"these {count} jobs"
    question = f"remove {what} from the list and from the hosts?" if count else "remove them?"
    click.confirm(question, abort=True, err=True)


def _tell(
    found: "Sequence[Remains]", taught: "Sequence[Taught]", as_json: bool, *, removed: bool
) -> None:
    if as_json:
        listed, said = [each.as_data() for each in found], [asdict(each) for each in taught]
        data = {"schema": "sollol.prune/1", "removed": removed, "jobs": listed, "taught": said}
        click.echo(json.dumps(data))
        return
    if taught:
        click.echo(f"{_of_teachers(taught)}: no other job of the list learns from that")
    if not found:
        click.echo("no ended job is that old, or none is left over")
        return
    for each in found:
        for line in _lines(each):
            click.echo(line)
    click.echo(f"{_counted(found)}: logs, events, run directories; no result folder")


def _lines(each: "Remains") -> Iterator[str]:
    ago = format_duration(time.time() - each.ended_at)
    head = f"{each.job}  {clean(each.name, limit=30)}  {each.state} {ago} ago  "
    yield from folded(f"{head}{_places(each)}", indent=" " * 4)
    if each.adapter:
        yield f"    its adapter is not in {clean(each.adapter)} any more: a worker has the last one"
    for place, reason in each.obstacles.items():
        yield from folded(f"{place or 'here'}: {clean(reason)}", head=" " * 4)


def _places(each: "Remains") -> str:
    sizes = {"here": each.here_bytes, **each.workers}
    return "  ".join(f"{place} {format_bytes(size)}" for place, size in sizes.items())


def _of_teachers(taught: "Sequence[Taught]") -> str:
    size = format_bytes(sum(each.size_bytes for each in taught))
    caches = f"{len(taught)} cache{'' if len(taught) == 1 else 's'}"
    return f"what teachers said, kept here: {caches}, {size}"


def _counted(found: "Sequence[Remains]") -> str:
    size = format_bytes(sum(each.size_bytes for each in found))
    return f"{len(found)} job{'' if len(found) == 1 else 's'}, {size}"
