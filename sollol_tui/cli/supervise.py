"""`sollol supervise`: sees to it that jobs have their supervisors, for cron and systemd. Every
command does that when it starts; this one does nothing else, and says what it did."""

import json
import time
from typing import Final

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.model.states import UNATTENDED
from sollol_tui.model.text import clean

_LIMIT_S: Final = 20.0  # until a supervisor that was started is one
_POLL_S: Final = 0.1


@click.command()
@click.argument("job", required=False, type=JOB)
@click.option("--all", "everything", is_flag=True, help="Every job that needs one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.supervise/1).")
@pass_session
def supervise(session: Session, job: str | None, everything: bool, as_json: bool) -> int:
    """Starts the supervisors that jobs have lost; they adopt what runs. 1 when one does not start.

    \b
    Example: sollol supervise --all
    """
    if (job is None) is not everything:
        raise click.UsageError("name a job, or give --all")
    with session.client(acts=True) as client:
        chosen = None if job is None else client.get_job_status(job).id
        attended = client.supervised_jobs()
        wanted = attended if chosen is None else {chosen: attended.get(chosen, True)}
        deadline = time.monotonic() + _LIMIT_S
        while not all(wanted.values()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            now = client.supervised_jobs()
            wanted = {name: now.get(name, True) for name in wanted}
        views = [client.get_job_status(name) for name in wanted]
        started = set(client.revived)
    if as_json:
        listed = [
            {
                "id": view.id,
                "state": view.state,
                "supervised": wanted[view.id] and view.state not in UNATTENDED,
                "started": view.id in started,
            }
            for view in views
        ]
        click.echo(json.dumps({"schema": "sollol.supervise/1", "jobs": listed}))
    else:
        for view in views:
            if view.state in UNATTENDED:
                what = "needs no supervisor"
            elif not wanted[view.id]:
                what = f"has none: {clean(view.stage) or f'sollol logs {view.id} --supervisor'}"
            else:
                what = "its supervisor is started" if view.id in started else "has its supervisor"
            click.echo(f"{view.id}  {view.state}  {what}")
        if not views:
            click.echo("no job needs a supervisor")
    return ExitCode.OK if all(wanted.values()) else ExitCode.FAILED
