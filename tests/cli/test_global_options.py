"""Options of every command: how long a connection may take, colours, what hosts are asked."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sollol_tui.client
from tests.cli.shell import sollol


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of the inventory's one host, which takes connections and says nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        host = {"address": "127.0.0.1", "port": port, "user": "ml", "connect_timeout": 100}
        (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": {"w1": host}}))
        yield port


@pytest.mark.parametrize(
    "command", [["status"], ["doctor"], ["hosts", "ls"], ["hosts", "trust", "w1"]]
)
def test_timeout_takes_the_place_of_each_connect_timeout(silent: int, command: list[str]) -> None:
    began = time.monotonic()
    _, out, err = sollol("--timeout", "0.4", *command)
    assert "within 0.4 s" in out + err
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "1e9", "nan"])
def test_a_timeout_that_is_none_is_refused(silent: int, seconds: str) -> None:
    assert sollol("--timeout", seconds, "status")[0] == 2


def test_verbose_tells_what_hosts_are_asked_on_stderr(silent: int) -> None:
    _, out, err = sollol("-v", "--timeout", "0.4", "hosts", "ls")
    assert f"w1: connects to ml@127.0.0.1 port {silent}\n" in err
    assert "connects to" not in out
    assert "connects to" not in sollol("--timeout", "0.4", "hosts", "ls")[2]
    assert not logging.getLogger("sollol_tui").handlers


def test_verbose_tells_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    host = {"connection": "local", "workdir": str(tmp_path / "workdir")}
    (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": {"one": host}}))
    code, _, err = sollol("-v", "hosts", "ls")
    assert code == 0
    assert "one: runs sh -s\n" in err


def test_colour_is_asked_for_or_left_out(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ls = ("--timeout", "0.4", "hosts", "ls")
    assert "\x1b[" in sollol("--color", "always", *ls)[1]
    for options in ((), ("--color", "never"), ("--color", "auto")):
        assert "\x1b[" not in sollol(*options, *ls)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in sollol(*ls)[1]
    assert "\x1b[" in sollol("--color", "always", *ls)[1]
    assert sollol("--color", "sometimes", *ls)[0] == 2


def test_a_global_option_behind_the_command_is_told_its_place(silent: int) -> None:
    code, _, err = sollol("hosts", "ls", "--timeout", "1")
    assert code == 2
    assert err.endswith("--timeout goes before the command: sollol --help\n")
    assert "goes before" not in sollol("hosts", "ls", "--tmeout", "1")[2]
