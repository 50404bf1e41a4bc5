"""The whole lines that files have got since they were last looked at, a piece at a time. What is in
them is decided elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sollol_tui.model.events import Event, decode

_CHUNK: Final = 1024 * 1024


class NewLines:
    """How far each file was read; a last line without a newline waits until it has one."""

    def __init__(self) -> None:
        self._positions: dict[Path, int] = {}

    @property
    def has_read(self) -> bool:
        """Whether any line was there."""
        return bool(self._positions)

    def read(self, path: Path) -> list[bytes] | None:
        """The next lines of a file; None where there are none."""
        start = self._positions.get(path, 0)
        if path.stat().st_size <= start:
            return None
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(_CHUNK)
        end = data.rfind(b"\n") + 1
        if not end and len(data) < _CHUNK:
            return None
        # A line that fills the whole piece is no event; it is stepped over.
        self._positions[path] = start + (end or len(data))
        return data[:end].splitlines()

    def events(self, path: Path) -> Iterator[Event]:
        """All events that a file has got, where it is one of events."""
        if not path.name.startswith("events."):
            return
        while (lines := self.read(path)) is not None:
            yield from filter(None, map(decode, lines))
