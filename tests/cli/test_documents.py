"""Every command that README and docs show can be typed: it is there, and so are its options."""

import re
import shlex
from pathlib import Path

import click
import pytest

from sollol_tui.cli.main import root

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
_SHOWN = re.compile(
    r"`(?:sollol|python -m sollol_tui\.cli)( [^`\n]*)?`"  # within a sentence
    r"|^ *\$? ?sollol( .+)$",  # in a block of its own
    re.MULTILINE,
)


def shown_in(page: Path) -> list[str]:
    found = (next(filter(None, match), "") for match in _SHOWN.findall(page.read_text()))
    return sorted({text.replace("\\|", "|").strip() for text in found})


def misfit(text: str) -> str:
    """Why a command line cannot be typed like that; options in brackets are as good as others."""
    words = shlex.split(text.replace("[", " ").replace("]", " ").replace("...", " "), comments=True)
    command: click.Command = root
    for word in words:
        # A command keeps the help option that it is first asked for.
        here = click.Context(command, help_option_names=["-h", "--help"])
        name = word.partition("=")[0]
        if name.startswith("-") and name.strip("-"):
            known = {o for p in command.get_params(here) for o in (*p.opts, *p.secondary_opts)}
            if name not in known:
                return f"{_called(command)} has no {name}"
        elif isinstance(command, click.Group):
            inner = command.get_command(here, word)
            if inner is not None:
                command = inner
            elif word.islower() and not any(mark in word for mark in "./|&>"):
                return f"{_called(command)} has no {word}"
    return ""


def _called(command: click.Command) -> str:
    return "sollol" if command is root else str(command.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_that_a_page_shows_can_be_typed(page: Path) -> None:
    assert {text: why for text in shown_in(page) if (why := misfit(text))} == {}


def test_what_cannot_be_typed_is_found() -> None:
    assert misfit("status --cached") == misfit("hosts add NAME --address A") == ""
    assert misfit("stats") == "sollol has no stats"
    assert misfit("train F --no-such") == "train has no --no-such"
    shown = {text for page in PAGES for text in shown_in(page)}
    assert {"status", "jobs -a --json", "train ... --dry-run", "doctor --network"} <= shown
