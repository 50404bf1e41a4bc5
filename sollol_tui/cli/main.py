"""The `sollol` command: global options, and the commands, each loaded when it is called."""

import os
import sys
from importlib import import_module
from typing import Any, Final

import click

from sollol_tui.cli.exits import ExitCode, exit_code_of
from sollol_tui.cli.session import Session
from sollol_tui.model.errors import InputError, NoWorkersError, SollolError

_COMMANDS: Final = {  # name: module and what it is called there
    "attach": "follow:attach",
    "cancel": "jobs:cancel",
    "demo": "demo:demo",
    "hosts": "hosts:hosts",
    "init": "init:init",
    "jobs": "jobs:jobs",
    "logs": "follow:logs",
    "provision": "hosts:provision",
    "resources": "resources:resources",
    "schema": "schema:schema",
    "show": "jobs:show",
    "status": "status:status",
    "train": "train:train",
    "version": "status:version",
}


class _LazyGroup(click.Group):
    """Imports the module of the one command that runs; suggests the nearest name of a wrong one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command = getattr(import_module(f"sollol_tui.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            if not near:
                raise
            hint = f"No such command '{args[0]}' - did you mean '{near[0]}'?"
            raise click.UsageError(hint, ctx) from error


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SOLLOL",
        "max_content_width": 100,
    },
)
@click.option("-i", "--inventory", metavar="FILE", help="The inventory to use.")
@click.option("--readonly", is_flag=True, help="Refuse whatever acts.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def root(ctx: click.Context, inventory: str | None, readonly: bool, yes: bool) -> None:
    """LoRA fine-tuning across the Linux machines you own, over plain SSH.

    Without a command: the terminal application, or `sollol status` when this is no terminal.

    \b
    Example: sollol train --model ./model --dataset rows.jsonl --workers 2
    """
    ctx.obj = Session(inventory=inventory, readonly=readonly, yes=yes)
    if ctx.invoked_subcommand is None:
        if sys.stdin.isatty() and sys.stdout.isatty():
            from sollol_tui.ui.app import run_app

            with ctx.obj.client() as client:
                if sentence := run_app(client, readonly=readonly):
                    click.echo(sentence)
        else:
            from sollol_tui.cli.status import status

            ctx.invoke(status)


def main(args: list[str] | None = None) -> None:
    """Runs the command line and leaves with its exit code."""
    try:
        result: Any = root.main(args=args, prog_name="sollol", standalone_mode=False)
        code = int(result) if isinstance(result, int) else ExitCode.OK
        sys.stdout.flush()
    except SollolError as error:
        if isinstance(error, NoWorkersError):
            for host, reason in error.reasons.items():
                click.echo(f"  {host}: {reason}", err=True)
        # A problem in a file begins with its place, so that editors can jump there.
        prefix = "" if isinstance(error, InputError) else "sollol: "
        click.echo(f"{prefix}{error}", err=True)
        code = exit_code_of(error)
    except click.exceptions.Abort:
        code = ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    sys.exit(int(code))


if __name__ == "__main__":
    main()
