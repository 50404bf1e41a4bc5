"""Groups of commands: each is imported when it is called, a wrong name is met with the nearest, and
output that nobody reads any more ends the command silently."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from sollol_tui.model.names import did_you_mean


class ReaderGoneError(Exception):
    """Whoever read our output has seen enough."""


@contextmanager
def _reader_gone() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error


class Group(click.Group):
    """Suggests the nearest name of a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = did_you_mean(args[0], self.list_commands(ctx))
            if not meant:
                raise
            raise click.UsageError(f"No such command '{args[0]}'{meant}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its whole sentence, folded where the terminal is narrow."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(limit=200))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class LazyGroup(Group):
    """Imports the module of the one command that runs. `places` maps a command to its module below
    sollol_tui.cli and what it is called there. A closed pipe is told as ReaderGoneError: click
    itself would leave with status 1."""

    def __init__(self, *arguments: Any, places: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._places = places

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        with _reader_gone():  # --help writes from in here
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_gone():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            return None
        module, name = self._places[cmd_name].split(":")
        command = getattr(import_module(f"sollol_tui.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command
