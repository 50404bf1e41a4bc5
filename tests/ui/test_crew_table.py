"""Who computes for a job fits every screen: columns leave whole, and none is cut to nothing."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sollol_tui.ui.widgets.crew_table import crew_table
from tests.ui.sample import HOSTS, NOW, RUNNING


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (46, "WORKER STATE SHARE"),
        (76, "WORKER STATE SHARE SPEED UTIL VRAM CPU"),
        (116, "WORKER STATE SHARE SPEED GPU UTIL VRAM TEMP CPU RAM"),
    ],
)
def test_columns_leave_whole_where_there_is_little_room(width: int, titles: str) -> None:
    workers = [replace(worker, share=0.33) for worker in RUNNING.workers]
    job = replace(RUNNING, workers=tuple(workers))
    speeds = {"hydra": 9.0, "desktop": 3.4, "attic": 2.5}
    table = crew_table(job, {host.name: host for host in HOSTS}, speeds, NOW, width)
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    head, *rows = console.file.getvalue().splitlines()
    assert head.split() == titles.split()
    assert [row.split()[:3] for row in rows] == [
        [name, "training", "33%"] for name in ("hydra", "desktop", "attic")
    ]
    assert "…" not in console.file.getvalue()
