"""The inventory file: finds it, reads it when it changes, writes it whole or not at all.

An edit that cannot be read does not take the hosts away: the last good inventory stays in use, and
`problem` says what is wrong and where. What may stand in the file is decided in model/.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sollol_tui import parsed
from sollol_tui.model.errors import InputError, NotFoundError, SollolError
from sollol_tui.model.inventory import Inventory

NAME: Final = "inventory.yaml"
VARIABLE: Final = "SOLLOL_INVENTORY"
_Mark = tuple[int, int, int]


def find_inventory(given: str | Path | None = None) -> Path:
    """`given`, else $SOLLOL_INVENTORY, else inventory.yaml here or upwards to the git root, else
    the one in the user's config folder. Raises NotFoundError."""
    named = given or os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise NotFoundError(f"no inventory {named}", remedy="sollol init writes one")
        return path.absolute()
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / NAME).is_file():
            return folder / NAME
        if (folder / ".git").exists():
            break
    from platformdirs import user_config_path

    last = user_config_path("sollol", appauthor=False) / NAME
    if last.is_file():
        return last
    raise NotFoundError(
        f"no {NAME} here, above, or in {last.parent}",
        remedy="sollol init writes one; sollol demo needs none",
    )


def starter_inventory() -> str:
    """The commented inventory with which people begin."""
    return read_text(Path(__file__).parent / "starter" / NAME)


class InventoryFile:
    """One inventory, read again whenever its file has changed. Not safe for several threads."""

    def __init__(self, given: str | Path | None = None, *, parsed: Path | None = None) -> None:
        """`parsed` is the folder where what was parsed is kept for the next process."""
        self._given = given
        self._parsed = parsed
        self._path: Path | None = None
        self._seen: _Mark | None = None
        self._good: Inventory | None = None
        self.problem = ""

    @property
    def path(self) -> Path:
        """Where the file is; once found it stays that one. Raises NotFoundError."""
        if self._path is None:
            self._path = find_inventory(self._given)
        return self._path

    @property
    def wanted_path(self) -> Path:
        """Where one would be written that is not there yet."""
        return Path(self._given or os.environ.get(VARIABLE) or NAME).absolute()

    def read(self) -> Inventory:
        """The inventory as the file says now, or as it said last when that cannot be read. Raises
        InputError or NotFoundError while there has been no good one."""
        path = self.path
        try:
            status = path.stat()
            mark = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._good is None or mark != self._seen:
                self._good = self._parse(path.read_bytes(), str(path))
                self._seen, self.problem = mark, ""
        except InputError as error:
            self._seen = mark
            self._keep_last(error)
        except OSError as error:
            self._seen = None
            self._keep_last(NotFoundError(f"{path} cannot be read: {error.strerror}"))
        assert self._good is not None
        return self._good

    def _parse(self, raw: bytes, file: str) -> Inventory:
        if self._parsed and (known := parsed.recall(self._parsed, raw, file)) is not None:
            return known
        # Late: YAML and pydantic take longer to load than most commands take in all.
        from sollol_tui.model.inventory_file import parse_inventory

        inventory = parse_inventory(raw, file)
        if self._parsed:
            parsed.keep(self._parsed, raw, inventory)
        return inventory

    def _keep_last(self, error: SollolError) -> None:
        if self._good is None:
            raise error
        first, *others = str(error).splitlines()
        first = first.removeprefix(f"{self.path.parent}/")  # a line of a screen is short
        more = f", and {len(others)} more" if others else ""
        self.problem = f"{first}{more} (using the last good one)"


def read_text(path: Path) -> str:
    """The file's text, line ends and all. Raises InputError when it is no text."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise InputError.single(str(path), "is not UTF-8 text") from None
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from None


def write_text(path: Path, text: str, *, instead_of: str | None) -> None:
    """Puts `text` in place of the file at once; mode, owner and a link to it stay. Raises
    SollolError, and changes nothing, when the file no longer says `instead_of` (None: is there)."""
    target = path.resolve()
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if (read_text(target) if target.exists() else None) != instead_of:
                raise SollolError(
                    f"{path} has changed meanwhile, nothing was written", remedy="try again"
                )
            _replace(target, text)
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SollolError(
            f"{path} cannot be written: {error.strerror}", remedy="is its folder yours?"
        ) from None


def _replace(target: Path, text: str) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = target.stat() if target.exists() else None
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as opened:
            opened.write(text.encode())
            opened.flush()
            if old is not None:
                with suppress(PermissionError):  # then it is ours from now on
                    os.fchown(opened.fileno(), old.st_uid, old.st_gid)
            os.fchmod(opened.fileno(), 0o644 if old is None else old.st_mode & 0o7777)
            os.fsync(opened.fileno())
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
