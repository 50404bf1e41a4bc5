"""`sollol train`: plan, submit, follow."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sollol_tui.blocking import run
from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.follow import begin, begin_and_follow, report_end
from sollol_tui.cli.interrupts import held
from sollol_tui.cli.params import FILE, HOSTS
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import folded, say
from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.names import did_you_mean

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.submit import Prepared
    from sollol_tui.model.spec import JobSpec

_KEYS = {  # flags whose keys lie deeper
    "teacher_model": "teacher.model",
    "teacher_host": "teacher.host",
    "teacher_text": "teacher.text",
}


@click.command()
@click.argument("file", required=False, metavar="[FILE]", type=FILE)
@click.option("--model", metavar="DIR|ID", help="A model folder or a Hub id.")
@click.option("--dataset", metavar="FILE", help="A file, folder, pattern, or hub:NAME.")
@click.option("--epochs", type=int, help="How often each row is seen.  [default: 1]")
@click.option("--batch-size", metavar="N|auto", help="Samples in memory at once.  [default: 1]")
@click.option("--max-length", type=int, help="Tokens of a sample at most.  [default: 512]")
@click.option("--lora-r", type=int, help="LoRA rank.  [default: 32]")
@click.option("--lora-alpha", type=float, help="LoRA alpha.  [default: 64]")
@click.option(
    "--workers", metavar="PATTERN", type=HOSTS, help="3, all, HOST,HOST, a group.  [default: all]"
)
@click.option(
    "--mode",
    metavar="MODE",
    help="data_parallel, teacher_student, hybrid.  [default: data_parallel]",
)
@click.option(
    "--teacher",
    "teacher_model",
    metavar="DIR|ID",
    help="Of whom --model learns; without it --model is the teacher of student:.",
)
@click.option(
    "--teacher-host",
    metavar="HOST[,HOST]",
    help="Where the teacher computes; several share the work.  [default: coordinator]",
)
@click.option(
    "--teacher-text",
    is_flag=True,
    default=None,
    help="The student learns answers that the teacher writes.",
)
@click.option("--name", metavar="NAME", help="What to call the job.")
@click.option("--output-dir", metavar="DIR", help="Where the adapter goes.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of a job file."
)
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it is submitted.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With --dry-run: one JSON object (schema sollol.plan/1).",
)
@click.option("--no-queue", is_flag=True, help="Refuse when its workers are not free now.")
@click.option(
    "--resume",
    metavar="JOB[:N]",
    help="Begin at a checkpoint of that job; without FILE with its settings too.",
)
@click.option("--sollol-host", hidden=True)
@click.option("--sollol-port", hidden=True)
@pass_session
def train(
    session: Session,
    /,
    file: str | None,
    settings: tuple[str, ...],
    detach: bool,
    dry_run: bool,
    as_json: bool,
    no_queue: bool,
    resume: str | None,
    sollol_host: str | None,
    sollol_port: str | None,
    **flags: Any,
) -> int:
    """Trains a LoRA adapter on the workers; this machine stays free.

    The plan is shown first. At a terminal one that is odd (a host is missing or slows the others,
    memory or disk hardly suffice, rows are mostly cut) is asked about; `sollol -y train` does not.

    \b
    Example: sollol train --model ./model --dataset rows.jsonl --workers 2
    """
    from sollol_tui.model.job_file import (
        changed,
        parse_job_file,
        parse_setting,
        spec_from_data,
    )

    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run; of a job: sollol show JOB --json")
    if sollol_host or sollol_port:
        click.echo("--sollol-host and --sollol-port: no server is needed, ignored", err=True)
    overrides = {name: value for name, value in flags.items() if value is not None}
    overrides = {_KEYS.get(name, name): value for name, value in overrides.items()}
    overrides |= dict(parse_setting(setting) for setting in settings)
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise _no_job_file(path)
        spec = parse_job_file(path.read_bytes(), file, overrides)
    elif resume is not None:
        with session.client() as client:
            spec = changed(client.job_spec(resume.partition(":")[0]), overrides)
    else:
        if missing := [f"--{name}" for name in ("model", "dataset") if name not in overrides]:
            raise click.UsageError(f"give a job file, or {' and '.join(missing)}")
        spec = spec_from_data(overrides, "command line")
    with session.client(acts=not dry_run) as client:
        prepared = prepare(client, spec, queue=not no_queue, resume=resume)
        if as_json:
            told = {"wait": prepared.wait, "odd": prepared.oddities}
            click.echo(json.dumps({**prepared.plan.as_data(), **told}))
            return ExitCode.OK
        return run_prepared(session, client, prepared, detach=detach, dry_run=dry_run)


def _no_job_file(path: Path) -> NotFoundError:
    known: list[str] = []
    with suppress(OSError, ValueError):  # a folder that is none either
        known = [found.name for found in path.parent.glob("*.y*ml")]
    if near := did_you_mean(path.name, known):
        return NotFoundError(f"no job file {path}{near}")
    return NotFoundError(
        f"no job file {path}", remedy="sollol init writes one; or give --model and --dataset"
    )


def prepare(
    client: "SOLLOLClient", spec: "JobSpec", *, queue: bool, resume: str | None
) -> "Prepared":
    """Checks and plans a job; whoever interrupts that hears that nothing goes on."""
    try:
        return run(client.prepare_job(spec, queue=queue, resume=resume))
    except KeyboardInterrupt:
        click.echo("\ninterrupted: no job was started", err=True)
        raise


def run_prepared(
    session: Session, client: "SOLLOLClient", prepared: "Prepared", *, detach: bool, dry_run: bool
) -> int:
    """Prints the plan, asks about one that is odd, submits it and follows the job, as far as that
    is wanted."""
    print_plan(prepared)
    if dry_run:
        return ExitCode.OK
    if session.asks and prepared.oddities:
        _ask_about(prepared.oddities)
    if not detach:
        return report_end(begin_and_follow(client, prepared))
    with held():
        job = begin(client, prepared)
        say(f"follow: sollol attach {job.id}   stop: sollol cancel {job.id}")
    return ExitCode.OK


def print_plan(prepared: "Prepared") -> None:
    """The plan, its first line marked."""
    for name, lines in prepared.parts():
        _print_part(name, lines)


def _ask_about(odd: list[str]) -> None:
    """Raises click.Abort unless a person wants the job as it is."""
    _print_part("odd", odd, err=True)
    try:
        if click.confirm("start it all the same?", err=True):
            return
    except click.Abort:
        say("")  # the line in which Ctrl+C was pressed
    say("no job was started")
    raise click.Abort


def _print_part(name: str, lines: list[str], *, err: bool = False) -> None:
    """Lines behind their name, as wide as the terminal; whole where none is."""
    for number, line in enumerate(lines):
        head = f"{name if number == 0 else '':<7} "
        behind = " " * (len(head) + (2 if len(lines) > 1 else 0))
        click.echo("\n".join(folded(line, head=head, indent=behind)), err=err)
