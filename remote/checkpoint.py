"""Checkpoints and results on disk: folders that are whole, verified by sha256, or not there at all.

Everything is read as safetensors, JSON or `weights_only`; nothing here unpickles.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from remote.files import sync_folder

MANIFEST = "manifest.json"
ADAPTER = "adapter_model.safetensors"
OPTIMIZER = "optimizer.pt"
STATE = "trainer_state.json"
CURSOR = "cursor.json"
PREFIX = "checkpoint-"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or does not belong to this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a run after a committed step, in CPU memory."""

    step: int
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]  # trainer_state.json, with the keys of HF's TrainerState and no others
    cursor: dict[str, Any]  # what is committed, and of which order of samples


class Checkpoints:
    """The checkpoints of one run directory, of which `keep` stay. Its ranks read them and one of
    them writes, on a second thread, one at a time."""

    def __init__(self, folder: Path, keep: int, write_config: Callable[[Path], None]) -> None:
        self._folder = folder
        self._keep = max(keep, 1)
        self._write_config = write_config
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[None] | None = None
        folder.mkdir(mode=0o700, exist_ok=True)

    def path(self, step: int) -> Path:
        return self._folder / f"{PREFIX}{step}"

    def steps(self) -> list[int]:
        """Every checkpoint present, the newest first."""
        names = (path.name.removeprefix(PREFIX) for path in self._folder.glob(f"{PREFIX}*"))
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def load(self, step: int) -> Snapshot:
        folder = self.path(step)
        return Snapshot(
            step=step,
            adapter=load_file(folder / ADAPTER),
            optimizer=torch.load(folder / OPTIMIZER, weights_only=True, map_location="cpu"),
            state=json.loads((folder / STATE).read_bytes()),
            cursor=json.loads((folder / CURSOR).read_bytes()),
        )

    def save(self, snapshot: Snapshot, report: Callable[[Path | OSError], None]) -> None:
        """Starts to write; `report` gets the path once it would survive a power loss, or the error.
        A snapshot that comes while the one before is still being written waits for it."""
        self.wait()
        self._last = self._thread.submit(self._write, snapshot, report)

    def wait(self) -> None:
        """Returns when nothing is being written."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _write(self, snapshot: Snapshot, report: Callable[[Path | OSError], None]) -> None:
        def fill(folder: Path) -> None:
            write_adapter(snapshot.adapter, folder)
            _write_optimizer(snapshot.optimizer, folder / OPTIMIZER)
            (folder / STATE).write_text(json.dumps(snapshot.state, indent=1))
            (folder / CURSOR).write_text(json.dumps(snapshot.cursor))
            self._write_config(folder)

        final = self.path(snapshot.step)
        try:
            for left_over in self._folder.glob(f".{PREFIX}*"):  # of a writer that was killed
                shutil.rmtree(left_over)
            write_folder(final, fill)
            for step in self._beyond(snapshot.step):
                shutil.rmtree(self.path(step))
        except OSError as error:
            report(error)
        else:
            report(final)

    def _beyond(self, newest: int) -> list[int]:
        """The checkpoints that go: all but the last `keep`. One of a later step is none of these:
        the run began without it, because it is damaged or another rank lacks it."""
        steps = self.steps()
        kept = [step for step in steps if step <= newest][: self._keep]
        return [step for step in steps if step not in kept]


def write_adapter(adapter: dict[str, torch.Tensor], folder: Path) -> None:
    """Raises OSError where the disk refuses; safetensors' own writer has an error of its own."""
    (folder / ADAPTER).write_bytes(save(adapter))


def _write_optimizer(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # of an archive that it could not finish either
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Makes a folder that appears whole or not at all: filled under another name, its files'
    sha256 put into manifest.json, all of it on disk before it gets its name."""
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        fill(temporary)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        entries = {
            path.relative_to(temporary).as_posix(): {
                "sha256": _sha256(path),
                "size": path.stat().st_size,
            }
            for path in files
        }
        manifest = temporary / MANIFEST
        manifest.write_text(json.dumps({"v": 1, "files": entries}, indent=1))
        for path in (*files, manifest):
            _sync_file(path)
        sync_folder(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(final.parent)


def link_tree(source: Path, target: Path) -> None:
    """Lays a finished folder into another one, without a second copy where the disk knows links."""
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # some network filesystems have no links
        shutil.copyfile(source, target)


def damage(folder: Path) -> str | None:
    """What keeps a folder written by `write_folder` from being what its manifest says, or None."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        for name, entry in files.items():
            path = folder / name
            size = path.stat().st_size
            if size != entry["size"]:
                return f"{name} has {size} bytes where its manifest says {entry['size']}"
            if _sha256(path) != entry["sha256"]:
                return f"{name} does not have the sha256 of its manifest"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is not a manifest"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
