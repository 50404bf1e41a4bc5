"""What the documents say of the commands is what the commands say; each has one example."""

import re
import subprocess
import sys

import click
import pytest

from tools import commands

ALL = list(commands.commands())


def test_the_page_of_commands_is_up_to_date() -> None:
    assert commands.REFERENCE.read_text() == commands.reference(), "run: make docs"


def test_the_table_of_the_readme_is_up_to_date() -> None:
    text = commands.README.read_text()
    assert text == commands.with_table(text), "run: make docs"


@pytest.mark.parametrize(("path", "command"), [(path, command) for path, command, _ in ALL])
def test_each_command_helps_with_one_example_of_itself(path: str, command: click.Command) -> None:
    assert command.help
    if isinstance(command, click.Group):
        return
    examples = re.findall(r"Example: (.*)", command.help)
    assert len(examples) == 1
    assert path in examples[0]


def test_each_option_and_command_is_explained() -> None:
    for path, command, _ in ALL:
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, (path, option.name)


def test_every_argument_that_is_a_job_or_a_host_is_completed() -> None:
    named = {"job": "job", "[HOST]": "host", "[HOST...]": "host", "HOST...": "host"}
    for path, command, _ in ALL:
        for argument in command.params:
            if not isinstance(argument, click.Argument):
                continue
            kind = named.get(argument.metavar or "", named.get(argument.name or "", ""))
            assert not kind or argument.type.name == kind, (path, argument.name)


def test_help_of_help_comes_out_of_a_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sollol_tui.cli", "hosts", "add", "-h"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: sollol hosts add [OPTIONS] NAME\n")
