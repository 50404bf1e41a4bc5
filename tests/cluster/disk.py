"""The files of one lab machine: what it has for itself, and what it sees of the machine below.

Refuses: to mount anything outside of the host's own mount namespace.
"""

import pwd
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cable import LabError

ROOT_HOME = Path(pwd.getpwuid(0).pw_dir)  # the home that sshd gives root
PYTHON_HOME = Path(sys.base_prefix)
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """root's home, /tmp and /mnt are the host's own and outlive its reboots; the rest is common."""

    folder: Path
    shared: Mapping[Path, str]  # a path here -> where the host sees it

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def _resolver(self) -> Path:
        return self.folder / "resolv.conf"

    def create(self, authorized_key: str) -> None:
        self.home.mkdir(mode=0o700, parents=True)
        (self.folder / "mnt").mkdir()
        (self.folder / "tmp").mkdir()
        (self.folder / "tmp").chmod(0o1777)
        # Names of hosts are unknown here, as on many a home network, but nobody waits to hear that.
        self._resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        (self.home / ".ssh").mkdir(mode=0o700)
        authorized = self.home / ".ssh" / "authorized_keys"
        authorized.write_text(authorized_key)
        authorized.chmod(0o600)

    def mounts(self) -> list[list[str]]:
        """The commands that give a fresh mount namespace the host's view."""
        steps = []
        # What must stay visible is put in place before the host's own folders hide the machine's.
        visible = {path: path for path in (PYTHON_HOME, Path(sys.prefix), CHECKOUT)}
        for path, place in (visible | self._shared_places()).items():
            own = self._own_place(place)
            if own is not None:
                steps += [["mkdir", "-p", str(own)], ["mount", "--rbind", str(path), str(own)]]
        for hidden, own in self._own_folders().items():
            steps.append(["mount", "--rbind", str(own), str(hidden)])
        for volatile in ("/dev/shm", "/run"):
            steps.append(["mount", "-t", "tmpfs", "tmpfs", volatile])
        return [["mount", "--bind", str(self._resolver), "/etc/resolv.conf"], *steps]

    def wipe(self, name: str) -> None:
        """Removes a folder of the home, apart from shared folders that are shown inside it."""
        kept = {self._own_place(place) for place in self._shared_places().values()}
        _wipe(self.home / name, {path for path in kept if path is not None})

    def _own_folders(self) -> dict[Path, Path]:
        """Places that each host has for itself, and where they lie outside."""
        return {
            ROOT_HOME: self.home,
            Path("/tmp"): self.folder / "tmp",
            Path("/mnt"): self.folder / "mnt",
        }

    def _own_place(self, place: Path) -> Path | None:
        """Where a path of the host lies outside, or None when all hosts have it in common."""
        for inside, outside in self._own_folders().items():
            if place.is_relative_to(inside):
                return outside / place.relative_to(inside)
        return None

    def _shared_places(self) -> dict[Path, Path]:
        places = {}
        for path, there in self.shared.items():
            place = ROOT_HOME / there[2:] if there.startswith("~/") else Path(there)
            if self._own_place(place) is None:
                raise LabError(f"{there}: shared folders appear under ~, /tmp or /mnt of the hosts")
            places[path] = place
        return places


def _wipe(folder: Path, kept: set[Path]) -> None:
    if folder in kept or not folder.exists():
        return
    if not any(path.is_relative_to(folder) for path in kept):
        shutil.rmtree(folder)
        return
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            _wipe(child, kept)
        else:
            child.unlink()
