"""A host that goes down sends a SIGTERM to all: that is told from somebody who wants it back."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from remote import shutdown
from tests.remote.worker import Worker


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl of our own, which says what a test writes into it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text("#!/bin/sh\necho stopping\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return program


def test_only_a_systemd_that_stops_says_so(
    systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shutdown.host_is_stopping()
    systemctl.write_text("#!/bin/sh\necho degraded\nexit 1\n")
    assert not shutdown.host_is_stopping()
    monkeypatch.setattr(shutdown, "ASK_S", 0.1)
    systemctl.write_text("#!/bin/sh\nexec sleep 600\n")
    assert not shutdown.host_is_stopping()
    systemctl.unlink()
    monkeypatch.setenv("PATH", str(systemctl.parent))
    assert not shutdown.host_is_stopping()


def test_a_host_that_goes_down_is_not_wanted_back(
    systemctl: Path, make_worker: Callable[..., Worker]
) -> None:
    worker = make_worker()
    pid = worker.start()["pid"]
    worker.wait_for("step", "0")
    os.kill(pid, signal.SIGTERM)
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["problem"]) == ("killed", None)
    assert finished["reason"] == "w1 shuts down or restarts"
