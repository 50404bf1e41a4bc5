"""Writes docs/commands.md and the README's table of commands from the commands themselves.

Run: make docs
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sollol_tui.cli.main import root

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = CHECKOUT / "docs" / "commands.md"
README = CHECKOUT / "README.md"
BEGIN, END = "<!-- commands: made by `make docs` -->\n", "<!-- end of commands -->\n"
SETTINGS: dict[str, Any] = {
    "terminal_width": 100,
    "max_content_width": 100,
    "help_option_names": ["-h", "--help"],
}


def main() -> None:
    REFERENCE.write_text(reference())
    README.write_text(with_table(README.read_text()))


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command with its whole name, groups before what is in them."""
    context = click.Context(root, info_name="sollol", **SETTINGS)
    yield from _below(root, context)


def _below(
    group: click.Group, above: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, above, info_name=name, **SETTINGS)
        yield context.command_path, command, context
        if isinstance(command, click.Group):
            yield from _below(command, context)


def usage(command: click.Command, context: click.Context) -> str:
    """ "sollol logs JOB"."""
    pieces = [each for each in command.collect_usage_pieces(context) if each != "[OPTIONS]"]
    return " ".join([context.command_path, *pieces])


def reference() -> str:
    """The page of all commands: what `--help` says."""
    whole = click.Context(root, info_name="sollol", **SETTINGS)
    parts = [
        "# Commands\n\nMade by `make docs`; `sollol COMMAND --help` says the same.\n\n```"
        f"\n{root.get_help(whole)}\n```\n"
    ]
    parts += [
        f"## {path}\n\n```\n{command.get_help(context)}\n```\n"
        for path, command, context in commands()
    ]
    return "\n".join(parts)


def table() -> str:
    """The README's table: a line for each command that does something itself."""
    rows = [
        f"| `{usage(command, context).replace('|', chr(92) + '|')}` | "
        f"{command.get_short_help_str(limit=200)} |"
        for _, command, context in commands()
        if not isinstance(command, click.Group)
    ]
    return "\n".join(["| command | does |", "|---|---|", *rows]) + "\n"


def with_table(text: str) -> str:
    """The README's text with the table as it should be."""
    section = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)
    if not section.search(text):
        sys.exit(f"README.md lacks the lines {BEGIN!r} and {END!r}")
    return section.sub(lambda _: table(), text)


if __name__ == "__main__":
    main()
