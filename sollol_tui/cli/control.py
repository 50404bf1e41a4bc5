"""`sollol pause`, `resume`, `cancel`, `wait`: what is asked of a job, and waiting for it."""

import sys

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.follow import report_end, wait_until
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.model.errors import JobError
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import UNATTENDED, JobState
from sollol_tui.model.text import clean


@click.command()
@click.argument("job")
@click.option("-d", "--detach", is_flag=True, help="Do not wait until it is paused.")
@pass_session
def pause(session: Session, job: str, detach: bool) -> int:
    """Saves a checkpoint after the next step and lets go of the workers.

    \b
    Example: sollol pause j-7f3a
    """
    with session.client(acts=True) as client:
        view = client.get_job_status(job)
        client.pause_job(view.id)
        if detach:
            click.echo(f"{view.id} is told to pause; see: sollol status", err=True)
            return ExitCode.OK
        try:
            end = wait_until(client, view.id, lambda job: job.state in UNATTENDED)
        except KeyboardInterrupt:
            click.echo(f"\n{view.id} is told to pause and will; see: sollol status", err=True)
            return ExitCode.OK
    if end.state is not JobState.PAUSED:
        return report_end(end)
    click.echo(f"{end.id} is paused {clean(end.reason)}; its workers are free")
    click.echo(f"go on: sollol resume {end.id}", err=True)
    return ExitCode.OK


@click.command()
@click.argument("job")
@click.option("--workers", metavar="PATTERN", help="Other workers than it had.")
@pass_session
def resume(session: Session, job: str, workers: str | None) -> None:
    """Lets a paused job go on at the sample where it stopped, once its workers are free.

    \b
    Example: sollol resume j-7f3a --workers hydra,attic
    """
    with session.client(acts=True) as client:
        view = client.get_job_status(job)
        client.resume_job(view.id, workers=workers)
        view = client.get_job_status(view.id)
    click.echo(f"{view.id} is {view.state}: {clean(view.reason or view.stage)}".rstrip(": "))
    click.echo(f"follow: sollol attach {view.id}", err=True)


@click.command()
@click.argument("job")
@click.option(
    "--now", is_flag=True, help="Save nothing; give up on unreachable hosts after a minute."
)
@click.option("-d", "--detach", is_flag=True, help="Do not wait until it is over.")
@pass_session
def cancel(session: Session, job: str, now: bool, detach: bool) -> int:
    """Ends a job and leaves nothing of it running on any host.

    \b
    Example: sollol cancel j-7f3a
    """
    with session.client(acts=True) as client:
        view = client.get_job_status(job)
        if not session.yes and sys.stdin.isatty():
            click.confirm(f"cancel {view.id} ({view.name}, {view.state})?", abort=True, err=True)
        client.cancel_job(view.id, now=now)
        if detach:
            click.echo(f"{view.id} is told to stop; see: sollol status", err=True)
            return ExitCode.OK
        try:
            end = wait_until(client, view.id, lambda job: job.state.is_terminal)
        except KeyboardInterrupt:
            click.echo(f"\n{view.id} is told to stop and will; see: sollol status", err=True)
            return ExitCode.OK
        saved = client.events(view.id, "checkpoint")
    kept = f"; its newest checkpoint stays on {end.workers[0].host}" if saved else ""
    tail = f" ({clean(end.reason)})" if end.reason else ", nothing of it is left on any host"
    click.echo(f"{end.id} is {end.state}{tail}{kept}")
    clean_end = end.state is JobState.CANCELLED and not end.reason
    return ExitCode.OK if clean_end else ExitCode.FAILED


@click.command()
@click.argument("job")
@click.option(
    "--for",
    "wanted",
    default="done",
    show_default=True,
    metavar="running|paused|done|step=N",
    help="What to wait for.",
)
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="At most so many seconds.")
@pass_session
def wait(session: Session, job: str, wanted: str, timeout: float | None) -> int:
    """Returns once a job is done or where it is wanted: 0; 6 when it ended otherwise, 124 late.

    \b
    Example: sollol wait j-7f3a && ./use-the-adapter
    """
    with session.client() as client:
        try:
            view = client.wait(job, wanted, timeout_s=timeout)
        except JobError as error:
            click.echo(f"sollol: {error}", err=True)
            return ExitCode.JOB_FAILED
    click.echo(_where(view))
    return ExitCode.OK


def _where(view: JobView) -> str:
    """ "j-7f3a is running at step 120 of 400"."""
    if view.state is JobState.PAUSED:
        return f"{view.id} is paused {clean(view.reason)}"
    return f"{view.id} is {view.state} at step {view.step} of {view.max_steps}"
