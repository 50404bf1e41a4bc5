"""What the TUI costs on a terminal (a pty of 120x40): share of a core, memory, how long a key and
the first screen take; each against its bar, which is meant for a core of its own.

    python -m tests.bench.bench_tui busy|idle|burst|hosts|replay|start [SECONDS]

`busy`: 20 hosts, 3 jobs whose figures change every second, 500 log lines a second. `idle`: the same
without news. `burst`: 200,000 lines at once in a log file. `hosts`: 200 hosts, of which all change
every 2 s.
`replay`: 20 hours of a recorded job in so many seconds, while each view is looked at in turn.
`start`: from the command until its hosts and jobs are seen, as the state knew them.
"""

import fcntl
import os
import pty
import resource
import select
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path

SIZE = (40, 120)
WARM_UP_S = 3.0
KEYS = 40
STARTS = 9
BARS = {  # at most: of a core, seconds, MiB
    "busy": {"core": 0.12, "key": 0.1},
    "hosts": {"core": 0.15},
    "idle": {"core": 0.01},
    "burst": {"key": 0.15, "grown": 50},
    "replay": {"resident": 120},
    "start": {"start": 0.7},
}
COPIED = b"\x1b]52;"  # what `y` sends to the terminal's clipboard


def replay(seconds: float, *, minutes: float = 1200, burst: int = 0) -> None:
    """The side in the pty: the real application before a recording; a rank writes `burst` lines at
    once after a while."""
    from sollol_tui.jobs.recording import open_recording
    from sollol_tui.replay import ReplayClient
    from sollol_tui.ui.app import SollolApp

    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what writing the recording takes is not what is measured.
        arguments = f"Path({folder!r}), minutes={minutes}"
        code = f"from tools.sample_recording import *; write_sample({arguments})"
        subprocess.run([sys.executable, "-c", code], check=True)
        home, job = open_recording(Path(folder))
        speed = minutes * 60 / seconds

        def write() -> None:
            time.sleep(WARM_UP_S + 3)
            log = next(Path(folder).glob("replay/jobs/*/hydra/log.0.1"))
            with log.open("a") as file:
                file.writelines(f"line {n} of a burst that a rank wrote\n" for n in range(burst))

        threading.Thread(target=write, daemon=True).start()
        with ReplayClient(home, job, Path(folder) / "replay", speed=speed) as client:
            SollolApp(client, job=job, readonly=True).run()


def app(kind: str) -> None:
    """The side in the pty: the real application, fed from memory."""
    from sollol_tui.ui.app import SollolApp
    from tests.ui.sample import HOSTS, RUNNING, SampleClient, snapshot

    count = 200 if kind == "hosts" else 20
    hosts = [replace(HOSTS[n % 4], name=f"host{n:03}", job=None) for n in range(count)]
    jobs = tuple(replace(RUNNING, id=f"j-{n}", name=f"job-{n}") for n in range(3))
    client = SampleClient(shown=snapshot(hosts=hosts, jobs=jobs, at=time.time()))

    def feed() -> None:
        began, tick, lines = time.monotonic(), 0, 0
        while True:
            time.sleep(0.1)
            tick += 1
            if kind == "busy":
                due = int((time.monotonic() - began) * 500)
                client.say(
                    "j-0", *(f"[{n:6}/99999] loss 1.{n % 1000:03}" for n in range(lines, due))
                )
                lines = due
            if (kind == "busy" and tick % 10 == 0) or (kind == "hosts" and tick % 20 == 0):
                busy = [
                    replace(host, cpu_percent=float((tick + n) % 100), at=time.time())
                    for n, host in enumerate(hosts)
                ]
                moved = tuple(
                    replace(job, step=tick, samples_done=280_000 + tick, loss=1 + tick % 97 / 100)
                    for job in jobs
                )
                client.show(snapshot(hosts=busy, jobs=moved, at=time.time()))

    threading.Thread(target=feed, daemon=True).start()
    SollolApp(client).run()  # type: ignore[arg-type]


class Screen:
    """The terminal's side: reads what is painted, and presses keys."""

    def __init__(self, *arguments: str) -> None:
        """Runs a module of Python with its arguments."""
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(sys.executable, [sys.executable, "-m", *arguments])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))

    def watch(self, seconds: float) -> int:
        """Reads for so long; returns how many bytes were painted."""
        painted, end = 0, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.terminal], [], [], left)[0]:
                painted += len(os.read(self.terminal, 1 << 16))
        return painted

    def press(self, key: bytes, *signs: bytes, limit_s: float = 5.0) -> float:
        """Seconds until the terminal shows the signs after a key."""
        began, seen = time.monotonic(), b""
        os.write(self.terminal, key)
        while not all(sign in seen for sign in signs) and time.monotonic() - began < limit_s:
            if select.select([self.terminal], [], [], 0.05)[0]:
                seen = seen[-(1 << 15) :] + os.read(self.terminal, 1 << 16)
        return time.monotonic() - began

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self.child}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def leave(self) -> None:
        os.write(self.terminal, b"q")
        with suppress(OSError):  # the terminal ends with the application
            self.watch(5.0)
        os.close(self.terminal)
        os.waitpid(self.child, 0)


