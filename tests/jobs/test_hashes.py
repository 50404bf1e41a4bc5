"""A file is read again only when it may have changed."""

import hashlib
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sollol_tui.hosts.tree import read_tree
from sollol_tui.jobs import hashes as hashes_module
from sollol_tui.jobs.hashes import RACY_NS, Hashes
from sollol_tui.model.errors import InputError


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which files were really read."""
    read: list[Path] = []

    def file_sha256(path: Path) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(hashes_module, "file_sha256", file_sha256)
    return read


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the test have been there for a while."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10 * RACY_NS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.mark.usefixtures("later")
def test_a_file_is_read_once_also_by_the_next_command(
    file: Path, tmp_path: Path, reads: list[Path]
) -> None:
    sums = {Hashes(tmp_path / "hashes.db").sha256(file) for _ in range(3)}
    assert sums == {hashlib.sha256(b"weights").hexdigest()}
    assert reads == [file]
    assert (tmp_path / "hashes.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("later")
def test_a_changed_file_is_read_again_even_with_its_old_size_and_time(
    file: Path, tmp_path: Path, reads: list[Path]
) -> None:
    hashes, before = Hashes(tmp_path / "hashes.db"), file.stat()
    hashes.sha256(file)
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hashes.sha256(file) == hashlib.sha256(b"WEIGHTS").hexdigest()
    assert len(reads) == 2


def test_a_file_that_has_just_changed_is_not_remembered(
    file: Path, tmp_path: Path, reads: list[Path]
) -> None:
    hashes = Hashes(tmp_path / "hashes.db")
    assert hashes.sha256(file) == hashes.sha256(file)
    assert len(reads) == 2


@pytest.mark.usefixtures("later")
def test_workers_that_ask_at_once_read_once(file: Path, tmp_path: Path, reads: list[Path]) -> None:
    hashes = Hashes(tmp_path / "hashes.db")
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(hashes.sha256, [file] * 8))) == 1
    assert reads == [file]


@pytest.mark.usefixtures("later")
def test_a_broken_cache_only_costs_time(file: Path, tmp_path: Path) -> None:
    (tmp_path / "hashes.db").write_bytes(b"no database" * 100)
    assert Hashes(tmp_path / "hashes.db").sha256(file) == hashlib.sha256(b"weights").hexdigest()
    assert Hashes(tmp_path / "absent" / "x.db").sha256(file)


@pytest.mark.usefixtures("later")
def test_the_cache_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes_module, "MAX_ROWS", 5)
    (tmp_path / "tree").mkdir()
    for number in range(20):
        (tmp_path / "tree" / str(number)).write_text(str(number))
    read_tree(tmp_path / "tree", Hashes(tmp_path / "hashes.db").sha256)
    with sqlite3.connect(tmp_path / "hashes.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM hashes").fetchone() == (5,)
    connection.close()


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone  is gone or cannot be read"):
        Hashes(tmp_path / "hashes.db").sha256(tmp_path / "gone")
