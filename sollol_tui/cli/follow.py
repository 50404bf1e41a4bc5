"""Following a job: `sollol attach`, and the lines that `sollol train` prints.

Whatever happens here only looks: Ctrl+C, a closed terminal and SIGKILL leave the job as it is."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.interrupts import held
from sollol_tui.cli.news import News
from sollol_tui.cli.params import JOB
from sollol_tui.cli.proof import ProofTeller
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.stages import Stages, counted, scored
from sollol_tui.cli.terminal import say
from sollol_tui.model.ranking import ranking_lines
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import UNATTENDED, JobState
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_duration, format_rate

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.submit import Prepared

_POLL_S: Final = 0.25
_LINE_EVERY_S: Final = 2.0
_REVIVE_EVERY_S: Final = 3.0  # a killed supervisor is back before anybody misses it


def begin(client: "SOLLOLClient", prepared: "Prepared") -> JobView:
    """Submits a job and prints its name. Whoever interrupts that has to hear it first."""
    job = client.start_job(prepared)
    queued = job.state is JobState.QUEUED
    click.echo(f"queued {job.id}: {clean(job.reason)}" if queued else f"started {job.id}")
    return job


def begin_and_follow(client: "SOLLOLClient", prepared: "Prepared") -> JobView:
    """Submits a job and prints what happens to it until it ends or rests."""
    job = ""
    try:
        with held():
            job = begin(client, prepared).id
        return _follow(client, job)
    except KeyboardInterrupt:
        if not job:
            raise
        _detach(client, job)


def follow_job(client: "SOLLOLClient", job: str) -> JobView:
    """Prints what happens to a job until it ends or rests. Ctrl+C detaches with the way back."""
    try:
        return _follow(client, job)
    except KeyboardInterrupt:
        _detach(client, job)


def _detach(client: "SOLLOLClient", job: str) -> NoReturn:
    with held():
        view = client.get_job_status(job)
        goes_on = "queued" if view.state is JobState.QUEUED else "running"
        click.echo(
            f"\n{job} is still {goes_on}. follow: sollol attach {job}   stop: sollol cancel {job}",
            err=True,
        )
    sys.exit(ExitCode.OK)


def _follow(client: "SOLLOLClient", job: str) -> JobView:
    state, stages, step, printed_at, revived_at = None, Stages(), -1, 0.0, time.monotonic()
    news, proof = News(client, job), ProofTeller(client, job)
    epochs = client.job_spec(job).epochs
    while True:
        view = client.get_job_status(job)
        lines = news.read()  # after the state: who says that it ended has said everything
        if time.monotonic() - revived_at > _REVIVE_EVERY_S:
            client.revive()
            revived_at = time.monotonic()
        lines += proof.read(last=view.state is JobState.DONE)
        told = (view.state, view.reason if view.state is JobState.QUEUED else "")
        if told != state and view.state not in UNATTENDED:
            stages.settle()
            click.echo(": ".join(filter(None, [view.state.value, clean(told[1])])))
        if view.state is not JobState.RUNNING:
            stages.show(view.stage)
        now = time.monotonic()
        last = view.state is not JobState.RUNNING
        if view.step > step and view.step and (last or now - printed_at >= _LINE_EVERY_S):
            stages.give_way()
            click.echo(progress_line(view))
            step, printed_at = view.step, now
        for teaching in scored(view):
            stages.show_beside(teaching)
        for line in lines:
            if (stage := counted(line, view, epochs)) is not None:
                stages.show_beside(stage)
            else:
                stages.settle()
                click.echo(line)
        if news.rings and sys.stderr.isatty():
            click.echo("\a", nl=False, err=True)
        if view.state in UNATTENDED:
            for line in ranking_lines(client.ranking(job)) if view.state is JobState.DONE else ():
                click.echo(line)
            return view
        state = told
        time.sleep(_POLL_S)


def progress_line(view: JobView) -> str:
    """`[  120/ 4852] loss 1.902  14.8 smp/s  ETA 11h 25m`."""
    width = len(str(view.max_steps))
    loss = "-" if view.loss is None else f"{view.loss:.3f}"
    return (
        f"[{view.step:>{width}}/{view.max_steps}] "
        f"{view.samples_done:,}/{view.samples_total:,} samples  loss {loss}  "
        f"{format_rate(view.samples_per_s)}  ETA {format_duration(view.eta_s)}"
    )


def wait_until(client: "SOLLOLClient", job: str, is_settled: Callable[[JobView], bool]) -> JobView:
    """The job once it is settled; until then prints what it is busy with."""
    revived_at, stage = time.monotonic(), ""
    while not is_settled(view := client.get_job_status(job)):
        if view.stage and view.stage != stage:
            say(f"  {clean(view.stage)}")
            stage = view.stage
        if time.monotonic() - revived_at > _REVIVE_EVERY_S:
            client.revive()
            revived_at = time.monotonic()
        time.sleep(_POLL_S)
    return view


def report_end(view: JobView) -> ExitCode:
    """Prints how a job ended or where it rests, and what to do now."""
    if view.state is JobState.PAUSED:
        click.echo(f"{view.id} is paused {clean(view.reason)}; go on: sollol resume {view.id}")
        return ExitCode.OK
    if view.state is JobState.DONE:
        click.echo(
            f"done in {_took(view)}: loss {_number(view.first_loss)} -> {_number(view.loss)}"
        )
        click.echo(f"adapter  {view.output_dir}")
        return ExitCode.OK
    if view.traceback:
        click.echo("\n".join(clean_lines(view.traceback)), err=True)
    reason = f": {clean(view.reason)}" if view.reason else ""
    click.echo(f"{view.id} {view.state}{reason}", err=True)
    say(f"see: sollol logs {view.id}")
    return ExitCode.JOB_FAILED


def _took(view: JobView) -> str:
    return format_duration((view.ended_at or 0) - (view.started_at or view.created_at))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@click.command()
@click.argument("job", required=False, type=JOB)
@pass_session
def attach(session: Session, job: str | None) -> int:
    """Follows a job, by default the newest that runs. Ctrl+C only detaches.

    \b
    Example: sollol attach j-7f3a
    """
    with session.client() as client:
        view = client.get_job_status(job) if job else client.newest_live_job()
        return report_end(follow_job(client, view.id))
