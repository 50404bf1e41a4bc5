"""What files hash to, remembered in the state folder, so that a model of many GB is read once.

A cache: whatever is wrong with its file only costs time. Refuses to remember a file that has just
changed, because the next change could leave the same time stamps.
"""

import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from sollol_tui.hosts.tree import file_sha256

RACY_NS: Final = 2_000_000_000
MAX_ROWS: Final = 50_000
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS hashes (
    device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, sha256 TEXT,
    PRIMARY KEY (device, inode)
)
"""


class Hashes:
    """Usable by several threads; two that ask for the same file at once read it once."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._turns: defaultdict[tuple[int, int], threading.Lock] = defaultdict(threading.Lock)

    def sha256(self, path: Path) -> str:
        """Raises InputError when the file cannot be read."""
        try:
            file = path.stat()
        except OSError:
            return file_sha256(path)  # which says what is wrong
        with self._turns[file.st_dev, file.st_ino]:
            if (known := self._recall(file)) is not None:
                return known
            began_ns = time.time_ns()
            digest = file_sha256(path)
            self._remember(path, file, digest, began_ns)
            return digest

    def _recall(self, file: os.stat_result) -> str | None:
        with suppress(sqlite3.Error), self._opened() as connection:
            row = connection.execute(
                "SELECT sha256 FROM hashes WHERE (device, inode, size, mtime_ns, ctime_ns)"
                " = (?, ?, ?, ?, ?)",
                _identity(file),
            ).fetchone()
            return str(row[0]) if row else None
        return None

    def _remember(self, path: Path, file: os.stat_result, digest: str, began_ns: int) -> None:
        try:
            is_same = _identity(path.stat()) == _identity(file)
        except OSError:
            is_same = False
        if not is_same or began_ns - max(file.st_mtime_ns, file.st_ctime_ns) <= RACY_NS:
            return
        with suppress(sqlite3.Error), self._opened() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)",
                (*_identity(file), digest),
            )
            connection.execute(
                "DELETE FROM hashes WHERE rowid <= (SELECT MAX(rowid) FROM hashes) - ?", (MAX_ROWS,)
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own: threads share none. What is done with it is one transaction."""
        with closing(sqlite3.connect(self._database, timeout=5.0)) as connection, connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._database.chmod(0o600)
                connection.execute(_TABLE)
                connection.execute("PRAGMA user_version = 1")
            yield connection


def _identity(file: os.stat_result) -> tuple[int, int, int, int, int]:
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns
