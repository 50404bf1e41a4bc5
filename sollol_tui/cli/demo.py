"""`sollol demo`: the whole main job on this machine, nothing else needed."""

import sys
from typing import TYPE_CHECKING

import click

from sollol_tui.blocking import run
from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.follow import begin, begin_and_follow, report_end
from sollol_tui.cli.interrupts import held
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.train import print_plan
from sollol_tui.model.text import clean

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient


@click.command()
@click.option("--plain", is_flag=True, help="Lines instead of the terminal application.")
@pass_session
def demo(session: Session, plain: bool) -> int:
    """Trains a tiny model on two embedded hosts of this machine, in about two minutes.

    \b
    Example: sollol demo --plain
    """
    session.check_acting()
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.demo import lay_out, make_model
    from sollol_tui.jobs.home import open_home

    home = open_home()
    made = lay_out(home)
    client = SOLLOLClient(made.inventory)
    try:
        click.echo(f"two embedded hosts, see {made.inventory}")
        try:
            run(make_model(client, made, _say))
            prepared = run(client.prepare_job(made.spec()))
        except KeyboardInterrupt:
            click.echo(
                "\ninterrupted: no job was started; what is there the next `sollol demo` takes up",
                err=True,
            )
            raise
        print_plan(prepared)
        if not plain and sys.stdin.isatty() and sys.stdout.isatty():
            from sollol_tui.ui.app import run_app

            with held():
                job = begin(client, prepared).id
            if sentence := run_app(client, readonly=session.readonly, job=job):
                click.echo(sentence)
            if not client.get_job_status(job).state.is_terminal:
                return ExitCode.OK
            end = client.get_job_status(job)
        else:
            end = begin_and_follow(client, prepared)
        code = report_end(end)
        if code is ExitCode.OK:
            _print_samples(client, end.id)
            click.echo(f"next     sollol -i {made.inventory} status")
        return code
    finally:
        client.close()


def _say(text: str) -> None:
    click.echo(f"  {clean(text)}")


def _print_samples(client: "SOLLOLClient", job: str) -> None:
    for event in client.events(job, "sample"):
        phase = event.data.get("phase")
        if phase == "before":
            click.echo(f"asked    {clean(str(event.data.get('prompt', '')))}")
        click.echo(f"{phase:<8} {clean(str(event.data.get('text', '')), limit=200)!r}")
