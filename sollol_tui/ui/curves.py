"""What the steps of the jobs that a view looks at have told so far; reads only what is new."""

from typing import TYPE_CHECKING

from sollol_tui.model.metrics import StepPoint, Trace

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.figures import MetricReader


class Curves:
    """Of a few jobs at a time. Not for the screen's own thread: a long job takes a while."""

    def __init__(self, client: "SOLLOLClient", *, jobs: int) -> None:
        self._client = client
        self._most = jobs
        self._told: dict[str, tuple[MetricReader, Trace]] = {}

    def points(self, job: str) -> tuple[StepPoint, ...]:
        """In the order of steps, thinned where there are very many."""
        told = self._told.pop(job, None) or (self._client.open_metrics(job), Trace())
        reader, trace = told
        while points := reader.read():
            trace.add(points)
        self._told[job] = told
        while len(self._told) > self._most:  # the one that nobody asked for the longest
            del self._told[next(iter(self._told))]
        return trace.points
