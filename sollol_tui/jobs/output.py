"""Where a job's adapter goes on this machine: looked at before the job starts, and put there in one
rename at its end. Never replaces what is not the same job's."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.jobs.dataset import locate
from sollol_tui.model.errors import InputError, StateError
from sollol_tui.model.text import clean

JOB_FILE: Final = "job.yaml"
_LAST_NUMBER: Final = 99  # of the names that stand in for one that is taken
_SAMPLE_ID: Final = "j-xxxx"  # as long as an id, and none
_ROOM: Final = 512  # bytes that paths inside the folder may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """`output_dir` as it was written, from `folder`. Its place is known once the job has an id."""

    template: str
    folder: Path
    name: str

    def of(self, job: str) -> str:
        """The absolute path for that job, links resolved. Raises InputError."""
        text = self.template.replace("{name}", self.name).replace("{id}", job)
        path = locate(text, self.folder)
        try:
            return str(path.resolve())
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
            reason = error.strerror if isinstance(error, OSError) else "symlink loop"
            raise _refusal(path, f"cannot be resolved: {reason}; choose another") from None

    def check(self, taken: Mapping[str, str]) -> None:
        """Raises InputError unless an adapter could be put there now. `taken` maps the folders of
        live jobs to these jobs."""
        path = Path(self.of(_SAMPLE_ID))
        if job := taken.get(str(path)):
            raise _refusal(path, f"is where {job} will put its adapter; choose another")
        here = self.folder.resolve()
        if path == here or path in here.parents:
            raise _refusal(path, "is the current folder or holds it; choose one below it")
        try:
            self._check_place(path)
        except OSError as error:
            raise _refusal(path, f"cannot be used: {error.strerror}; choose another") from None

    def _check_place(self, path: Path) -> None:
        parent = next(folder for folder in path.parents if folder.exists())
        if not parent.is_dir():
            raise _refusal(path, f"cannot be made, {parent} is a file; choose another")
        if path.is_symlink():  # resolved, and still a link
            raise _refusal(path, "is a symlink loop; choose another")
        if path.exists() and not path.is_dir():
            raise _refusal(path, "is a file; choose a folder")
        if path.is_mount():
            raise _refusal(path, "is a mount point; choose a folder below it")
        if path.exists() and any(path.iterdir()):
            raise _refusal(path, "holds other files; choose another, or put {id} into it")
        longest = os.pathconf(parent, "PC_NAME_MAX")
        names = [*path.relative_to(parent).parts[:-1], f"{path.name}.{_LAST_NUMBER}"]
        if any(len(os.fsencode(name)) > longest for name in names):
            raise _refusal(path, "has too long a name; choose a shorter one")
        if len(os.fsencode(path)) > os.pathconf(parent, "PC_PATH_MAX") - _ROOM:
            raise _refusal(path, "is too long a path; choose a shorter one")
        Path(tempfile.mkdtemp(prefix=".sollol-", dir=parent)).rmdir()


def chosen_place(text: str, folder: Path, owned_by: str) -> Path:
    """The folder that a person chose for a result, as an absolute path. Raises InputError unless it
    is not there, is empty, or holds what the same owner has put there before."""
    path = locate(text, folder)
    if path.exists() and not path.is_dir():
        raise InputError.single("--to", f"{clean(str(path), limit=400)} is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and owner(path) != owned_by:
        raise InputError.single(
            "--to", f"{clean(str(path), limit=400)} holds other files; name another folder"
        )
    return path


def part_of(output: Path, job: str) -> Path:
    """Where the job's result is put together, beside its place."""
    return output.with_name(f".{job}.part")


def publish(part: Path, output: Path, job: str) -> Path:
    """Gives a complete folder its name in one step, replacing what the same job has put there.
    Where something else has taken the name, the first free one of NAME.2, NAME.3, ... is used;
    returns it."""
    for number in range(1, _LAST_NUMBER + 1):
        place = output if number == 1 else output.with_name(f"{output.name}.{number}")
        if _take(part, place, job):
            sync_folder(place.parent)
            return place
    raise StateError(
        f"{output} and {_LAST_NUMBER - 1} names like it hold something else",
        remedy=f"move some of them away, then: sollol fetch {job}",
    )


def sync_folder(folder: Path) -> None:
    """Returns once what was renamed in there would survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(part: Path, place: Path, job: str) -> bool:
    """Renames `part` to `place`; False when that is taken. The kernel decides: what appears there
    at the last moment is not overwritten."""
    old = part.with_suffix(".old")
    if is_owned := owner(place) == job:
        shutil.rmtree(old, ignore_errors=True)
        try:
            place.rename(old)
        except OSError:
            return False
    try:
        part.rename(place)
    except OSError:
        if is_owned:
            with suppress(OSError):
                old.rename(place)
        if os.path.lexists(place):
            return False
        raise
    shutil.rmtree(old, ignore_errors=True)
    return True


def owner(output: Path) -> str:
    """The job whose result a folder is; "" when it is none, or a link."""
    if output.is_symlink():
        return ""
    try:
        with (output / JOB_FILE).open("rb") as file:
            first = file.readline(80)
    except OSError:
        return ""
    return first.decode(errors="replace").removeprefix("#").strip()


def _refusal(path: Path, message: str) -> InputError:
    return InputError.single("output_dir", f"{clean(str(path), limit=400)} {message}")
