"""A file of settings in the user's editor: checked before it is written, shown as a diff, and what
was not written kept beside it. Writes nothing that cannot be read again."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from sollol_tui.cli.session import Session
from sollol_tui.cli.terminal import say
from sollol_tui.editor import edited
from sollol_tui.inventories import read_text, write_text
from sollol_tui.model.errors import InputError
from sollol_tui.model.inventory_edit import unified_diff


@dataclass(frozen=True, slots=True, kw_only=True)
class Editable:
    """A file and what reads it, which raises InputError with the place of each problem. `blank` is
    where somebody begins who has no such file."""

    path: Path
    command: str  # that edits it
    check: Callable[[bytes, str], object]
    blank: str = ""

    @property
    def kept(self) -> Path:
        """Where an edit lies that was not written."""
        return self.path.with_name(f"{self.path.name}.edited")


def edit_file(session: Session, file: Editable) -> None:
    """Raises InputError when what was written cannot be read, and keeps it; SollolError when
    nothing can be edited here."""
    session.check_acting()
    old = read_text(file.path) if file.path.exists() else None
    new = edited(_beginning(file, old), file.path.name)
    if new == (file.blank if old is None else old):
        say(f"nothing to change in {file.path}")
        file.kept.unlink(missing_ok=True)
        return
    file.path.parent.mkdir(parents=True, exist_ok=True)
    write_text(file.kept, new, instead_of=read_text(file.kept) if file.kept.exists() else None)
    try:
        file.check(new.encode(), str(file.path))
    except InputError:
        click.echo(
            f"{file.path} stays as it was; your edit is kept in {file.kept}; "
            f"to go on with it: {file.command}",
            err=True,
        )
        raise
    click.echo(unified_diff(old or "", new, str(file.path)), nl=False)
    if session.asks and not click.confirm(f"write {file.path}?", default=True, err=True):
        say(f"nothing is written; your edit is kept in {file.kept}")
        return
    write_text(file.path, new, instead_of=old)
    file.kept.unlink()
    say(f"{file.path} is written")


def _beginning(file: Editable, old: str | None) -> str:
    """What the editor shows first: an edit that was kept, if the user wants that, or the file."""
    there = file.blank if old is None else old
    if not file.kept.exists():
        return there
    if sys.stdin.isatty() and not click.confirm(
        f"go on with the edit that is kept in {file.kept}?", default=True, err=True
    ):
        return there
    say(f"going on with the edit that was kept in {file.kept}")
    return read_text(file.kept)
