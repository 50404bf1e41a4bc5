"""The demo's files: private, whole at any moment, and prepared by one process at a time."""

import asyncio
import fcntl
from pathlib import Path

import pytest

import sollol_tui.demo
from sollol_tui.client import SOLLOLClient
from sollol_tui.demo import lay_out, make_model
from sollol_tui.jobs.home import open_home
from sollol_tui.model.errors import StateError


def test_a_second_demo_is_told_of_the_first_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which rows there are is told by test_docstrings.py; to read the whole library takes seconds.
    rows = [{"instruction": "say hello", "output": "hello"}]
    monkeypatch.setattr(sollol_tui.demo, "docstring_rows", lambda limit: rows)
    home = open_home(tmp_path / "home")
    demo = lay_out(home)
    before = demo.dataset.open()
    assert lay_out(home) == demo
    with before:
        assert before.read() == demo.dataset.read_text()
    files = {path.name: path.stat().st_mode & 0o777 for path in demo.folder.iterdir()}
    assert files == {"inventory.yaml": 0o600, "docstrings.jsonl": 0o600}
    client = SOLLOLClient(demo.inventory, home=home.root)
    with (demo.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="another demo is being prepared in"):
            asyncio.run(make_model(client, demo, print))
    client.close()
