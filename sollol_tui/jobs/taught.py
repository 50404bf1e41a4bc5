"""What teachers have said and written, kept on this machine for later jobs: which of it no job in
the list learns from, and that removed. Touches no worker."""

import json
import secrets
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.store import Store
from sollol_tui.model.states import TERMINAL, JobState

_PRUNED: Final = ".pruned-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """The scores of one teacher and one dataset's tokens, a folder; or its answers, a file."""

    path: str
    size_bytes: int


def unneeded(store: Store, without: Collection[str] = ()) -> tuple[Taught, ...]:
    """What no job of the list learns from, `without` some of them; nothing while one that goes on
    has not said yet what it learns from."""
    needed: set[str] = set()
    for row in store.connection.execute("SELECT id, state, plan FROM jobs"):
        teacher = json.loads(row["plan"]).get("teacher")
        if teacher is None or row["id"] in without:
            continue
        said = {str(event.data.get("key")) for event in read_events(store, row["id"], ["scores"])}
        said |= {Path(file).name for file in (teacher["answers"],) if file}
        if not said and JobState(row["state"]) not in TERMINAL:
            return ()
        needed |= said
    kept = [*_children(store.home.scores), *_children(store.home.answers)]
    return tuple(
        Taught(path=str(path), size_bytes=_size(path)) for path in kept if path.name not in needed
    )


def remove_unneeded(store: Store) -> tuple[Taught, ...]:
    """Removes what no job of the list learns from; returns what that was."""
    with store.transaction():  # no job begins meanwhile
        found = unneeded(store)
        leaving = [_put_aside(Path(each.path)) for each in found]
    for path in leaving:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return found


def _put_aside(path: Path) -> Path:
    """Out of the way of who begins; what is interrupted then is removed by the next prune. The name
    is new: what an earlier one left may have been made again since."""
    return path.rename(path.with_name(f"{_PRUNED}{secrets.token_hex(4)}"))


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_blocks * 512 for file in files)
