"""The checkpoints that a host has in a folder, and whether each is what its manifest says. Brings
none of them here, and removes none."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sollol_tui.hosts.environment import DIGEST
from sollol_tui.hosts.fetch import MANIFEST, MAX_MANIFEST, ManifestFile, read_manifest
from sollol_tui.hosts.receiver import STALL_S
from sollol_tui.hosts.shell import quote, script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import PIECE, file_sha256
from sollol_tui.model.errors import TransferError

MAX_BYTES: Final = 64 * 1024**3
_NAME: Final = re.compile(r"checkpoint-([1-9]\d{0,14})")
_LISTED: Final = re.compile(r"checkpoint-(\d{1,15}) (\d{1,12}) (.*)")
# A manifest has line breaks for people only: without them it is one line of the answer.
_LIST: Final = r"""
cd "$place" 2>/dev/null || exit 0
for folder in checkpoint-*; do
  [ -f "$folder/$manifest" ] || continue
  printf '%s %s ' "$folder" "$(stat -c %Y -- "$folder" 2>/dev/null || echo 0)"
  head -c "$most" -- "$folder/$manifest" | tr -d '\n'
  echo
done
"""
# Training goes on meanwhile, and is in no hurry to be disturbed.
_SUM: Final = (
    DIGEST
    + r"""
cd "$place" || exit 1
command -v renice >/dev/null && renice -n 19 -p $$ >/dev/null 2>&1
while IFS= read -r file; do
  if [ -f "$file" ]; then echo "$(digest <"$file") $file"; else echo "missing $file"; fi
done
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One checkpoint there. `at` is the host's own clock; `damage` is "" when it is whole."""

    step: int
    at: float
    files: tuple[ManifestFile, ...]
    damage: str = ""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def step_of(name: str) -> int | None:
    """The step that a checkpoint's folder is named after."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


async def list_saved(place: str, connection: HostConnection) -> list[Saved]:
    """The checkpoints in a folder of the host, as their manifests describe them."""
    text = script(_LIST, place=place, manifest=MANIFEST, most=str(MAX_MANIFEST + 1))
    shown = await connection.run("sh -s", input=text, timeout_s=STALL_S)
    listed = map(_LISTED.fullmatch, shown.stdout.decode(errors="replace").splitlines())
    return [
        _described(connection.host.name, int(found[1]), float(found[2]), found[3].encode())
        for found in listed
        if found and step_of(f"checkpoint-{found[1]}")
    ]


async def verify_saved(place: str, connection: HostConnection) -> list[Saved]:
    """The checkpoints in a folder of the host, each read to its last byte there."""
    listed = await list_saved(place, connection)
    names = [f"checkpoint-{each.step}/{file.name}" for each in listed for file in each.files]
    if not names:
        return listed
    done = await connection.run(
        f"sh -c {quote(script(_SUM, place=place).decode())}",
        input="".join(f"{name}\n" for name in names).encode(),
        timeout_s=STALL_S + sum(each.size for each in listed) / PIECE,
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition(" ") for line in lines)}
    return [replace(each, damage=_damage(each, sums)) for each in listed]


async def verify_here(folders: Iterable[Path]) -> list[Saved]:
    """Checkpoints of this machine, each read to its last byte."""
    return await asyncio.to_thread(lambda: [found for f in folders if (found := _read_here(f))])


def damage_here(folder: Path) -> str:
    """What is wrong with a checkpoint of this machine; "" when it is whole."""
    found = _read_here(folder)
    return "it has no manifest" if found is None else found.damage


def _read_here(folder: Path) -> Saved | None:
    step = step_of(folder.name)
    try:
        if step is None:
            return None
        manifest = (folder / MANIFEST).read_bytes()
        saved = _described("this machine", step, folder.stat().st_mtime, manifest)
        sums = {
            f"{folder.name}/{file.name}": file_sha256(path) if path.is_file() else "missing"
            for file in saved.files
            if (path := folder / file.name)
        }
    except OSError:
        return None  # it was replaced by a newer one while it was looked at
    return replace(saved, damage=saved.damage or _damage(saved, sums))


def _described(host: str, step: int, at: float, manifest: bytes) -> Saved:
    try:
        files = tuple(read_manifest(host, manifest, MAX_BYTES))
    except TransferError as error:
        return Saved(step=step, at=at, files=(), damage=error.message)
    return Saved(step=step, at=at, files=files)


def _damage(saved: Saved, sums: dict[str, str]) -> str:
    if saved.damage:
        return saved.damage
    for file in saved.files:
        said = sums.get(f"checkpoint-{saved.step}/{file.name}", "missing")
        if said == "missing":
            return f"{file.name} is missing"
        if said != file.sha256:
            return f"{file.name} is damaged"
    return ""
