"""Reads a job's logs from the coordinator's copies: merged over its ranks, new lines only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.model.snapshot import Keyed
from sollol_tui.model.text import clean_lines

_LOG: Final = re.compile(r"log\.(agent|\d{1,4})\.(\d{1,4})")
_CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine(Keyed):
    """One clean line. `slot` is None for the agent."""

    host: str
    slot: int | None
    text: str


class LogReader:
    """Remembers how far it has read each file; `tail_bytes` starts it near their ends."""

    def __init__(self, folder: Path, *, tail_bytes: int | None = None) -> None:
        self._folder = folder
        self._tail_bytes = tail_bytes
        self._positions: dict[Path, int] = {}

    def read(self, max_lines: int = 2000) -> list[LogLine]:
        """Lines that came since the last call, about `max_lines` at most, files in order of host
        and slot. A last line without a newline waits."""
        lines: list[LogLine] = []
        for host, slot, _, path in sorted(self._files(), key=lambda file: (file[0], *file[2])):
            while len(lines) < max_lines:
                fresh = self._read(path)
                if not fresh:
                    break
                lines += [LogLine(host=host, slot=slot, text=text) for text in fresh]
        return lines

    def _files(self) -> Iterator[tuple[str, int | None, tuple[int, int], Path]]:
        """Host, slot, order within the host, and path of each log."""
        for path in self._folder.glob("*/log.*"):
            if (match := _LOG.fullmatch(path.name)) is not None:
                slot = None if match[1] == "agent" else int(match[1])
                order = (-1 if slot is None else slot, int(match[2]))
                yield path.parent.name, slot, order, path

    def _read(self, path: Path) -> list[str]:
        size = path.stat().st_size
        start = self._positions.get(path)
        skip_partial = False
        if start is None:
            start = max(0, size - self._tail_bytes) if self._tail_bytes is not None else 0
            skip_partial = start > 0
        if start >= size:
            self._positions[path] = start
            return []
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_CHUNK)
        end = data.rfind(b"\n") + 1
        if not end and len(data) < _CHUNK:
            self._positions[path] = start
            return []
        data = data[: end or _CHUNK]  # a line without an end is shown in pieces
        self._positions[path] = start + len(data)
        if skip_partial:
            data = data[data.find(b"\n") + 1 :]
        return clean_lines(data)
