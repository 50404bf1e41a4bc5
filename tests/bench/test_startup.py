"""How long a command takes to start, against the libraries it cannot do without. Run: make bench"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

RUNS = 9
BASE = [sys.executable, "-c", "import click, sqlite3, rich.console, rich.table"]
COMMANDS = {
    "sollol --help": ["--help"],
    "sollol status --cached": ["status", "--cached"],
    "sollol jobs": ["jobs"],
}


def seconds(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


@pytest.mark.parametrize("name", COMMANDS)
def test_start_of_a_command(name: str, tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("hosts: [hydra, desktop]\n")
    command = [sys.executable, "-m", "sollol_tui", *COMMANDS[name]]
    ratios = []
    seconds(command, tmp_path)  # the state is made, the files are read once
    for _ in range(RUNS):  # in turn, so that the machine's moods hit both
        base = seconds(BASE, tmp_path)
        ratios.append(seconds(command, tmp_path) / base)
    print(f"\n{name}: {median(ratios):.2f} x the start of click, sqlite3 and rich")
