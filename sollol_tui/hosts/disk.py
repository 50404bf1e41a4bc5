"""What a host says when its disk takes nothing, as one sentence for each of the known reasons."""

import re
from typing import Final

from sollol_tui.model.errors import CommandError, HostError, UnsuitableError
from sollol_tui.model.text import clean, clean_lines

_FULL: Final = re.compile(r"no space left|disk quota|os error 28\b", re.IGNORECASE)
_READ_ONLY: Final = re.compile(r"read-only file ?system", re.IGNORECASE)
_FORBIDDEN: Final = re.compile(r"permission denied|operation not permitted", re.IGNORECASE)
_NO_FOLDER: Final = re.compile(r"not a directory|file exists", re.IGNORECASE)


def is_full(complaint: str) -> bool:
    return _FULL.search(complaint) is not None


def disk_error(host: str, what: str, workdir: str, output: bytes) -> HostError:
    """Why `what` could not be put below `workdir`, from what the command complained."""
    text = output.decode("utf-8", "replace")
    lines = [line for line in clean_lines(output, limit=300) if line.strip()]
    folder = clean(workdir, limit=200)
    telling = (_FULL, _READ_ONLY, _FORBIDDEN, _NO_FOLDER)
    reason = next((line for line in lines if any(p.search(line) for p in telling)), "")
    if is_full(text):
        return UnsuitableError(
            host,
            f"no space left for {what} in {folder}: {reason}",
            remedy="free some on the disk of its workdir, or set workdir to another one",
        )
    if _READ_ONLY.search(text):
        return UnsuitableError(
            host,
            f"{folder} lies on a disk that is read-only: {reason}",
            remedy="set workdir to a folder on a disk that can be written",
        )
    if _FORBIDDEN.search(text):
        return UnsuitableError(
            host,
            f"{folder} cannot be used by this account: {reason}",
            remedy="set workdir to a folder that this account owns",
        )
    if _NO_FOLDER.search(text):
        return UnsuitableError(
            host,
            f"{folder} cannot be made: {reason}",
            remedy="set workdir to a folder that is none yet or empty, and not below a file",
        )
    last = lines[-1] if lines else "it gave no reason"
    return CommandError(host, f"{what} could not be put into {folder}: {last}")
