"""`sollol hosts trust`: a key is shown, and a person accepts it or says so beforehand."""

from pathlib import Path

import pytest

import sollol_tui.hosts.trust
from sollol_tui.hosts.trust import HostKey
from sollol_tui.jobs.home import open_home
from tests.cli.shell import sollol

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The keys that are known of w1; it shows one whose fingerprint is `new`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text("hosts: {w1: {tags: [cuda]}}\n")
    known: dict[str, str] = {}

    async def scan(host: object, files: object) -> HostKey:
        return HostKey(
            host="w1", algorithm="ssh-ed25519", fingerprint="new", line=f"w1 {KEY}",
            known=tuple(known.values()),
        )  # fmt: skip

    monkeypatch.setattr(sollol_tui.hosts.trust, "scan_key", scan)
    return known


def test_a_script_is_not_believed_without_yes(shown: dict[str, str]) -> None:
    for arguments in (("w1",), ("w1", "--replace"), ("tag:cuda",)):
        code, out, err = sollol("hosts", "trust", *arguments)
        assert (code, out) == (4, "w1  ssh-ed25519 new\n")
        assert "w1: its key is not trusted yet: nobody can be asked here; compare it, then: " in err
        assert "sollol -y hosts trust w1" in err
    assert not open_home().known_hosts.exists()
    assert sollol("-y", "hosts", "trust", "w1")[0] == 0
    assert open_home().known_hosts.read_text() == f"w1 {KEY}\n"


def test_a_person_is_asked_and_no_means_no(shown: dict[str, str]) -> None:
    assert sollol("hosts", "trust", "w1", typed="n\n")[0] == 130
    assert not open_home().known_hosts.exists()
    assert sollol("hosts", "trust", "w1", typed="y\n")[0] == 0
    assert open_home().known_hosts.exists()


def test_what_is_known_already_needs_no_answer(shown: dict[str, str]) -> None:
    shown["w1"] = "new"
    code, out, _ = sollol("hosts", "trust", "w1")
    assert (code, out) == (0, "w1  ssh-ed25519 new\nw1  trusted already\n")
