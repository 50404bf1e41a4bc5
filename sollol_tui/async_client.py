"""AsyncSOLLOLClient: SOLLOLClient for programs with an event loop of their own.

Made from the same code: what waits for hosts or for a job is a coroutine that both share; what
reads or writes the state for a moment is a method of SOLLOLClient, in a thread. It decides nothing.

async with AsyncSOLLOLClient() as client:
    job = await client.submit_job({"model": "./model", "dataset": "rows.jsonl"})
    async for line in client.logs(job["id"], follow=True):
        print(line["text"])
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sollol_tui import awaited
from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs.logs import LogChoice
from sollol_tui.model.patterns import names_meant

if TYPE_CHECKING:
    from sollol_tui.jobs.logs import LogLine, Slot
    from sollol_tui.jobs.records import EventRecord
    from sollol_tui.model.metrics import StepPoint
    from sollol_tui.model.snapshot import HostView, JobView
    from sollol_tui.model.spec import JobSpec

P = ParamSpec("P")
T = TypeVar("T")


def _in_thread(
    act: Callable[Concatenate[SOLLOLClient, P], T],
) -> Callable[Concatenate["AsyncSOLLOLClient", P], Coroutine[Any, Any, T]]:
    """The same method, awaited. A caller that is cancelled does not undo what was asked."""

    @wraps(act)
    async def method(self: "AsyncSOLLOLClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(act, self.state, *args, **kwargs)

    return method


def _shared(
    act: Callable[Concatenate[SOLLOLClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["AsyncSOLLOLClient", P], Coroutine[Any, Any, T]]:
    """The same coroutine."""

    @wraps(act)
    async def method(self: "AsyncSOLLOLClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await act(self.state, *args, **kwargs)

    return method


class AsyncSOLLOLClient:
    """Reads and steers the cluster of one inventory, as SOLLOLClient does. `state` is that client:
    its methods take a moment each, or ask hosts where they are coroutines themselves."""

    def __init__(
        self,
        inventory: str | Path | None = None,
        *,
        home: Path | None = None,
        connect_timeout_s: float | None = None,
    ) -> None:
        """`connect_timeout_s` takes the place of every host's connect_timeout."""
        self.state = SOLLOLClient(inventory, home=home, connect_timeout_s=connect_timeout_s)

    async def __aenter__(self) -> "AsyncSOLLOLClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.state.close()

    async def list_nodes(self, patterns: Sequence[str] = ()) -> "list[HostView]":
        """The hosts of the inventory, or those that the patterns mean, asked now. Raises
        NotFoundError for a pattern that fits no host."""
        await self.state.probe_hosts(patterns)
        meant = names_meant(await asyncio.to_thread(self.state.inventory), patterns)
        return [host for host in (await self.snapshot()).hosts if host.name in meant]

    async def submit_job(
        self, spec: "JobSpec | Mapping[str, Any]", *, queue: bool = True
    ) -> "JobView":
        """Checks, plans and starts a job, or puts it into the queue; returns at once, the job runs
        on its own."""
        return await self.start_job(await self.prepare_job(spec, queue=queue))

    async def resume_job(self, job_id: str, *, workers: str | None = None) -> None:
        """Lets a paused job go on; one that is pausing is waited for."""
        if await self.is_pausing(job_id):
            await self.wait(job_id, "paused")
        await asyncio.to_thread(self.state.resume_job, job_id, workers=workers)

    async def wait(
        self, job_id: str, wanted: str = "done", *, timeout_s: float | None = None
    ) -> "JobView":
        """The job once it is running, paused, done or at step=N, as `wanted`. Raises JobError when
        it ended otherwise, and WaitError after `timeout_s`."""
        return await awaited.until(self.state, job_id, wanted, timeout_s=timeout_s)

    async def logs(
        self,
        job_id: str,
        *,
        host: str | None = None,
        slot: "Slot | None" = None,
        since: float | None = None,
        grep: str | None = None,
        follow: bool = False,
    ) -> "AsyncIterator[LogLine]":
        """The lines of all ranks' logs: of one host, of one slot (or "agent", "supervisor"), those
        that came at a time (as of time.time()) or later, those in which a regular expression is
        found; with `follow` until the job ends."""
        choice = LogChoice.of(host=host, slot=slot, since=since, grep=grep)
        async for lines in awaited.log_lines(self.state, job_id, choice, follow=follow):
            for line in lines:
                yield line

    async def follow_events(self, job_id: str, *kinds: str) -> "AsyncIterator[EventRecord]":
        """What the job's workers said and say, until it has ended."""
        async for records in awaited.event_records(self.state, job_id, kinds, follow=True):
            for record in records:
                yield record

    async def metrics(self, job_id: str, *, follow: bool = False) -> "AsyncIterator[StepPoint]":
        """Loss, speed and the like of each step that was told; with `follow` until the job ends."""
        async for points in awaited.metric_points(self.state, job_id, follow=follow):
            for point in points:
                yield point

    inventory = _in_thread(SOLLOLClient.inventory)
    snapshot = _in_thread(SOLLOLClient.snapshot)
    prepare_job = _shared(SOLLOLClient.prepare_job)
    start_job = _in_thread(SOLLOLClient.start_job)
    list_jobs = _in_thread(SOLLOLClient.list_jobs)
    get_job_status = _in_thread(SOLLOLClient.get_job_status)
    newest_job = _in_thread(SOLLOLClient.newest_job)
    newest_live_job = _in_thread(SOLLOLClient.newest_live_job)
    cancel_job = _in_thread(SOLLOLClient.cancel_job)
    pause_job = _in_thread(SOLLOLClient.pause_job)
    join_job = _in_thread(SOLLOLClient.join_job)
    leave_job = _in_thread(SOLLOLClient.leave_job)
    is_pausing = _in_thread(SOLLOLClient.is_pausing)
    events = _in_thread(SOLLOLClient.events)
    evaluations = _in_thread(SOLLOLClient.evaluations)
    host_figures = _in_thread(SOLLOLClient.host_figures)
    evaluate = _shared(SOLLOLClient.evaluation_of)
    evaluated = _in_thread(SOLLOLClient.evaluated)
    export = _shared(SOLLOLClient.export_of)
    evidence = _in_thread(SOLLOLClient.evidence)
    ranking = _in_thread(SOLLOLClient.ranking)
    timeline = _in_thread(SOLLOLClient.timeline)
    job_spec = _in_thread(SOLLOLClient.job_spec)
    checkpoints = _in_thread(SOLLOLClient.checkpoints)
    fetch = _in_thread(SOLLOLClient.fetch)
    rerun_job = _in_thread(SOLLOLClient.rerun_job)
    prunable_jobs = _in_thread(SOLLOLClient.prunable_jobs)
    prune_jobs = _in_thread(SOLLOLClient.prune_jobs)
    unneeded_scores = _in_thread(SOLLOLClient.unneeded_scores)
    prune_scores = _in_thread(SOLLOLClient.prune_scores)
    supervised_jobs = _in_thread(SOLLOLClient.supervised_jobs)
    revive = _in_thread(SOLLOLClient.revive)
