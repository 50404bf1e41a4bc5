"""How long a command takes to start, against the libraries it cannot do without. Run: make bench"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import JobState
from tests.jobs.samples import add_job

RUNS = 9
MANY_HOSTS, MANY_JOBS = 200, 2000
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


def ratio(command: list[str], folder: Path) -> float:
    """The median of RUNS pairs, in turn, so that the machine's moods hit both."""
    whole = [sys.executable, "-m", "sollol_tui", *command]
    seconds(whole, folder)  # the state is made, the files are read once
    pairs = [(seconds(BASE, folder), seconds(whole, folder)) for _ in range(RUNS)]
    return median(own / base for base, own in pairs)


@pytest.mark.parametrize("name", COMMANDS)
def test_start_of_a_command(name: str, tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("hosts: [hydra, desktop]\n")
    found = ratio(COMMANDS[name], tmp_path)
    print(f"\n{name}: {found:.2f} x the start of click, sqlite3 and rich")


@pytest.mark.parametrize("name", COMMANDS)
def test_start_of_a_command_where_there_is_much(name: str, tmp_path: Path) -> None:
    hosts = {f"host{n:03}": {"address": f"10.0.{n // 250}.{n % 250}"} for n in range(MANY_HOSTS)}
    (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": hosts}))
    with Store(open_home()) as store:
        store.connection.execute("PRAGMA synchronous = OFF")
        for number in range(MANY_JOBS):
            job = add_job(store, f"host {number} cpu", name=f"job-{number}")
            store.move_job(job, JobState.FAILED, "over")
        for host in hosts:
            store.note_reading(
                str(tmp_path / "inventory.yaml"), host, state="up", reason="",
                data={"cpu_percent": 5.0, "ram_used_bytes": 1, "ram_total_bytes": 2, "gpus": []},
            )  # fmt: skip
    found = ratio(COMMANDS[name], tmp_path)
    print(f"\n{name}, {MANY_HOSTS} hosts and {MANY_JOBS} jobs: {found:.2f} x the same")
