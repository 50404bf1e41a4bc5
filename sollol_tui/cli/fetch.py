"""`sollol fetch`: a job's adapter, or one of its checkpoints, once more or to another folder."""

from typing import Literal

import click

from sollol_tui.cli.bars import Bars
from sollol_tui.cli.params import HOST, JOB, checkpoint_step
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes


@click.command()
@click.argument("job", type=JOB)
@click.option("--to", metavar="DIR", help="Into this folder, new or empty.")
@click.option(
    "--checkpoint",
    metavar="N|newest",
    callback=checkpoint_step,
    help="A checkpoint instead of the adapter; of a running job too.",
)
@click.option(
    "--host", type=HOST, help="With --checkpoint: that of this worker; needed for students apart."
)
@pass_session
def fetch(
    session: Session,
    job: str,
    to: str | None,
    checkpoint: "int | Literal['newest'] | None",
    host: str | None,
) -> None:
    """Bring the adapter of a job that has ended once more, or a checkpoint, verified.

    What had arrived when a fetch was interrupted does not travel again.

    \b
    Example: sollol fetch j-7f3a --checkpoint 400 --to ./step-400
    """
    if host is not None and checkpoint is None:
        raise click.UsageError("--host says whose checkpoint; give --checkpoint N or newest, too")
    what, bars = "adapter" if checkpoint is None else "checkpoint", Bars()

    def report(done: int, total: int) -> None:
        share = done / total if total else 1.0
        bars.show(what, share, f"{format_bytes(done)} of {format_bytes(total)}")

    with session.client(acts=True) as client:
        try:
            place = client.fetch(job, to=to, checkpoint=checkpoint, host=host, report=report)
        except KeyboardInterrupt:
            click.echo(
                "\ninterrupted: what has arrived is kept; go on: "
                f"{_again(job, to, checkpoint, host)}",
                err=True,
            )
            raise
        finally:
            bars.clear()
    click.echo(f"{what}  {clean(str(place))}")


def _again(
    job: str, to: str | None, checkpoint: "int | Literal['newest'] | None", host: str | None
) -> str:
    """The command line that goes on with it."""
    from sollol_tui.hosts.shell import quote

    options = [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
    options += [] if host is None else ["--host", host]
    return quote("sollol", "fetch", job, *options, *(["--to", to] if to is not None else []))
