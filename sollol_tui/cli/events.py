"""`sollol events`: what happened and why, one sentence a line. Only looks; Ctrl+C leaves the job as
it is."""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import folded
from sollol_tui.model.happenings import Happening
from sollol_tui.model.states import UNATTENDED

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_POLL_S: Final = 0.25
_REVIVE_EVERY_S: Final = 3.0
_HOST_WIDTHS: Final = (6, 20)


@click.command()
@click.argument("job", required=False, type=JOB)
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen.")
@click.option(
    "-n", "count", type=click.IntRange(1), help="Only the last N.  [default: all; 30 of all jobs]"
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object (sollol.events/1); one a line with -f."
)
@pass_session
def events(
    session: Session, job: str | None, follow: bool, count: int | None, as_json: bool
) -> None:
    """What happened to a job and why, on all its hosts and here; without JOB: to all jobs.

    \b
    Example: sollol events j-7f3a -f
    """
    with session.client() as client:
        chosen = client.get_job_status(job).id if job is not None else None
        happened = client.timeline(chosen)
        count = count or (len(happened) if chosen else 30)
        shown = happened[-count:] if count else happened
        if as_json and not follow:
            objects = [happening.as_data() for happening in shown]
            click.echo(json.dumps({"schema": "sollol.events/1", "events": objects}))
            return
        if not (happened or follow):
            click.echo("nothing has happened yet - start a job with: sollol train")
            return
        try:
            _print(shown, as_json, with_job=chosen is None)
            if follow:
                _follow(client, chosen, {happening.key for happening in happened}, as_json)
        except KeyboardInterrupt:
            if not follow:
                raise
            again = " ".join(filter(None, ["sollol events", chosen, "-f"]))
            click.echo(f"\ndetached; jobs go on. again: {again}", err=True)


def _follow(client: "SOLLOLClient", job: str | None, told: set[str], as_json: bool) -> None:
    """Prints what is new until the job ends or rests; for all jobs until Ctrl+C."""
    version, revived_at = -1, time.monotonic()
    while True:
        over = job is not None and client.get_job_status(job).state in UNATTENDED
        if (now := client.state_version()) != version:
            version = now
            news = [each for each in client.timeline(job) if each.key not in told]
            told |= {each.key for each in news}
            _print(news, as_json, with_job=job is None)
        if over:
            return
        if time.monotonic() - revived_at > _REVIVE_EVERY_S:
            client.revive()
            revived_at = time.monotonic()
        time.sleep(_POLL_S)


def _print(happened: Sequence[Happening], as_json: bool, *, with_job: bool) -> None:
    least, most = _HOST_WIDTHS
    column = min(most, max((len(each.host) for each in happened), default=0))
    for happening in happened:
        if as_json:
            click.echo(json.dumps(happening.as_data()))
            continue
        when = datetime.fromtimestamp(happening.seen_at).astimezone().strftime("%m-%d %H:%M:%S")
        job = f"{happening.job}  " if with_job else ""
        host = f"{happening.host or '-':<{max(column, least)}}"
        click.echo("\n".join(folded(happening.sentence, head=f"{when}  {job}{host}  ")))
