"""The `sollol` command: global options, and the commands, each loaded when it is called."""

import io
import logging
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO

import click

from sollol_tui.cli.exits import ExitCode, exit_code_of
from sollol_tui.cli.lazy import LazyGroup, ReaderGoneError
from sollol_tui.cli.params import FILE, Word
from sollol_tui.cli.session import Session
from sollol_tui.model.errors import InputError, NoWorkersError, SollolError
from sollol_tui.model.text import clean

_COMMANDS: Final = {  # name: module and what it is called there
    "attach": "follow:attach",
    "cancel": "control:cancel",
    "completion": "completion:completion",
    "checkpoints": "checkpoints:checkpoints",
    "config": "config:config",
    "dashboard": "dashboard:dashboard",
    "dataset": "dataset:dataset",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "evaluate": "evaluate:evaluate",
    "events": "events:events",
    "export": "export:export",
    "fetch": "fetch:fetch",
    "hosts": "hosts:hosts",
    "init": "init:init",
    "jobs": "jobs:jobs",
    "join": "control:join",
    "leave": "control:leave",
    "logs": "logs:logs",
    "metrics": "metrics:metrics",
    "pause": "control:pause",
    "provision": "provision:provision",
    "replay": "replay:replay",
    "rerun": "rerun:rerun",
    "resources": "resources:resources",
    "resume": "control:resume",
    "schema": "schema:schema",
    "show": "jobs:show",
    "status": "status:status",
    "supervise": "supervise:supervise",
    "train": "train:train",
    "version": "status:version",
    "wait": "control:wait",
}


def _number(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # which no range refuses
        raise click.BadParameter("it is no number")
    return value


@click.group(
    cls=LazyGroup,
    places=_COMMANDS,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SOLLOL",
        "max_content_width": 100,
    },
)
@click.option("-i", "--inventory", metavar="FILE", type=FILE, help="The inventory to use.")
@click.option("--readonly", is_flag=True, help="Refuse whatever acts.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    metavar="S",
    callback=_number,
    help="Seconds a connection may take, for every host's connect_timeout.",
)
@click.option(
    "--color",
    type=Word(["auto", "always", "never"]),
    default="auto",
    help="auto: on a terminal, unless NO_COLOR is set.",
)
@click.option("-q", "--quiet", is_flag=True, help="No hints and no progress on stderr.")
@click.option("-v", "--verbose", count=True, help="Tell on stderr what hosts are asked; -vv: more.")
@click.pass_context
def root(
    ctx: click.Context,
    inventory: str | None,
    readonly: bool,
    yes: bool,
    timeout: float | None,
    color: str,
    quiet: bool,
    verbose: int,
) -> None:
    """LoRA fine-tuning across the Linux machines you own, over plain SSH.

    Without a command: the terminal application, or `sollol status` when this is no terminal.

    \b
    Example: sollol train --model ./model --dataset rows.jsonl --workers 2

    Each option above may be set as a variable instead: SOLLOL_INVENTORY, SOLLOL_READONLY,
    SOLLOL_YES, SOLLOL_TIMEOUT, SOLLOL_COLOR, SOLLOL_QUIET, SOLLOL_VERBOSE.
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose do not go together")
    ctx.obj = Session(
        inventory=inventory, readonly=readonly, yes=yes, timeout_s=timeout, quiet=quiet
    )
    if color != "auto" or os.environ.get("NO_COLOR"):
        ctx.color = color == "always"  # what is printed with click asks this
    if verbose:
        ctx.call_on_close(_tell_log(logging.INFO if verbose == 1 else logging.DEBUG))
    if ctx.invoked_subcommand is None:
        if sys.stdin.isatty() and sys.stdout.isatty():
            from sollol_tui.ui.app import run_app

            with ctx.obj.client() as client:
                if sentence := run_app(client, readonly=readonly):
                    click.echo(sentence)
        else:
            from sollol_tui.cli.status import status

            ctx.invoke(status)


_GLOBAL: Final = {name for option in root.params for name in option.opts}


def _tell_log(level: int) -> Callable[[], None]:
    """Lets the log lines of this program onto stderr; what is returned ends that."""
    logger, handler = logging.getLogger("sollol_tui"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before)

    return end


def main(args: list[str] | None = None) -> None:
    """Runs the command line and leaves with its exit code."""
    _open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that a terminal cannot show ends nothing
    try:
        code = _run(args)
        sys.stdout.flush()
    except (ReaderGoneError, BrokenPipeError):
        _drop_output(sys.stdout)
        _drop_output(sys.stderr)
        code = ExitCode.OK
    except OSError as error:
        what = error.strerror or str(error) or type(error).__name__
        where = f": {error.filename}" if error.filename else ""
        click.echo(f"sollol: {what}{where}", err=True)
        code = ExitCode.FAILED
        try:
            sys.stdout.flush()
        except OSError:  # it was our output that could not be written
            _drop_output(sys.stdout)
    sys.exit(int(code))


def _run(args: list[str] | None) -> int:
    """The exit code of a command, after its error was told."""
    try:
        result: Any = root.main(args=args, prog_name="sollol", standalone_mode=False)
    except SollolError as error:
        if isinstance(error, NoWorkersError):
            for host, reason in error.reasons.items():
                click.echo(f"  {host}: {reason}", err=True)
        # A problem in a file begins with its place, so that editors can jump there.
        prefix = "" if isinstance(error, InputError) else "sollol: "
        click.echo(f"{prefix}{error}", err=True)
        return exit_code_of(error)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption) and error.option_name in _GLOBAL:
            click.echo(f"{error.option_name} goes before the command: sollol --help", err=True)
        return ExitCode.USAGE
    except (ReaderGoneError, OSError):
        raise
    except Exception as error:
        return _tell_defect(error)
    return int(result) if isinstance(result, int) else ExitCode.OK


def _tell_defect(error: Exception) -> ExitCode:
    """One sentence for a mistake of ours; where it is stands in a file that can be sent along."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="sollol-", suffix=".txt", delete=False, errors="replace"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    said = clean(str(error), limit=200)
    click.echo(
        f"sollol: failed unexpectedly: {type(error).__name__}{': ' if said else ''}{said}; "
        f"this is a defect of sollol, please report it with {file.name}",
        err=True,
    )
    return ExitCode.FAILED


def _open_missing_streams() -> None:
    """A stream that the shell has closed (`>&-`) goes nowhere: what is opened next would get its
    number, and Python has None in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115


def _drop_output(stream: TextIO) -> None:
    """Nothing more is written to a stream that takes nothing, not even when Python ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
