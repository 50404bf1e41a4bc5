"""The folder on a host under which everything lies, as it was found, and whether a job can use it
and the disk that it is on. Pure; who looks is hosts/workdir.py."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sollol_tui.model.diagnosis import Check, Outcome, Stage, failed, ok, warning
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.units import format_bytes

ROOMY: Final = 2  # times what training needs at least
FEW_FILES: Final = 100_000  # an environment alone holds some 30,000
_NETWORK_FILESYSTEM: Final = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|9p|ceph|glusterfs|lustre|gpfs|beegfs|orangefs|"
    r"fuse\.(sshfs|glusterfs|ceph.*|rclone|s3fs|gcsfuse|beegfs)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A host's workdir, or `parent`, the nearest folder above it that exists. `filesystem` is as
    the kernel calls it; `files_free` is None where the filesystem has no such number; `write_error`
    is what writing there said. `obstacle` is what stands where a folder on the way to it should be;
    it `is_ours` when provisioning has been there, and `is_empty` without anybody else's files."""

    path: str
    parent: str
    mode: str = ""
    owner: str = ""
    user: str = ""
    is_writable: bool = True
    write_error: str = ""
    filesystem: str = ""
    options: tuple[str, ...] = ()
    files_free: int | None = None
    obstacle: str = ""
    is_home: bool = False
    is_ours: bool = False
    is_empty: bool = True

    @property
    def exists(self) -> bool:
        return bool(self.mode)

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.options or "read-only" in self.write_error.lower()

    @property
    def is_private(self) -> bool:
        """Its owner's alone; a folder above it may hand down further bits, which do no harm."""
        return self.exists and int(self.mode, 8) & 0o777 == 0o700


def judge_workdir(
    folder: Folder, quote: Callable[[str], str], against: tuple[str, str] | None = None
) -> Check:
    """Writable, private, and on a disk of its own. `against` is the reason and the remedy of what
    forbids this folder at all; `quote` makes of a path what a shell reads back."""
    set_another = "or set workdir to another folder in the inventory"
    if folder.exists:
        found = f"{folder.path} ({folder.filesystem or 'unknown filesystem'}, mode 0{folder.mode})"
    else:
        found = folder.path if folder.obstacle else f"{folder.path} is not there yet"
    if folder.is_read_only:
        return failed(
            Stage.WORKDIR,
            found,
            "its disk is read-only",
            f"`sudo dmesg` says why (a broken disk goes read-only); repair it, {set_another}",
        )
    if against is not None:
        return failed(Stage.WORKDIR, found, *against)
    if not folder.exists and not folder.is_writable:
        return failed(
            Stage.WORKDIR,
            found,
            f"{folder.parent} is not ours to write to",
            f"let us write there, {set_another}",
        )
    if folder.exists and not folder.is_private:
        return Check(
            stage=Stage.WORKDIR,
            outcome=Outcome.WARNING if folder.mode[-2:] != "00" else Outcome.FAILED,
            found=found,
            reason="it should be its owner's alone, who may write there",
            remedy=f"chmod 700 {quote(folder.path)}",
            fix="give it mode 0700",
        )
    if folder.write_error:
        full = re.search(r"no space|quota", folder.write_error, re.IGNORECASE)
        return failed(
            Stage.WORKDIR,
            found,
            f"nothing can be written there: {folder.write_error}",
            f"free some space, {set_another}" if full else f"make it writable, {set_another}",
        )
    fix = "" if folder.exists else "make it, with mode 0700"
    if _NETWORK_FILESYSTEM.fullmatch(folder.filesystem):
        return Check(
            stage=Stage.WORKDIR,
            outcome=Outcome.WARNING,
            found=found,
            reason=f"{folder.filesystem} is a network filesystem: imports are slow, and locks may "
            "fail",
            remedy="set workdir to a folder on a disk of the host",
            fix=fix,
        )
    if folder.exists:
        return ok(Stage.WORKDIR, found)
    return Check(
        stage=Stage.WORKDIR,
        outcome=Outcome.SKIPPED,
        found=f"{found}; provisioning makes it",
        fix=fix,
    )


def judge_disk(facts: HostFacts, folder: Folder, *, accelerator: str, needed_bytes: int) -> Check:
    """`needed_bytes` is what a job asks of the host before it takes part."""
    free = facts.disk_free_bytes
    found = f"{format_bytes(free)} free in {facts.workdir}"
    need = f"{format_bytes(needed_bytes)} for a {accelerator} environment and checkpoints"
    remedy = "free some space there, or set workdir to a larger disk"
    if free < needed_bytes:
        return failed(Stage.DISK, found, f"a job needs {need}", remedy)
    if folder.files_free is not None and folder.files_free < FEW_FILES:
        return failed(
            Stage.DISK,
            found,
            f"but only {folder.files_free:,} more files fit (inodes), and {FEW_FILES:,} are needed",
            "remove many small files there, or set workdir to another disk",
        )
    if free < ROOMY * needed_bytes:
        more = f"a job needs {need}; models, datasets and checkpoints come on top"
        return warning(Stage.DISK, found, more, remedy)
    return ok(Stage.DISK, f"{found}; a job needs {need}")
