"""A person at a terminal: the real command under tmux on embedded hosts, driven by keys alone from
launch to the end, and read from the screen."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench

DEADLINE_S = 60.0
LEFT = "back in the shell"

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
    pytest.mark.timeout(300),  # a dozen waits, each with a deadline of its own
]


@dataclass(frozen=True, slots=True)
class Terminal:
    """A tmux server of its own with one window."""

    name: str

    def tmux(self, *words: str, text: str | None = None) -> str:
        command = ["tmux", "-L", self.name, "-f", os.devnull, *words]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=30, check=True
        ).stdout

    @property
    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def paste(self, text: str) -> None:
        self.tmux("load-buffer", "-", text=text)
        self.tmux("paste-buffer", "-p", "-r")

    def until(self, what: Callable[[str], object], why: str) -> str:
        """The screen as it is once the claim holds of it."""
        deadline = time.monotonic() + DEADLINE_S
        while not what(shown := self.text):
            assert time.monotonic() < deadline, f"{why}: not in {DEADLINE_S:.0f} s\n{shown}"
            time.sleep(0.05)
        return shown

    def sees(self, *words: str) -> str:
        return self.until(lambda shown: all(word in shown for word in words), " and ".join(words))

    def stands(self, state: str, *words: str) -> str:
        """Waits for the job's row to say so, and for what stands beside it."""
        row = re.compile(rf"by-keys +{state}\b")
        what = f"the job is {state}"
        return self.until(lambda s: row.search(s) and all(word in s for word in words), what)


@contextmanager
def terminal(command: list[str], folder: Path) -> Iterator[Terminal]:
    opened = Terminal(f"sollol-test-{os.getpid()}")
    try:
        # What the size of our own terminal is said to be is none of the window's business.
        command = ["env", "-u", "COLUMNS", "-u", "LINES", *command]
        window = f"{shlex.join(command)}; echo '{LEFT}'; cat"
        opened.tmux("new-session", "-d", "-x", "120", "-y", "40", "-c", str(folder), window)
        yield opened
    finally:
        subprocess.run(["tmux", "-L", opened.name, "kill-server"], check=False,
                       capture_output=True)  # fmt: skip


def test_a_job_is_launched_paused_resumed_left_and_cancelled_by_keys_alone(bench: Bench) -> None:
    bench.lay_out({"SOLLOL_STUB_STEP_S": "0.05", "SOLLOL_STUB_STEPS": "1000000"}, {})
    home = f"SOLLOL_HOME={bench.home.root}"
    sollol = ["env", home, sys.executable, "-P", "-m", "sollol_tui.cli", "-i", str(bench.inventory)]
    with terminal(sollol, bench.folder) as screen:
        screen.sees("2/2 hosts up", "no jobs yet")
        screen.press("a")
        screen.sees("new job", "dataset")
        screen.paste(json.dumps(bench.spec(name="by-keys"), indent=1))
        screen.sees("by-keys", "one ~50%", "two ~50%")
        screen.press("C-s")
        screen.stands("running", "step 9 of")
        screen.press("p")
        screen.stands("paused", "step")
        screen.press("p")
        screen.stands("running")
        screen.press("w")
        screen.sees("[x] one", "[x] two")
        screen.press("j", "Space")
        screen.sees("[x] one", "[ ] two")
        screen.press("Enter")
        screen.press("6")
        screen.sees("is asked to leave")
        screen.press("2")
        screen.stands("running", "100% ############")  # of each step is one's
        screen.press("x")
        screen.sees("Yes, cancel it")
        screen.press("y")
        screen.stands("cancelled")
        screen.press("q")
        screen.until(lambda shown: LEFT in shown, "it leaves")
    (view,) = bench.client.list_jobs()
    assert (view.name, view.state) == ("by-keys", JobState.CANCELLED)
    assert bench.left(view.id) == []


def test_every_other_key_of_a_screen_does_what_its_name_says(bench: Bench) -> None:
    bench.lay_out({}, {})
    home = f"SOLLOL_HOME={bench.home.root}"
    sollol = ["env", home, "SHELL=/bin/sh", sys.executable, "-P", "-m", "sollol_tui.cli"]
    with terminal([*sollol, "-i", str(bench.inventory)], bench.folder) as screen:
        screen.sees("2/2 hosts up", "no jobs yet")
        screen.press("3")
        screen.sees("host one")
        screen.press("s")
        screen.until(lambda shown: "hosts up" not in shown, "a shell has the terminal")
        screen.type("echo in-$((40+2)); exit\n")
        screen.sees("host one", "2/2 hosts up")
        screen.press("Space", "Space")
        screen.sees("2 marked, esc unmarks")
        screen.press("u")
        screen.sees("write ", "y writes it")
        screen.press("y")
        screen.sees("disabled in the inventory")
        screen.press("u")
        screen.sees("write ", "y writes it")
        screen.press("y")
        screen.until(lambda shown: "disabled in" not in shown, "both take part again")
        screen.press("Escape")  # alone: with a key right behind it a terminal means alt
        screen.until(lambda shown: "marked" not in shown, "no host is marked")
        screen.press("d")
        screen.sees("connection", "local")
        screen.press("q", "e")
        screen.sees("a good inventory of 2 hosts")
        screen.press("Escape")
        screen.sees("2/2 hosts up")
        screen.press("6")
        screen.sees("events of all jobs")
        screen.press("C-p")
        screen.sees("host two")
        screen.press("Escape")
        screen.until(lambda shown: "host two" not in shown, "the palette is gone")
        screen.press("?")
        screen.sees("Copy what the event under the cursor says")
        screen.press("q", "q")
        screen.until(lambda shown: LEFT in shown, "it leaves")
