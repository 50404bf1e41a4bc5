"""Sixteen OpenSSH hosts: log in and tell all facts, against `pdsh ... true` on the same hosts.

Run: .venv/bin/python -m pytest -s tests/bench/test_connect.py (root, pdsh)
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.cluster.lab import Lab, missing_pieces

HOSTS = 16
RUNS = 7


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    missing = missing_pieces()
    if missing or shutil.which("pdsh") is None:
        pytest.skip(missing or "pdsh is not here: apt install pdsh")
    with Lab.up(hosts=HOSTS) as lab:
        yield lab


# What a program does that asks all hosts, as one process and as a function of this one.
PROGRAM = """
import asyncio
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.ssh import connect
from sollol_tui.model.inventory import Host

async def ask_all(identity, known_hosts, addresses):
    async def one(address):
        host = Host(name=address, address=address, user="root", identity_file=identity)
        async with connect(host, [known_hosts], timeout_s=60) as connection:
            assert (await gather_facts(connection)).address == address

    async with asyncio.TaskGroup() as group:
        for address in addresses:
            group.create_task(one(address))
"""
START = """
import sys
from pathlib import Path
asyncio.run(ask_all(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
"""


def test_connect_and_facts(lab: Lab, tmp_path: Path, isolated_home: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(lab.known_hosts_text())
    addresses = [machine.address for machine in lab.hosts]
    pdsh = ["pdsh", "-R", "ssh", "-f", str(HOSTS), "-l", "root", "-w", ",".join(addresses), "true"]
    options = f"-F /dev/null -i {lab.identity} -o UserKnownHostsFile={known_hosts}"
    environment = {**os.environ, "PDSH_SSH_ARGS_APPEND": options}
    whole = [sys.executable, "-c", PROGRAM + START, str(lab.identity), str(known_hosts), *addresses]
    program: dict[str, Any] = {}
    exec(PROGRAM, program)

    theirs, ours, processes = [], [], []
    for turn in range(RUNS + 1):  # in turn, so that the machine's moods hit all three
        begun = time.perf_counter()
        subprocess.run(pdsh, env=environment, check=True, capture_output=True)
        told = time.perf_counter()
        asyncio.run(program["ask_all"](str(lab.identity), known_hosts, addresses))
        asked = time.perf_counter()
        subprocess.run(whole, check=True, capture_output=True)
        ended = time.perf_counter()
        if turn > 0:  # the first one reads the files into memory
            theirs.append(told - begun)
            ours.append(asked - told)
            processes.append(ended - asked)
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    with_start = median(mine / other for mine, other in zip(processes, theirs, strict=True))
    print(
        f"\n{HOSTS} hosts: connect + facts {median(ours):.2f} s, pdsh true {median(theirs):.2f} s: "
        f"{ratio:.2f} x; with the interpreter's start {median(processes):.2f} s: {with_start:.2f} x"
    )
