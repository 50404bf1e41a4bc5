"""The ssh that opens a shell goes where sollol itself goes, by what the inventory says."""

import subprocess
from pathlib import Path

import pytest

from sollol_tui.hosts.login import login_words
from sollol_tui.model.inventory import ConnectionKind, Host

KNOWN = Path("/state of/known_hosts")


def read_by_ssh(words: list[str]) -> dict[str, str]:
    """What ssh makes of the words, by name."""
    told = subprocess.run(
        [words[0], "-G", *words[1:]], capture_output=True, text=True, timeout=30, check=True
    )
    return dict(line.partition(" ")[::2] for line in told.stdout.splitlines())


def test_ssh_understands_what_the_inventory_says(tmp_path: Path) -> None:
    key = tmp_path / "lab"
    key.touch()
    host = Host(name="desk", address="192.0.2.4", port=2222, user="ml", identity_file=str(key))
    told = read_by_ssh(login_words(host, [KNOWN]))
    assert (told["hostname"], told["port"], told["user"]) == ("192.0.2.4", "2222", "ml")
    assert told["identityfile"] == str(key)
    assert str(KNOWN) in told["globalknownhostsfile"]


def test_a_jump_of_the_inventory_is_reached_by_what_that_says_of_it() -> None:
    bastion = Host(name="bastion", address="203.0.113.9", port=2200, user="gate")
    host = Host(name="attic", address="10.8.0.7", proxy_jump="me@bastion:22", jump_hosts=(bastion,))
    command = read_by_ssh(login_words(host, [KNOWN]))["proxycommand"]
    assert command.endswith("-W '[%h]:%p' -- bastion")
    for words in ("HostName=203.0.113.9", "-p 22 ", "-l me "):
        assert words in command


def test_this_machine_needs_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert login_words(Host(name="here", connection=ConnectionKind.LOCAL), []) == ["/bin/bash"]
