"""The first form: its frame is there at once, and what it needs is loaded beside the screen."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, importlib, sys, threading
from sollol_tui.ui import app
from sollol_tui.ui.screens.opening import Opening
from tests.ui.sample import SampleClient

threads = []
may_load = threading.Event()

def load(name):
    threads.append(threading.current_thread() is threading.main_thread())
    assert may_load.wait(60)
    return importlib.import_module(name)

app.import_module = load

async def main():
    shown = app.SollolApp(SampleClient())
    async with shown.run_test(size=(80, 24)) as pilot:
        async def until(holds):
            async with asyncio.timeout(60):
                while not holds():
                    await pilot.pause(0.01)
        await until(lambda: shown.snapshot is not None)
        shown.action_new_job()
        print("at once:", type(shown.screen).__name__)
        await pilot.press("x")
        await pilot.press("escape")
        await until(lambda: not isinstance(shown.screen, Opening))
        may_load.set()
        await until(lambda: "sollol_tui.ui.dialogues" in sys.modules)
        print("on the screen's thread:", any(threads))
        print("left:", type(shown.screen).__name__)

asyncio.run(main())
"""


def test_a_form_is_loaded_beside_the_screen_and_may_be_left_meanwhile() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], cwd=CHECKOUT, capture_output=True,
                          text=True, timeout=120, check=False)  # fmt: skip
    assert told.returncode == 0, told.stderr
    said = ["at once: Opening", "on the screen's thread: False", "left: Overview"]
    assert told.stdout.splitlines() == said
