"""Two hundred embedded hosts: `sollol status` as a whole process, its time and its memory.

Run: .venv/bin/python -m pytest -s tests/bench/test_many_hosts.py
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HOSTS = 200
RUNS = 5


def status(folder: Path, *options: str) -> tuple[float, float, int]:
    """Seconds, seconds of CPU of it and of its commands, and the peak of its own memory."""
    with (folder / "out").open("wb") as out:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "sollol_tui", "status", *options], cwd=folder, stdout=out
        )
        _, code, used = os.wait4(process.pid, 0)
        taken_s = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0
    return taken_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def test_status_of_two_hundred_hosts(tmp_path: Path, monkeypatch) -> None:
    lines = [
        f"  e{number:03}: {{connection: local, workdir: {tmp_path}/w/{number}}}\n"
        for number in range(HOSTS)
    ]
    (tmp_path / "inventory.yaml").write_text("hosts:\n" + "".join(lines))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # as it is for users
    runs = []
    for turn in range(RUNS + 1):
        monkeypatch.setenv("SOLLOL_HOME", str(tmp_path / f"state-{turn}"))  # nothing is fresh
        runs.append(status(tmp_path))
        assert f"{HOSTS}/{HOSTS} hosts up" in (tmp_path / "out").read_text()
    cached = [status(tmp_path, "--cached") for _ in range(RUNS)]
    taken, cpu, memory = (list(column) for column in zip(*runs[1:], strict=True))
    print(
        f"\n{HOSTS} embedded hosts, sollol status: {median(taken):.2f} s (best {min(taken):.2f}), "
        f"{median(cpu):.2f} s of CPU with its commands, {max(memory) / 1e6:.0f} MB; --cached, "
        f"which asks nobody: {median(run[0] for run in cached):.2f} s"
    )
