"""What users were promised of the command line: every command, every flag, every exit code."""

import re

import click
import pytest

from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.main import root
from tools import commands

GLOBAL = "-i --inventory --readonly --color -q -v -y --timeout"
PROMISED = {
    "demo": "",
    "init": "--from-ssh-config",
    "hosts ls": "--json",
    "hosts add": "",
    "hosts rm": "",
    "hosts import": "",
    "hosts trust": "",
    "hosts cordon": "",
    "hosts uncordon": "",
    "doctor": "--network --fix --json",
    "provision": "--dry-run --recreate",
    "train": "-d --dry-run --no-queue --resume --set --model --dataset --epochs --batch-size"
    " --max-length --lora-r --lora-alpha --workers --mode --sollol-host --sollol-port",
    "status": "-w --check --json",
    "jobs": "-a -n --state --json",
    "show": "--json",
    "resources": "--free --json",
    "logs": "-f -n --host --slot --since --grep --supervisor --json",
    "attach": "",
    "pause": "",
    "resume": "",
    "cancel": "--now",
    "join": "",
    "leave": "",
    "wait": "--for",
    "rerun": "--set --from-checkpoint",
    "events": "-f --json",
    "metrics": "--csv --compare --json",
    "checkpoints": "--json",
    "fetch": "",
    "evaluate": "--json",
    "export": "--merge --ollama",
    "dataset check": "--json",
    "dataset show": "--json",
    "dashboard": "--port",
    "schema": "",
    "config show": "--json",
    "config edit": "",
    "config path": "--json",
    "config systemd": "",
    "completion": "",
    "version": "--json",
}
EXITS = {0, 1, 2, 3, 4, 5, 6, 7, 124, 130}
THERE = {path.removeprefix("sollol "): command for path, command, _ in commands.commands()}


def options(command: click.Command) -> set[str]:
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("command", PROMISED)
def test_each_command_has_the_flags_it_promised(command: str) -> None:
    assert set(PROMISED[command].split()) - options(THERE[command]) == set()


def test_the_global_options_are_there() -> None:
    assert set(GLOBAL.split()) - options(root) == set()


def test_the_exit_codes_are_those_that_the_readme_lists() -> None:
    assert {int(code) for code in ExitCode} == EXITS
    (listed,) = re.findall(r"^Exit codes: (.*?)\n\n", commands.README.read_text(), re.M | re.S)
    assert {int(code) for code in re.findall(r"(?:^|· ?\n?)(\d+) ", listed)} == EXITS
