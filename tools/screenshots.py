"""Draws the pictures of the documentation from the sample recording, as SVG.

Run: make screenshots, or: python -m tools.screenshots [FOLDER]
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from textual.pilot import Pilot

from sollol_tui.jobs.recording import open_recording
from sollol_tui.model.snapshot import CoordinatorView, Snapshot
from sollol_tui.replay import ReplayClient
from sollol_tui.ui.app import SollolApp
from sollol_tui.ui.screens.launch import Launch
from tools.sample_form import TYPED, FormClient
from tools.sample_recording import JOB, write_sample

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs"
SIZE: Final = (120, 40)
BEGIN_S: Final = 45 * 60.0  # into the recording
_WATCHED_S: Final = 6  # before the first picture, so that lines come as they came
_FONT: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # from elsewhere: readers have one
_DEADLINE_S: Final = 60.0
_VIEWS: Final = {  # name of the picture: keys that lead there, words that it shows then
    "overview": ("1", "step"),
    "job": ("2", "measured"),
    "logs": ("4", "smp/s"),
    "metrics": ("5", "gradient norm"),
}


class _Clock:
    """It stands while pictures are drawn, so that all show the same moment."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class _Recorded(ReplayClient):
    """How busy the machine is that draws is nothing of the recording."""

    def snapshot(self) -> Snapshot:
        calm = CoordinatorView(cpu_percent=5, ram_percent=20)
        return replace(super().snapshot(), coordinator=calm)


async def draw(folder: Path) -> list[Path]:
    """The pictures, written into a folder."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch, _replay(Path(scratch), clock) as client:
        app = SollolApp(client, readonly=True, job=JOB)
        async with app.run_test(size=SIZE) as pilot:
            await _until(lambda: "smp/s  ETA" in _text(app), pilot, "the overview shows its log")
            for _ in range(_WATCHED_S):
                clock.now += 1
                at = client.snapshot().at
                await _until(lambda at=at: _shown_at(app) >= at, pilot, "the screen goes on")
            drawn = [
                await _picture(app, pilot, folder / f"{name}.svg", key, words)
                for name, (key, words) in _VIEWS.items()
            ]
            app.push_screen(Launch(FormClient(Path(scratch)), "new job", TYPED))  # type: ignore[arg-type]
            await _until(lambda: "row 3" in _text(app), pilot, "the form shows its first rows")
            form = await _picture(app, pilot, folder / "launch.svg", "down", "world size")
            return [*drawn, form]


def _replay(scratch: Path, clock: _Clock) -> ReplayClient:
    write_sample(scratch / "recording", minutes=50)
    home, job = open_recording(scratch / "recording")
    return _Recorded(home, job, scratch / "replay", begin_s=BEGIN_S, clock=clock)


def _shown_at(app: SollolApp) -> float:
    return 0.0 if app.snapshot is None else app.snapshot.at


async def _picture(app: SollolApp, pilot: Pilot[str], file: Path, key: str, words: str) -> Path:
    await pilot.press(key)
    await _until(lambda: words in _text(app), pilot, f"{file.stem} shows '{words}'")
    drawn = app.export_screenshot(title="sollol", simplify=True)
    file.write_text(_FONT.sub("", drawn))
    return file


async def _until(is_there: Callable[[], bool], pilot: Pilot[str], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not is_there():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {_DEADLINE_S:.0f} s")
        await pilot.pause(0.05)


def _text(app: SollolApp) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


if __name__ == "__main__":
    into = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    for drawn in asyncio.run(draw(into)):
        print(drawn)
