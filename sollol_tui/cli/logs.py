"""`sollol logs`: what the ranks of a job, its agents and its supervisor have written. Only looks;
Ctrl+C leaves the job as it is."""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from sollol_tui.cli.params import HOST, JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.units import parse_moment

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.logs import LogLine, LogReader, Slot

_POLL_S: Final = 0.25


def _slot(_ctx: click.Context, _option: click.Parameter, value: str | None) -> "Slot | None":
    if value is None or value == "agent":
        return "agent" if value else None
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise click.BadParameter(f"'{value[:40]}' is no slot; a number, or agent")
    return int(value)


def _moment(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parse_moment(value, datetime.now().astimezone()).timestamp()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("job", type=JOB)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("-n", "count", type=click.IntRange(0), help="Only the last N lines of what is there.")
@click.option("--host", metavar="HOST", type=HOST, help="Of this host only.")
@click.option("--slot", metavar="N|agent", callback=_slot, help="Of this rank, or of the agents.")
@click.option(
    "--since", metavar="T", callback=_moment, help="Only what came since: 10m, 14:30, a date."
)
@click.option("--grep", metavar="RE", help="Only lines in which this regular expression is found.")
@click.option("--supervisor", is_flag=True, help="What the coordinator's side of the job says.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line (sollol.log-line/1).")
@pass_session
def logs(
    session: Session,
    job: str,
    follow: bool,
    count: int | None,
    host: str | None,
    slot: "Slot | None",
    since: float | None,
    grep: str | None,
    supervisor: bool,
    as_json: bool,
) -> None:
    """The logs of all ranks, each line with its host and rank.

    \b
    Example: sollol logs j-7f3a -f --grep loss
    """
    if supervisor and (host is not None or slot is not None or since is not None):
        raise click.UsageError("--supervisor takes no --host, --slot or --since")
    from sollol_tui.jobs.logs import LogChoice

    slot = "supervisor" if supervisor else slot
    choice = LogChoice.of(host=host, slot=slot, since=since, grep=grep)
    with session.client() as client:
        view = client.get_job_status(job)
        reader = client.open_logs(view.id, choice)
        if not (follow or supervisor or any(client.home.job(view.id).glob("*/log.*"))):
            say(f"{view.id} has no logs yet; to wait for them: sollol logs {view.id} -f")
        try:
            for line in _lines(client, view.id, reader, follow=follow, count=count):
                click.echo(_shown(line, as_json=as_json, bare=supervisor))
        except KeyboardInterrupt:
            if not follow:
                raise
            click.echo(f"\ndetached; the job goes on. again: sollol logs {view.id} -f", err=True)


def _lines(
    client: "SOLLOLClient", job: str, reader: "LogReader", *, follow: bool, count: int | None
) -> "Iterator[LogLine]":
    """Of what is there already only the last `count`, where there is one."""
    there: deque[LogLine] = deque(maxlen=count)
    is_caught_up = count is None
    while True:
        ended = client.get_job_status(job).state.is_terminal
        lines = reader.read()
        if is_caught_up:
            yield from lines
        else:
            there.extend(lines)
        if lines:
            continue
        if not is_caught_up:
            is_caught_up = True
            yield from there
        if ended or not follow:
            return
        time.sleep(_POLL_S)


def _shown(line: "LogLine", *, as_json: bool, bare: bool) -> str:
    if as_json:
        return json.dumps({"schema": "sollol.log-line/1", **asdict(line)})
    where = "" if bare else f"{line.host}/{'agent' if line.slot is None else line.slot}  "
    return where + line.text