def main(kind: str, seconds: float) -> None:
    screen = Screen("tests.bench.bench_tui", "app", kind, str(seconds))
    if kind in ("replay", "burst"):
        screen.press(b"", b"smp/s  ETA", limit_s=120.0)
    screen.watch(WARM_UP_S)
    before, memory, began = screen.cpu_s(), screen.rss_mib(), time.monotonic()
    lags, painted, looks = [], 0, cycle(b"123456")
    while time.monotonic() - began < seconds:
        if kind == "burst":
            lags.append(screen.press(b"y", COPIED))
        if kind == "replay":
            os.write(screen.terminal, bytes([next(looks)]))
            painted += screen.watch(2.75)
        painted += screen.watch(0.25)
    took = time.monotonic() - began
    share = (screen.cpu_s() - before) / took
    resident = screen.rss_mib()
    print(f"{kind}: {share:.1%} of a core, {painted / took / 1024:.0f} KiB/s painted, "
          f"{resident:.0f} MiB ({resident - memory:+.0f})")  # fmt: skip
    while kind == "busy" and len(lags) < KEYS:
        lags.append(screen.press(b"y", COPIED))
        screen.watch(0.25)
    if lags := sorted(lags):
        print(f"a key is answered in {lags[len(lags) // 2] * 1000:.0f} ms, 95 % of them within "
              f"{lags[len(lags) * 95 // 100] * 1000:.0f} ms")  # fmt: skip
    screen.leave()
    found = {"core": share, "resident": resident, "grown": resident - memory}
    judge(kind, found | {"key": lags[len(lags) * 95 // 100]} if lags else found)


def start() -> None:
    """The real command before a state with hosts that were read a moment ago, and a few jobs."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOLLOL_HOME"] = f"{folder}/home"
        inventory = Path(folder) / "inventory.yaml"
        # The code of the command alone is loaded in its process, and here what makes a state.
        code = f"from tests.bench.bench_tui import *; write_state(Path({folder!r}))"
        subprocess.run([sys.executable, "-c", code], check=True)
        took: list[float] = []
        spent: list[float] = []
        for _ in range(STARTS + 1):
            began = time.monotonic()
            screen = Screen("sollol_tui", "-i", str(inventory))
            screen.press(b"", b"job-4", b"host04", limit_s=60.0)
            took.append(time.monotonic() - began)
            spent.append(screen.cpu_s())
            screen.leave()
    took, spent = sorted(took[1:]), sorted(spent[1:])  # at first the files are read
    middle = took[STARTS // 2]
    print(f"start: its hosts and jobs are seen after {middle * 1000:.0f} ms (median of {STARTS}, "
          f"{took[0] * 1000:.0f} to {took[-1] * 1000:.0f}), for which it computes "
          f"{spent[STARTS // 2] * 1000:.0f} ms")  # fmt: skip
    judge("start", {"start": middle})


def write_state(folder: Path) -> None:
    """A state and an inventory of five hosts and five jobs that are over."""
    from sollol_tui.jobs.home import open_home
    from sollol_tui.jobs.store import Store
    from sollol_tui.model.states import JobState
    from tests.jobs.samples import add_job

    names = [f"host{n:02}" for n in range(5)]
    inventory = folder / "inventory.yaml"
    inventory.write_text(
        "hosts:\n" + "".join(f"  {name}: {{address: 127.0.0.1, port: 9}}\n" for name in names)
    )
    figures = {"cpu_percent": 5.0, "ram_used_bytes": 1, "ram_total_bytes": 2, "gpus": []}
    with Store(open_home()) as store:
        for number, name in enumerate(names):
            store.move_job(add_job(store, name, name=f"job-{number}"), JobState.FAILED, "over")
            store.note_reading(str(inventory), name, state="up", reason="", data=figures)


def judge(kind: str, found: dict[str, float]) -> None:
    """A line for each bar."""
    for name, bar in BARS[kind].items():
        ratio = found[name] / bar
        print(f"{'pass' if ratio <= 1 else 'FAIL'}  {kind} {name}: {found[name]:.3g} of at most "
              f"{bar:.3g} ({ratio:.2f} of it)")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:3] == ["app", "replay"]:
        replay(float(sys.argv[3]))
    elif sys.argv[1:3] == ["app", "burst"]:
        replay(float(sys.argv[3]), minutes=5, burst=200_000)
    elif sys.argv[1] == "app":
        app(sys.argv[2])
    elif sys.argv[1] == "start":
        start()
    else:
        main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 15.0)
