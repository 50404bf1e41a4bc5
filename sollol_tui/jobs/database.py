"""Opens the state's SQLite file, brings it to this version's shape, and says in a sentence what is
wrong with it. Knows no table by name."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import resources
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from sollol_tui.model.errors import StateError

VERSION: Final = 6
BUSY_TIMEOUT_S: Final = 30.0  # SQLite lets whoever asks at the right moment go first
# File N brings version N - 1 to N.
_MIGRATIONS: Final = (
    *("schema.sql", "schema_2.sql", "schema_3.sql", "schema_4.sql", "schema_5.sql"),
    "schema_6.sql",
)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DISK: Final = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
)
# What SQLite says of a text, or of its own list of tables, in which a bit was turned.
_DAMAGE: Final = re.compile(r"Could not decode|no such (column|table)|malformed")
P = ParamSpec("P")
T = TypeVar("T")


class _Rows(sqlite3.Cursor):
    """Reading a row may fail as well: a damaged text is none."""

    def __next__(self) -> Any:
        return self._told(super().__next__)

    def fetchone(self) -> Any:
        return self._told(super().fetchone)

    def fetchall(self) -> list[Any]:
        return self._told(super().fetchall)

    def _told(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except sqlite3.DatabaseError as error:
            assert isinstance(self.connection, Database)
            raise state_error(self.connection.file, error) from error


class Database(sqlite3.Connection):
    """A connection whose errors are StateErrors, as far as they are not mistakes of ours."""

    file: Path

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return self._told(lambda: self.cursor(_Rows).execute(*arguments))

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return self._told(lambda: super(Database, self).executemany(*arguments))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the body or nothing of it; waits for other writers. Inside another one it is a
        part of that."""
        if self.in_transaction:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self.in_transaction:  # SQLite itself has rolled back when the disk is full
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def _told(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except sqlite3.DatabaseError as error:
            raise state_error(self.file, error) from error


def open_database(file: Path) -> Database:
    """The state in `file`, made when it is not there. Raises StateError."""
    try:
        file.touch(mode=0o600, exist_ok=True)
        database = sqlite3.connect(
            file,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=Database,
        )
    except (sqlite3.DatabaseError, OSError) as error:
        raise StateError(
            f"the state in {file} cannot be opened: {error}",
            remedy="set SOLLOL_HOME to a folder that you can write",
        ) from None
    database.file = file
    database.row_factory = sqlite3.Row
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        _migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def state_error(file: Path, error: sqlite3.DatabaseError) -> Exception:
    """What to tell people about an error of SQLite; a mistake in our SQL stays what it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return StateError(
            f"the state in {file} is busy: another process has written to it for "
            f"{BUSY_TIMEOUT_S:g} s",
            remedy="try again",
        )
    if code in _BROKEN or _DAMAGE.search(str(error)):
        return StateError(
            f"the state in {file} cannot be read: {error}",
            remedy="move that file away to start afresh; workers keep their runs",
        )
    if code in _DISK:
        return StateError(
            f"the state in {file} cannot be written: {error}",
            remedy="is the disk full or read-only?",
        )
    return error


def told_if_damaged(read: Callable[P, T]) -> Callable[P, T]:
    """Makes a reader of what is stored raise StateError for values that nobody has written."""

    @wraps(read)
    def reading(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return read(*arguments, **options)
        except ValueError as error:  # of JSON, of a name that no state has, of what pydantic reads
            said = str(error).partition("\n")[0]
            raise StateError(
                f"the state holds what nobody has written: {said}",
                remedy="move state.db away to start afresh; workers keep their runs",
            ) from error

    return reading


def _migrate(database: Database) -> None:
    found = _version_of(database)
    if found > VERSION:
        raise StateError(
            f"the state in {database.file} was written by a newer sollol",
            remedy="upgrade this one",
        )
    if found == VERSION:
        return
    with database.transaction():
        for name in _MIGRATIONS[_version_of(database) :]:
            text = resources.files("sollol_tui.jobs").joinpath(name).read_text()
            for statement in _statements(text):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")


def _version_of(database: Database) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
