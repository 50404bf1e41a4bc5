"""The terminal of a command: how wide it is, whether it takes colours, and talk on stderr that is
no data. Prints nothing of its own accord."""

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Final

import click

from sollol_tui.cli.session import Session

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH: Final = 160  # a pipe has no width of its own
_LEAST_WIDTH: Final = 20  # of a text that is folded


def width() -> int:
    """Cells of a line of stdout; $COLUMNS decides for a pipe as well."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return max(1, shutil.get_terminal_size().columns)
    return PIPE_WIDTH


def folded(text: str, *, head: str = "", indent: str | None = None) -> list[str]:
    """A sentence behind `head`, folded to the terminal below its beginning or at `indent`; whole
    where no terminal is. A word longer than the line stays whole: it may be something to copy."""
    if not (sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()):
        return [head + text]
    behind = " " * len(head) if indent is None else indent
    lines = textwrap.wrap(
        text,
        max(width(), len(behind) + _LEAST_WIDTH),
        initial_indent=head,
        subsequent_indent=behind,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [head]


def stderr_width() -> int:
    """Cells of a line of stderr, where that is a terminal; stdout may be none then."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return max(1, int(os.environ["COLUMNS"]))
    try:
        return max(1, os.get_terminal_size(sys.stderr.fileno()).columns)
    except (OSError, ValueError):
        return shutil.get_terminal_size().columns


def has_colour(*, stderr: bool = False) -> bool:
    """Whether --color, NO_COLOR and the stream admit colours."""
    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    return (sys.stderr if stderr else sys.stdout).isatty()


def console(*, stderr: bool = False) -> "Console":
    """A console of rich that obeys --color."""
    from rich.console import Console

    if has_colour(stderr=stderr):
        return Console(stderr=stderr, color_system="auto", no_color=False)
    return Console(stderr=stderr, color_system=None)


def is_quiet() -> bool:
    """Whether -q was given: only data, errors and answers to questions are wanted."""
    context = click.get_current_context(silent=True)
    session = context.find_object(Session) if context is not None else None
    return session is not None and session.quiet


def say(text: str, *, nl: bool = True) -> None:
    """Tells a person on stderr how it goes on; -q leaves it out."""
    if not is_quiet():
        click.echo(text, err=True, nl=nl)
