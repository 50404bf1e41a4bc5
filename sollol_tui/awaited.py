"""What takes a while, once for both clients: waiting for a job, and hearing what it says.

Looks only: whoever stops waiting leaves the job as it is. Files and SQLite are read in threads, so
that nobody's event loop stands still.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from sollol_tui.jobs.logs import LogChoice, LogLine
from sollol_tui.jobs.records import EventRecord
from sollol_tui.model.errors import JobError, WaitError
from sollol_tui.model.goals import Goal, parse_goal
from sollol_tui.model.metrics import StepPoint
from sollol_tui.model.snapshot import JobView

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

_POLL_S: Final = 0.25
_REVIVE_EVERY_S: Final = 3.0  # a killed supervisor is back before anybody misses it


async def until(
    client: "SOLLOLClient", job_id: str, wanted: str, *, timeout_s: float | None
) -> JobView:
    """The job once it is where it is `wanted`. Raises JobError when it will not be, WaitError
    after `timeout_s`."""
    goal = parse_goal(wanted)
    try:
        async with asyncio.timeout(timeout_s):
            return await _until(client, job_id, goal)
    except TimeoutError:
        view = await asyncio.to_thread(client.get_job_status, job_id)
        raise WaitError(
            f"{view.id} is {view.state} and not {goal} after {timeout_s:g} s",
            remedy="it goes on; wait longer, or see: sollol status",
        ) from None


async def _until(client: "SOLLOLClient", job_id: str, goal: Goal) -> JobView:
    clock = asyncio.get_running_loop().time
    revived_at = clock()
    while not goal.is_reached(view := await asyncio.to_thread(client.get_job_status, job_id)):
        if goal.is_missed(view):
            why = f": {view.reason}" if view.reason else ""
            raise JobError(f"{view.id} is {view.state}{why}", remedy=f"sollol show {view.id}")
        if clock() - revived_at > _REVIVE_EVERY_S:
            await asyncio.to_thread(client.revive)
            revived_at = clock()
        await asyncio.sleep(_POLL_S)
    return view


async def log_lines(
    client: "SOLLOLClient", job_id: str, choice: LogChoice, *, follow: bool
) -> AsyncIterator[list[LogLine]]:
    """The chosen lines of the job's logs in batches; with `follow` until it has ended and all is
    told."""
    reader = await asyncio.to_thread(client.open_logs, job_id, choice)
    while True:
        ended = await _has_ended(client, job_id)
        lines = await asyncio.to_thread(reader.read)
        yield lines
        if not lines:
            if ended or not follow:
                return
            await asyncio.sleep(_POLL_S)


async def event_records(
    client: "SOLLOLClient", job_id: str, kinds: Sequence[str], *, follow: bool
) -> AsyncIterator[list[EventRecord]]:
    """The job's events in batches, in the order in which they were heard; with `follow` until it
    has ended and all is told."""
    last = 0
    while True:
        ended = await _has_ended(client, job_id)
        records = await asyncio.to_thread(client.events_after, job_id, last, kinds)
        yield records
        if records:
            last = records[-1].number
        elif ended or not follow:
            return
        else:
            await asyncio.sleep(_POLL_S)


async def metric_points(
    client: "SOLLOLClient", job_id: str, *, follow: bool
) -> AsyncIterator[list[StepPoint]]:
    """What each told step says, in batches. A step done again is told again, with a higher
    generation or attempt: the last word counts."""
    reader = await asyncio.to_thread(client.open_metrics, job_id)
    while True:
        ended = await _has_ended(client, job_id)
        if points := await asyncio.to_thread(reader.read):
            yield points
        elif ended or not follow:
            return
        else:
            await asyncio.sleep(_POLL_S)


async def _has_ended(client: "SOLLOLClient", job_id: str) -> bool:
    view = await asyncio.to_thread(client.get_job_status, job_id)
    return view.state.is_terminal
