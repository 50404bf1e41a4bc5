"""`sollol fetch`: a job's adapter, or one of its checkpoints, once more or to another folder."""

import sys
import time
from typing import Final, Literal

import click

from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

_EVERY_S: Final = 0.2


def _step(
    _ctx: click.Context, _option: click.Parameter, value: str | None
) -> int | Literal["newest"] | None:
    if value is None or value == "newest":
        return "newest" if value else None
    text = value.removeprefix("checkpoint-")
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:16]) < 10**15):
        raise click.BadParameter(f"'{value}' is no step of a checkpoint; a number, or newest")
    return int(text)


@click.command()
@click.argument("job", type=JOB)
@click.option("--to", metavar="DIR", help="Into this folder, new or empty.")
@click.option(
    "--checkpoint",
    metavar="N|newest",
    callback=_step,
    help="A checkpoint instead of the adapter; of a running job too.",
)
@pass_session
def fetch(
    session: Session, job: str, to: str | None, checkpoint: "int | Literal['newest'] | None"
) -> None:
    """Bring the adapter of a job that has ended once more, or a checkpoint, verified.

    What had arrived when a fetch was interrupted does not travel again.

    \b
    Example: sollol fetch j-7f3a --checkpoint 400 --to ./step-400
    """
    with session.client(acts=True) as client, _Meter() as meter:
        place = client.fetch(job, to=to, checkpoint=checkpoint, report=meter.report)
    what = "adapter" if checkpoint is None else "checkpoint"
    click.echo(f"{what}  {clean(str(place))}")


class _Meter:
    """One line on the terminal that says how far it is; gone when it is over."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._at = 0.0
        self._width = 0

    def report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._is_shown and now - self._at >= _EVERY_S:
            self._at = now
            self._show(f"{format_bytes(done)} of {format_bytes(total)}")

    def _show(self, text: str) -> None:
        click.echo(f"\r{text:<{self._width}}", nl=False, err=True)
        self._width = len(text)

    def __enter__(self) -> "_Meter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._width:
            self._show("")
            click.echo("\r", nl=False, err=True)
