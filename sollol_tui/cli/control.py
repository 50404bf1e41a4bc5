"""`sollol pause`, `resume`, `join`, `leave`, `cancel`, `wait`: what is asked of a job, and waiting
for it."""

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.follow import report_end, wait_until
from sollol_tui.cli.interrupts import held
from sollol_tui.cli.params import HOSTS, JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.errors import JobError
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import UNATTENDED, JobState
from sollol_tui.model.text import clean


@click.command()
@click.argument("job", type=JOB)
@click.option("-d", "--detach", is_flag=True, help="Do not wait until it is paused.")
@pass_session
def pause(session: Session, job: str, detach: bool) -> int:
    """Saves a checkpoint after the next step and lets go of the workers.

    \b
    Example: sollol pause j-7f3a
    """
    with session.client(acts=True) as client:
        view = client.get_job_status(job)
        try:
            with held():
                client.pause_job(view.id)
            if detach:
                say(f"{view.id} is told to pause; see: sollol status")
                return ExitCode.OK
            end = wait_until(client, view.id, lambda job: job.state in UNATTENDED)
        except KeyboardInterrupt:
            click.echo(
                f"\n{view.id} is told to pause and will; see: sollol show {view.id}", err=True
            )
            return ExitCode.OK
    if end.state is not JobState.PAUSED:
        return report_end(end)
    click.echo(f"{end.id} is paused {clean(end.reason)}; its workers are free")
    say(f"go on: sollol resume {end.id}")
    return ExitCode.OK


@click.command()
@click.argument("job", type=JOB)
@click.option("--workers", metavar="PATTERN", type=HOSTS, help="Other workers than it had.")
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
    say(f"follow: sollol attach {view.id}")


@click.command()
@click.argument("job", type=JOB)
@click.argument("hosts", metavar="[HOST]", required=False, type=HOSTS)
@pass_session
def join(session: Session, job: str, hosts: str | None) -> None:
    """Takes hosts into a job that runs, by default this machine. The training goes on meanwhile.

    HOST may be a pattern: w3,attic, a group, tag:cuda.

    \b
    Example: sollol join j-7f3a attic
    """
    with session.client(acts=True) as client:
        view = client.get_job_status(job)
        with held():
            asked = client.join_job(view.id, hosts)
            _tell_asked(asked, view.id, "join", undo="leave")


@click.command()
@click.argument("job", type=JOB)
@click.argument("hosts", metavar="[HOST]", required=False, type=HOSTS)
@pass_session
def leave(session: Session, job: str, hosts: str | None) -> None:
    """Lets hosts go from a job that runs, by default this machine. The others go on.

    HOST may be a pattern: w3,attic, a group, tag:cuda.

    \b
    Example: sollol leave j-7f3a attic
    """
    with session.client(acts=True) as client:
        view = client.get_job_status(job)
        with held():
            asked = client.leave_job(view.id, hosts)
            _tell_asked(asked, view.id, "leave", undo="join")


def _tell_asked(hosts: list[str], job: str, what: str, *, undo: str) -> None:
    click.echo(f"{', '.join(hosts)} {'is' if len(hosts) == 1 else 'are'} asked to {what} {job}")
    say(f"see: sollol show {job}   undo: sollol {undo} {job} {','.join(hosts)}")


@click.command()
@click.argument("job", type=JOB)
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
        if session.asks:
            click.confirm(f"cancel {view.id} ({view.name}, {view.state})?", abort=True, err=True)
        try:
            with held():
                client.cancel_job(view.id, now=now)
            if detach:
                say(f"{view.id} is told to stop; see: sollol status")
                return ExitCode.OK
            end = wait_until(client, view.id, lambda job: job.state.is_terminal)
        except KeyboardInterrupt:
            click.echo(
                f"\n{view.id} is told to stop and will; see: sollol show {view.id}", err=True
            )
            return ExitCode.OK
        saved = client.events(view.id, "checkpoint")
        kept = _kept(end, apart=bool(client.ranking(view.id))) if saved else ""
    tail = f" ({clean(end.reason)})" if end.reason else ", nothing of it is left on any host"
    click.echo(f"{end.id} is {end.state}{tail}{kept}")
    clean_end = end.state is JobState.CANCELLED and not end.reason
    return ExitCode.OK if clean_end else ExitCode.FAILED


def _kept(job: JobView, *, apart: bool) -> str:
    """Where the newest checkpoint of a cancelled job stays, or that of each student who learned
    `apart`: one stands for all only where they trained one model."""
    hosts = [clean(worker.host) for worker in job.workers]
    if apart:
        where = "its worker" if len(hosts) == 1 else "its own worker"
        return (
            f"; each student's newest checkpoint stays on {where} ({', '.join(hosts)}): "
            f"sollol fetch {job.id} --checkpoint newest --host HOST"
        )
    return f"; its newest checkpoint stays on {hosts[0]}: sollol fetch {job.id} --checkpoint newest"


@click.command()
@click.argument("job", type=JOB)
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
        except KeyboardInterrupt:
            click.echo(f"\nno longer waiting; {job} goes on. again: sollol wait {job}", err=True)
            raise
    click.echo(_where(view))
    return ExitCode.OK


def _where(view: JobView) -> str:
    """ "j-7f3a is running at step 120 of 400"."""
    if view.state is JobState.PAUSED:
        return f"{view.id} is paused {clean(view.reason)}"
    return f"{view.id} is {view.state} at step {view.step} of {view.max_steps}"
