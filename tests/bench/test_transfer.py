"""Transfers against rsync and scp over an open connection. Run: make bench, as root, with rsync."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from sollol_tui.hosts.payload import payload_root
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.transfer import send_file, send_tree
from sollol_tui.hosts.tree import file_sha256, read_tree
from sollol_tui.model.inventory import Host
from tests.cluster.lab import Lab, missing_pieces

RUNS = 5
BIG_RUNS = 3
pytestmark = pytest.mark.timeout(900)  # a GiB takes its time on a busy machine
GIB = 1024**3
FAR = ".sollol/bench"
SOURCE = "sollol_tui"  # files of a real program, filled up to FILES by copies
FILES = 300


@dataclass
class Rival:
    """OpenSSH's own tools over a master connection that is open already."""

    target: str
    options: list[str]

    def seconds(self, *argv: str) -> float:
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        return time.perf_counter() - began

    def ssh(self, command: str) -> float:
        return self.seconds("ssh", *self.options, self.target, command)

    def rsync(self, folder: Path, name: str) -> float:
        shell = " ".join(["ssh", *self.options])
        return self.seconds(
            "rsync", "-a", "-e", shell, f"{folder}/", f"{self.target}:{FAR}/{name}/"
        )

    def scp(self, file: Path, name: str) -> float:
        return self.seconds("scp", "-q", *self.options, str(file), f"{self.target}:{FAR}/{name}")


@dataclass
class Track:
    rival: Rival
    host: Host
    known_hosts: Path


@pytest.fixture(params=["1gbit", "10gbit"])
def rate(request: pytest.FixtureRequest) -> str:
    """An ordinary link, and one so fast that processors are the limit."""
    return str(request.param)


@pytest.fixture
def track(tmp_path: Path, rate: str) -> Iterator[Track]:
    if missing := missing_pieces() or ("" if shutil.which("rsync") else "no rsync"):
        pytest.skip(missing)
    with Lab.up(hosts=1, rate=rate, cpu_percent=200) as lab:
        machine = lab.hosts[0]
        file = tmp_path / "known_hosts"
        file.write_text(lab.known_hosts_text())
        options = ["-i", str(lab.identity), "-o", f"UserKnownHostsFile={file}"]
        options += ["-o", f"ControlPath={tmp_path}/master", "-o", "ControlMaster=auto"]
        rival = Rival(
            target=f"root@{machine.address}", options=[*options, "-o", "ControlPersist=600"]
        )
        rival.ssh(f"mkdir -p {FAR}")
        host = Host(
            name=machine.name,
            address=machine.address,
            user="root",
            identity_file=str(lab.identity),
        )
        yield Track(rival=rival, host=host, known_hosts=file)
        rival.ssh(f"rm -rf {FAR}")
        subprocess.run(["ssh", *options, "-O", "exit", rival.target], capture_output=True)


def source_tree(folder: Path) -> Path:
    files = sorted(path for path in (payload_root() / SOURCE).rglob("*.py"))
    for number in range(FILES):
        source = files[number % len(files)]
        target = folder / f"copy-{number // len(files)}" / source.relative_to(payload_root())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder


def payload_tree(folder: Path) -> Path:
    skipped = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(payload_root() / "remote", folder, ignore=skipped))


async def timed_tree(connection: HostConnection, folder: Path, name: str) -> float:
    """With the hashing of the folder, as a job does it."""
    began = time.perf_counter()
    tree = await asyncio.to_thread(read_tree, folder)
    await send_tree(connection, tree, f"/root/{FAR}/{name}")
    return time.perf_counter() - began


@pytest.mark.parametrize("rate", ["10gbit"], indirect=True)
@pytest.mark.parametrize("make", [payload_tree, source_tree], ids=["payload", "300 files"])
async def test_code_against_rsync(
    make: Callable[[Path], Path], track: Track, tmp_path: Path
) -> None:
    folder, first, again = make(tmp_path / "tree"), [], []
    async with connect(track.host, [track.known_hosts]) as connection:
        for run in range(2 * RUNS):  # in turn, so that the machine's moods hit both
            theirs, ours = track.rival.rsync(folder, f"r{run}"), f"o{run}"
            first.append(await timed_tree(connection, folder, ours) / theirs)
            theirs = track.rival.rsync(folder, f"r{run}")
            again.append(await timed_tree(connection, folder, ours) / theirs)
    print(f"\n{sum(1 for path in folder.rglob('*') if path.is_file())} files, ", end="")
    print(f"first {median(first):.2f}, unchanged {median(again):.2f} x rsync's time")


async def test_one_gibibyte_against_scp(track: Track, rate: str, tmp_path: Path) -> None:
    file, ratios = tmp_path / "big", []
    with file.open("wb") as opened:
        for _ in range(GIB // 2**24):
            opened.write(os.urandom(2**24))
    sha256 = file_sha256(file)
    async with connect(track.host, [track.known_hosts]) as connection:
        for _ in range(BIG_RUNS):
            theirs = track.rival.scp(file, "scp")
            began = time.perf_counter()
            await send_file(connection, file, f"/root/{FAR}/ours", sha256)
            ours = time.perf_counter() - began
            ratios.append(theirs / ours)
            print(f"\nscp {GIB / theirs / 2**20:.0f}, ours {GIB / ours / 2**20:.0f} MiB/s", end="")
            track.rival.ssh(f"rm -f {FAR}/*")
    print(f"\n{rate}: {median(ratios):.2f} x scp's throughput")
