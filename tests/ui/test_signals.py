"""A program that outlives its screen hears signals as it did before."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
TOLD = "the program goes on"
PROGRAM = f"""
import os, signal
from sollol_tui.ui.app import SollolApp, run_app
from tests.ui.sample import SampleClient
SollolApp.on_ready = lambda self: self.exit("left")
assert run_app(SampleClient()) == "left"
os.kill(os.getpid(), signal.SIGCONT)  # as the shell does it after `fg`
print("{TOLD}")
"""


def test_a_program_may_be_stopped_and_continued_after_its_screen_is_gone() -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs,
                               stderr=theirs, cwd=CHECKOUT, start_new_session=True)  # fmt: skip
    os.close(theirs)
    told = b""
    with suppress(OSError):  # which is how a terminal ends
        while more := os.read(ours, 65536):
            told += more
    os.close(ours)
    assert program.wait(DEADLINE_S) == 0, told.decode()
    assert TOLD in told.decode()
