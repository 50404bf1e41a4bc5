"""Devices that an errand holds without being a job: a file each, locked for as long as the process
lives that runs it. What a dead one left on its host stands in its file, until it is removed there.
Decides nobody's turn."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = "errands"  # below the state folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupation:
    """`title` is what people read; `run_dir` on `host` is where its run lies, if it began there,
    and answers to `nonce`."""

    id: str
    title: str
    resources: tuple[str, ...]
    host: str
    run_dir: str
    nonce: str


@contextmanager
def occupy(root: Path, occupation: Occupation) -> Iterator[Path]:
    """Holds the resources in the state folder `root` for the time of the body, or for as long as
    this process lives. Yields the file, which stays unless it is removed."""
    folder = root / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    place = folder / f"{occupation.id}.json"
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"v": 1, **asdict(occupation)}).encode())
        yield place
    finally:
        os.close(descriptor)


def occupations(root: Path) -> list[Occupation]:
    """The errands that are done now."""
    return list(_read(root, alive=True))


def occupied(root: Path) -> dict[str, str]:
    """Which errand holds each resource."""
    return {resource: each.title for each in occupations(root) for resource in each.resources}


def abandoned(root: Path) -> list[Occupation]:
    """Errands whose process died before it could remove what it had on its host."""
    return list(_read(root, alive=False))


def forget(root: Path, occupation: Occupation) -> None:
    (root / FOLDER / f"{occupation.id}.json").unlink(missing_ok=True)


def _read(root: Path, *, alive: bool) -> Iterator[Occupation]:
    for place in sorted((root / FOLDER).glob("e-*.json")):
        try:
            with place.open("rb") as file:
                if _is_locked(file.fileno()) is not alive:
                    continue
                data = json.load(file)
                del data["v"]
                yield Occupation(**data | {"resources": tuple(data["resources"])})
        except (OSError, ValueError, KeyError, TypeError):  # gone meanwhile, or just being made
            continue


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
