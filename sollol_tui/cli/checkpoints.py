"""`sollol checkpoints`: which there are, where they lie, and whether they are whole."""

import json
from collections.abc import Iterator
from datetime import datetime

import click

from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import folded
from sollol_tui.model.checkpoints import CheckpointSurvey, CheckpointView
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes, format_count


@click.command()
@click.argument("job", type=JOB)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.checkpoints/1).")
@pass_session
def checkpoints(session: Session, job: str, as_json: bool) -> None:
    """The checkpoints of a job: its workers and this machine read each to its last byte.

    `result` is the folder that the job has left, `coordinator` what is kept to go on from.

    \b
    Example: sollol checkpoints j-7f3a
    """
    with session.client() as client:
        found = client.checkpoints(job)
        save_steps = client.job_spec(job).save_steps
    if as_json:
        click.echo(json.dumps(found.as_data()))
        return
    if not found.checkpoints:
        every = f"every {save_steps} steps" if save_steps else "only when it is paused or done"
        click.echo(f"{found.job} has no checkpoint yet; it saves one {every}")
    for line in _lines(found):
        click.echo(line)
    for host, reason in found.silent.items():
        click.echo(f"{host} could not be asked: {clean(reason)}", err=True)


def _lines(found: CheckpointSurvey) -> Iterator[str]:
    if not found.checkpoints:
        return
    width = max(len("STEP"), *(len(str(each.step)) for each in found.checkpoints))
    yield f"{'STEP':>{width}}  {'SAVED':<14}  {'SAMPLES':>7}  {'SIZE':>9}  VERIFIED AT"
    for each in found.checkpoints:
        saved = datetime.fromtimestamp(each.at).astimezone().strftime("%m-%d %H:%M:%S")
        head = (
            f"{each.step:>{width}}  {saved}  {format_count(each.samples_done):>7}  "
            f"{format_bytes(each.size_bytes):>9}  "
        )
        yield from folded(" ".join(each.whole_at) or "nowhere", head=head)
        yield from _damages(each)


def _damages(each: CheckpointView) -> Iterator[str]:
    for holding in each.holdings:
        if holding.damage:
            text = f"not whole at {holding.place}: {clean(holding.damage)}"
            yield from folded(text, head=" " * 6)
