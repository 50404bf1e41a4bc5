"""`sollol replay`: a recorded job on the screen once more, or in a folder to send."""

import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.errors import SollolError
from sollol_tui.model.units import parse_duration_s


def _duration(_ctx: click.Context, _option: click.Parameter, value: str) -> float:
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _leave(*_signal: object) -> NoReturn:
    sys.exit(ExitCode.OK)


@click.command()
@click.argument("job", type=JOB, metavar="JOB|FOLDER")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 10_000),
    default=20.0,
    show_default=True,
    metavar="N",
    help="Seconds of then in one of now; long silences are cut short.",
)
@click.option(
    "--from",
    "begin_s",
    default="0s",
    metavar="TIME",
    callback=_duration,
    help="Begin so long after the job was made, like 10m.",
)
@click.option("--save", metavar="FOLDER", help="Show nothing; put the recording into a new folder.")
@pass_session
def replay(session: Session, job: str, speed: float, begin_s: float, save: str | None) -> None:
    """Shows a job as it was, in the terminal application; nothing runs and nothing can be asked.

    A FOLDER that --save has made, on whatever machine, is shown as well. It holds the job's
    settings, logs and events: look at them before you give it away.

    \b
    Example: sollol replay j-7f3a --speed 60
    """
    from sollol_tui.jobs.home import open_home
    from sollol_tui.jobs.recording import open_recording, save_recording
    from sollol_tui.jobs.store import Store

    if "/" in job or (Path(job) / "state.db").exists():
        home, chosen = open_recording(Path(job).expanduser())
    else:
        home = open_home()
        with Store(home) as store:
            chosen = store.find_job(job)
    if save is not None:
        with Store(home) as store:
            save_recording(store, chosen, Path(save).expanduser())
        say(f"{chosen} is in {save}; show it: sollol replay {save}")
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SollolError(
            "a replay is shown on a terminal, and this is none",
            remedy="run it in one, or keep it with --save FOLDER",
        )
    from sollol_tui.replay import ReplayClient
    from sollol_tui.ui.app import run_app

    for each in (signal.SIGHUP, signal.SIGTERM):  # a closed terminal leaves no folder behind
        signal.signal(each, _leave)
    with (
        tempfile.TemporaryDirectory(prefix="sollol-replay-") as folder,
        ReplayClient(home, chosen, Path(folder), speed=speed, begin_s=begin_s) as client,
    ):
        run_app(client, readonly=True, job=chosen)
