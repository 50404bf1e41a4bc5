"""`sollol jobs`, `show`: what there is."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.params import JOB, Word
from sollol_tui.cli.prune import age, prune_jobs
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.tables import NO_JOBS, job_lines, print_lines
from sollol_tui.cli.terminal import folded
from sollol_tui.model.columns import teacher_words
from sollol_tui.model.ranking import ranking_lines
from sollol_tui.model.snapshot import EvaluationView, JobView
from sollol_tui.model.states import JobState
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_duration, format_rate

if TYPE_CHECKING:
    from sollol_tui.model.evaluation import Evaluation
    from sollol_tui.model.evidence import Evidence


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Ended ones too, all of them.")
@click.option(
    "-n", "count", type=click.IntRange(1), default=20, show_default=True, help="How many."
)
@click.option(
    "--state",
    "states",
    type=Word([state.value for state in JobState]),
    metavar="STATE",
    multiple=True,
    help="Only jobs in this state; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.jobs/1).")
@click.option("--prune", is_flag=True, help="Remove what ended jobs have left, but no result.")
@click.option(
    "--older-than", metavar="AGE", callback=age, help="With --prune: ended so long ago, like 30d."
)
@click.option("--keep", type=click.IntRange(0), help="With --prune: but the newest N ended ones.")
@click.option("--dry-run", is_flag=True, help="With --prune: show it and stop.")
@click.option(
    "--forget", is_flag=True, help="With --prune: also where a worker cannot be cleaned up."
)
@pass_session
def jobs(
    session: Session,
    everything: bool,
    count: int,
    states: tuple[str, ...],
    as_json: bool,
    prune: bool,
    older_than: float | None,
    keep: int | None,
    dry_run: bool,
    forget: bool,
) -> int:
    """The jobs, newest first; with --prune, what ended ones have left, and its removal.

    \b
    Example: sollol jobs -a --state failed
    """
    if prune and states:
        raise click.UsageError("--state goes with the list, not with --prune")
    if prune:
        return prune_jobs(
            session,
            older_than_s=older_than or 0.0,
            keep=keep or 0,
            dry_run=dry_run,
            forget=forget,
            as_json=as_json,
        )
    if older_than is not None or keep is not None or dry_run or forget:
        raise click.UsageError("--older-than, --keep, --dry-run and --forget go with --prune")
    with session.client() as client:
        listed = client.list_jobs(None if everything else count, states=states)
    if as_json:
        data = {"schema": "sollol.jobs/1", "jobs": [asdict(job) for job in listed]}
        click.echo(json.dumps(data))
    else:
        print_lines(job_lines(listed, or_else=_none(states)))
    return ExitCode.OK


def _none(states: Sequence[str]) -> str:
    return f"no job is {' or '.join(states)} - all of them: sollol jobs -a" if states else NO_JOBS


@click.command()
@click.argument("job", type=JOB)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.job/1).")
@pass_session
def show(session: Session, job: str, as_json: bool) -> None:
    """Everything about one job; what went wrong stands first.

    \b
    Example: sollol show j-7f3a
    """
    with session.client() as client:
        view, evaluations = client.get_job_status(job), client.evaluations(job)
        evidence, evaluated = client.evidence(view.id), client.evaluated(view.id)
        ranking = client.ranking(view.id)
    if as_json:
        told = {
            "job": asdict(view),
            "evaluations": [asdict(each) for each in evaluations],
            "evidence": asdict(evidence),
            "evaluated": [each.as_data() for each in evaluated],
            "ranking": [asdict(each) for each in ranking],
        }
        click.echo(json.dumps({"schema": "sollol.job/1", **told}))
        return
    if view.traceback:
        click.echo(clean(view.reason) or f"{view.id} goes on after this:")  # the host stands first
        click.echo("\n".join(f"  {line}" for line in clean_lines(view.traceback)))
        click.echo()
    for name, value in (*_facts(view, evaluations, evidence), *_evaluated(evaluated)):
        click.echo("\n".join(folded(value, head=f"{name:<10} ")))
    for line in ranking_lines(ranking):
        click.echo(line)


def _evaluated(evaluations: "Sequence[Evaluation]") -> Iterator[tuple[str, str]]:
    """What `sollol evaluate` found, the newest first."""
    for each in reversed(evaluations):
        when = datetime.fromtimestamp(each.at).astimezone()
        yield "evaluated", f"{when:%Y-%m-%d %H:%M}  {clean(each.source)}: {clean(each.sentence)}"


def _facts(
    view: JobView, evaluations: Sequence[EvaluationView], evidence: "Evidence"
) -> list[tuple[str, str]]:
    now = time.time()
    why = view.reason or ("" if view.state.is_terminal else view.stage)
    reason = f": {clean(why)}" if why else ""
    facts = [
        ("job", f"{view.id}  {clean(view.name)}"),
        ("state", f"{view.state}{reason}"),
        ("model", clean(view.model)),
        ("dataset", clean(view.dataset)),
        (
            "progress",
            f"step {view.step:,}/{view.max_steps:,}, {view.samples_done:,} of "
            f"{view.samples_total:,} samples committed",
        ),
    ]
    if view.loss is not None:
        facts.append(("loss", f"{view.first_loss:.3f} at first, {view.loss:.3f} now"))
    if evaluations:
        best = min(evaluations, key=lambda each: each.loss)
        least = (
            "" if best is evaluations[-1] else f"; best {best.loss:.3f} after step {best.step:,}"
        )
        facts.append(("held out", evaluations[-1].sentence.removeprefix("held-out ") + least))
    if view.samples_per_s is not None:
        facts.append(("speed", f"{format_rate(view.samples_per_s)}, world {view.world_size}"))
    facts += evidence.facts()
    began, ended = view.started_at or view.created_at, view.ended_at or now
    facts.append(("time", format_duration(ended - began)))
    for worker in view.workers:
        why = f": {clean(worker.reason)}" if worker.reason else ""
        slots = ", ".join(map(str, worker.slots))
        facts.append(("worker", f"{worker.host}  rank {slots}  {worker.state}{why}"))
    for teacher in view.teachers:
        facts.append(("teacher", f"{teacher.host}  {teacher_words(teacher)}"))
    return [*facts, ("output", clean(view.output_dir))]
