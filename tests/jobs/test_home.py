"""The state folder: private, one's own, and on a disk that can lock."""

from pathlib import Path

import pytest

import sollol_tui.jobs.home
from sollol_tui.jobs.home import open_home
from sollol_tui.model.errors import StateError


def test_it_is_made_private_and_made_so_again(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    assert open_home(root).root == root
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o755)
    open_home(root)
    assert root.stat().st_mode & 0o777 == 0o700


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLLOL_HOME", str(tmp_path / "there"))
    assert open_home().root == tmp_path / "there"
    monkeypatch.delenv("SOLLOL_HOME")
    assert open_home().root.is_relative_to(Path.home())


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"cannot be used: .*; set SOLLOL_HOME to a folder"):
        open_home(tmp_path / "file")


def test_somebody_elses_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(StateError, match="belongs to another user; set SOLLOL_HOME"):
        open_home(tmp_path)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "über uns"
    folder.mkdir()
    table = tmp_path / "mounts"
    point = str(folder).replace(" ", "\\040")
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {point} {kind} rw 0 0\n")
    monkeypatch.setattr(sollol_tui.jobs.home, "MOUNTS", table)
    with pytest.raises(StateError, match=f"lies on a network filesystem \\({kind}\\); set"):
        open_home(folder / "state")
    assert open_home(tmp_path / "local").root.is_dir()
