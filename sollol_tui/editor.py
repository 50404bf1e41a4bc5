"""The editor of the person who sits there ($VISUAL, $EDITOR, else a usual one), for a text of ours.
Touches no file but its own draft."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from sollol_tui.hosts.shell import split
from sollol_tui.model.errors import SollolError

_VARIABLES: Final = ("VISUAL", "EDITOR")
_USUAL: Final = ("sensible-editor", "nano", "vim", "vi")


def edited(text: str, name: str, *, meanwhile: AbstractContextManager[object] | None = None) -> str:
    """The text after it was edited under that name, `meanwhile` being entered. Raises SollolError
    when there is no editor, or when it fails."""
    command = _command()
    with tempfile.TemporaryDirectory(prefix="sollol-") as folder:
        draft = Path(folder) / name  # its ending tells the editor how to colour it
        draft.write_bytes(text.encode())
        try:
            with meanwhile or nullcontext():
                status = subprocess.run([*command, str(draft)], check=False).returncode
            typed = draft.read_bytes()
        except OSError as error:
            raise SollolError(
                f"{command[0]} cannot be used: {error.strerror}", remedy="set EDITOR to another"
            ) from None
    if status:
        raise SollolError(f"{command[0]} ended with {status}, nothing was taken")
    try:
        return typed.decode()
    except UnicodeDecodeError:
        raise SollolError("what was written is not UTF-8 text, nothing was taken") from None


def _command() -> list[str]:
    """Raises SollolError where nobody could use an editor."""
    for name in _VARIABLES:
        chosen = os.environ.get(name, "")
        try:
            words = split(chosen)
        except ValueError as error:
            raise SollolError(f"{name} is {chosen!r}: {error}", remedy="set it anew") from None
        if words:
            return words
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SollolError("nobody can edit here", remedy="set EDITOR, or run it in a terminal")
    for name in _USUAL:
        if found := shutil.which(name):
            return [found]
    raise SollolError("there is no editor here", remedy="set EDITOR to one")
