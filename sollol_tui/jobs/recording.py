"""What a job has left on this machine, as a folder that can be kept, sent and replayed: a state
folder that holds this job alone. Asks no worker, and changes nothing where it came from.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError, NotFoundError, StateError
from sollol_tui.model.inventory import Inventory

_TABLES: Final = ("workers", "slots", "transitions", "requests", "events")
_SPOKEN: Final = ("events.*", "log.*", "times.*")  # copies of what workers wrote


def open_recording(folder: Path) -> tuple[Home, str]:
    """The state folder, and the newest job in it. Raises NotFoundError when it holds none."""
    if not (folder / "state.db").is_file():
        raise NotFoundError(
            f"{folder} is no recording: it holds no state.db",
            remedy="make one with: sollol replay JOB --save FOLDER",
        )
    with Store(open_home(folder)) as store:
        newest = store.connection.execute(
            "SELECT id FROM jobs ORDER BY created_at DESC, rowid DESC LIMIT 1"
        ).fetchone()
        if newest is None:
            raise NotFoundError(f"{folder} holds no job", remedy="name another recording")
        return store.home, str(newest["id"])


def save_recording(store: Store, job: str, folder: Path) -> None:
    """Copies all that is known of a job into a new folder. Raises InputError when there is one."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError.single(str(folder), "it is there already; name a new folder")
    inventory = load(Inventory, store.job(job).inventory).file
    with Store(open_home(folder)) as kept:
        with attached(kept, store.home), kept.transaction():
            copy_job(kept, job)
            for table in _TABLES:
                kept.connection.execute(
                    f"INSERT INTO {table} SELECT * FROM recorded.{table} WHERE job = ?"
                    " ORDER BY rowid",
                    (job,),
                )
            copy_readings(kept, inventory)
        for pattern in _SPOKEN:
            for file in sorted(store.home.job(job).glob(f"*/{pattern}")):
                _copy(file, kept.home.copies(job, file.parent.name) / file.name)


@contextmanager
def attached(target: Store, source: Home) -> Iterator[None]:
    """The tables of another state of this version are `recorded.TABLE` meanwhile."""
    target.connection.execute("ATTACH DATABASE ? AS recorded", (str(source.database),))
    try:
        yield
    finally:
        target.connection.execute("DETACH DATABASE recorded")


def copy_job(target: Store, job: str) -> None:
    """Adds the row of a job of the attached state."""
    target.connection.execute("INSERT INTO jobs SELECT * FROM recorded.jobs WHERE id = ?", (job,))


def copy_readings(target: Store, inventory: str) -> None:
    """Adds what the attached state last heard of an inventory's hosts."""
    target.connection.execute(
        "INSERT INTO readings SELECT * FROM recorded.readings WHERE inventory = ?", (inventory,)
    )


def _copy(file: Path, target: Path) -> None:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    except OSError as error:
        raise StateError(
            f"{target} cannot be written: {error.strerror}",
            remedy="is there space? the recording is not whole",
        ) from None
