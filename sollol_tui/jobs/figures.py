"""Reads what is told often and over time - steps, and how busy hosts are - from the coordinator's
copies of a job's event files, new lines only: the state keeps no more than the last of it.
"""

from pathlib import Path
from typing import Any

from sollol_tui.jobs.new_lines import NewLines
from sollol_tui.model.events import Event, decode
from sollol_tui.model.metrics import HOST_KIND, METRIC_KIND, StepPoint, point_of


class FigureReader:
    """The events of one kind of the job whose copies lie in `folder`; remembers how far it has read
    each file."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        self._sign = f'"{kind}"'.encode()
        self._new = NewLines()

    def read(self) -> list[Event]:
        """Some of the events that came since the last call, files in order of host and name; none
        once all are read. A last line without a newline waits."""
        for path in sorted(self._folder.glob("*/events.*.jsonl")):
            while (lines := self._new.read(path)) is not None:
                events = map(decode, (line for line in lines if self._sign in line))
                if found := [event for event in events if event and self._is_wanted(event, path)]:
                    return found
        return []

    def _is_wanted(self, event: Event, path: Path) -> bool:
        said = (event.kind, event.job, event.host)
        return said == (self._kind, self._folder.name, path.parent.name)


class MetricReader:
    """The same as what each told step says."""

    def __init__(self, folder: Path) -> None:
        self._events = FigureReader(folder, METRIC_KIND)

    def read(self) -> list[StepPoint]:
        """Some of the points that came since the last call; none once all are read."""
        while events := self._events.read():
            points = (point_of(each.data, each.generation, each.attempt) for each in events)
            if found := [point for point in points if point is not None]:
                return found
        return []


def read_hosts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What each host said of its load, in the order in which it said it."""
    said: dict[str, list[dict[str, Any]]] = {}
    reader = FigureReader(folder, HOST_KIND)
    while events := reader.read():
        for event in events:
            said.setdefault(event.host, []).append(event.data)
    return said
