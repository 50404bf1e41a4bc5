"""The state folder of the coordinator: where it lies, what is in it, and that it is private."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.model.errors import StateError

VARIABLE: Final = "SOLLOL_HOME"
SUPERVISOR_LOG: Final = "supervisor.log"  # in a job's folder
MOUNTS = Path("/proc/self/mounts")
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs"}
)


@dataclass(frozen=True, slots=True)
class Home:
    root: Path

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    def check_database(self) -> None:
        """Raises StateError when the state was cut to nothing: taken for a new one, it would forget
        the jobs that run."""
        try:
            is_cut = self.database.stat().st_size == 0 and any((self.root / "jobs").iterdir())
        except FileNotFoundError:
            return
        if is_cut:
            raise StateError(
                f"the state in {self.database} is empty, but there are jobs beside it",
                remedy="move that file away to start afresh; workers keep their runs",
            )

    @property
    def known_hosts(self) -> Path:
        """Host keys that `sollol hosts trust` accepted."""
        return self.root / "known_hosts"

    @property
    def ssh_agent(self) -> Path:
        """Where the ssh-agent of the user's last command listens."""
        return self.root / "ssh_agent"

    @property
    def hashes(self) -> Path:
        """What files hash to; a cache."""
        return self.root / "hashes.db"

    def job(self, job: str) -> Path:
        return self.root / "jobs" / job

    @property
    def scores(self) -> Path:
        """What teachers said of tokens, in a folder for each teacher and data."""
        return self.root / "scores"

    @property
    def answers(self) -> Path:
        """What teachers wrote, a file for each teacher and data."""
        return self.root / "answers"

    def copies(self, job: str, host: str) -> Path:
        """Byte-for-byte copies of a worker's events and logs."""
        return self.job(job) / host


def open_home(root: Path | None = None) -> Home:
    """The state folder: `root`, else $SOLLOL_HOME, else the platform's. Makes it, mode 0700. Raises
    StateError when it is somebody else's or on a network filesystem, where SQLite's locks fail."""
    if root is None:
        chosen = os.environ.get(VARIABLE)
        if chosen:
            root = Path(chosen).expanduser()
        else:
            from platformdirs import user_state_path

            root = user_state_path("sollol", appauthor=False)
    root = root.absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.stat()
        if status.st_uid != os.geteuid():
            raise StateError(
                f"the state folder {root} belongs to another user",
                remedy=f"set {VARIABLE} to a folder of your own",
            )
        if status.st_mode & 0o077:
            root.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"the state folder {root} cannot be used: {error.strerror}",
            remedy=f"set {VARIABLE} to a folder that you can write",
        ) from None
    kind = _filesystem(root)
    if kind in _NETWORK:
        raise StateError(
            f"the state folder {root} lies on a network filesystem ({kind})",
            remedy=f"set {VARIABLE} to a folder on a local disk",
        )
    return Home(root)


def _filesystem(path: Path) -> str:
    """The type of the filesystem that holds `path`, or "" where the system does not tell."""
    try:
        mounts = MOUNTS.read_bytes()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, raw, found, *_ = line.split(b" ")
        # Spaces, tabs, newlines and backslashes in it are written as three octal digits.
        point = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), raw))
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), found.decode("ascii", "replace")
    return kind
