"""What teachers have said of tokens, on this machine: shards by their content's key, for all
jobs. A shard is here whole, with its sum beside it, or not at all. Makes no scores."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.hosts.shards import NAME
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import file_sha256, send_file
from sollol_tui.jobs.home import Home
from sollol_tui.model.errors import InputError

_SUM: Final = ".sha256"


def shard_name(number: int) -> str:
    return f"{number:06d}.scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCache:
    """The shards of one teacher and one dataset's tokens, `shards` of them in all."""

    folder: Path
    shards: int

    @classmethod
    def of(cls, home: Home, key: str, shards: int) -> "ScoreCache":
        folder = home.scores / key
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder=folder, shards=shards)

    @property
    def key(self) -> str:
        return self.folder.name

    def folder_in(self, workdir: str) -> str:
        """Where the same shards lie on a worker."""
        return f"{workdir}/scores/{self.key}"

    def names(self) -> list[str]:
        """The shards that are here, in the order in which students need them."""
        return sorted(path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name))

    def lacking(self, part: int = 0, parts: int = 1) -> list[str]:
        """The shards of a part that are not here."""
        here = set(self.names())
        wanted = map(shard_name, range(part, self.shards, parts))
        return [name for name in wanted if name not in here]

    def lacking_parts(self, parts: int) -> list[int]:
        """The parts, of so many, of which a shard is not here."""
        here = set(self.names())
        lacks = [shard_name(number) not in here for number in range(self.shards)]
        return [part for part in range(parts) if any(lacks[part::parts])]

    def holds_any(self, names: Iterable[str]) -> bool:
        """Whether one of these shards is here."""
        return any(self.path(name).exists() for name in names)

    def path(self, name: str) -> Path:
        return self.folder / name

    def sha256(self, name: str) -> str:
        """The sum with which it came. Raises InputError when it is gone."""
        place = self._sum(name)
        try:
            return place.read_text()
        except OSError:
            raise InputError.single(str(place), "is gone; the shard is scored again") from None

    def note_sum(self, name: str, sha256: str) -> None:
        """Before the shard itself comes: what is here has a sum."""
        self._sum(name).write_text(sha256)

    async def send(self, connection: HostConnection, workdir: str, name: str) -> None:
        """Brings a shard to a worker. Raises HostError, and InputError where the one here is
        damaged: it is removed then."""
        place = f"{self.folder_in(workdir)}/{name}"
        try:
            await send_file(connection, self.path(name), place, self.sha256(name))
        except InputError:
            await self.drop_if_damaged(name)
            raise

    async def drop_if_damaged(self, name: str) -> bool:
        """Removes a shard that is not what came here; whether that was so."""
        try:
            is_sound = await asyncio.to_thread(file_sha256, self.path(name)) == self.sha256(name)
        except InputError:
            is_sound = False
        if not is_sound:
            self.path(name).unlink(missing_ok=True)
        return not is_sound

    def _sum(self, name: str) -> Path:
        return self.folder / f"{name}{_SUM}"
