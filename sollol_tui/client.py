"""The Python API, and what the command line and the screens stand on: one object per inventory.

from sollol_tui import SOLLOLClient
client = SOLLOLClient()
job = client.submit_job({"model": "./model", "dataset": "rows.jsonl", "workers": "2"})
client.get_job_status(job["id"])["loss"]
"""

import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sollol_tui.drafting import Drafting
from sollol_tui.inventories import InventoryFile
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.records import EventRecord
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import revive
from sollol_tui.jobs.view import read_job, read_jobs, read_snapshot
from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.names import not_found
from sollol_tui.model.patterns import names_meant
from sollol_tui.model.snapshot import HostView, JobView, Snapshot
from sollol_tui.model.states import JobState
from sollol_tui.trained import Trained

if TYPE_CHECKING:  # loaded by what needs it: a reading command starts without SSH and pydantic
    from sollol_tui.jobs.logs import LogChoice, LogLine, LogReader, Slot
    from sollol_tui.jobs.submit import Prepared
    from sollol_tui.jobs.survey import Survey
    from sollol_tui.model.diagnosis import Check, Examination
    from sollol_tui.model.metrics import StepPoint
    from sollol_tui.model.spec import JobSpec
    from sollol_tui.upkeep import Environment, Pruned, Step

T = TypeVar("T")


class SOLLOLClient(Drafting, Trained):
    """Reads and steers the cluster of one inventory. Safe to use from several threads, and from a
    notebook; where an event loop should go on meanwhile there is AsyncSOLLOLClient.

    Every method raises errors of `sollol_tui.model.errors`, whose text says what to do next."""

    def __init__(
        self,
        inventory: str | Path | None = None,
        *,
        home: Path | None = None,
        connect_timeout_s: float | None = None,
    ) -> None:
        """`connect_timeout_s` takes the place of every host's connect_timeout."""
        self.home: Home = open_home(home)
        self._inventory = InventoryFile(inventory, parsed=self.home.root / "inventories")
        self._connect_timeout_s = connect_timeout_s
        self._store = Store(self.home)
        self._lock = threading.RLock()
        self.revived = self.revive()
        """Jobs that had lost their supervisors, which were started again."""

    def close(self) -> None:
        with self._lock:
            self._store.close()

    def __enter__(self) -> "SOLLOLClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # the cluster

    def inventory(self) -> Inventory:
        """The inventory as its file says now, or said before an edit that cannot be read: then
        `inventory_problem` tells why. Raises InputError while there has been no good one."""
        with self._lock:
            inventory = self._inventory.read()
        if (limit_s := self._connect_timeout_s) is None:
            return inventory
        hosts = tuple(replace(host, connect_timeout_s=limit_s) for host in inventory.hosts)
        return replace(inventory, hosts=hosts)

    @property
    def inventory_problem(self) -> str:
        """Why `inventory` is older than its file, with line and column; empty when it is not."""
        with self._lock:
            return self._inventory.problem

    def snapshot(self) -> Snapshot:
        """Hosts and jobs as the state knows them; asks nobody."""
        with self._lock:
            snapshot = read_snapshot(self._store, self._inventory.read())
            return replace(snapshot, inventory_problem=self._inventory.problem)

    def state_version(self) -> int:
        """A number that grows when somebody has written the state."""
        with self._lock:
            return self._store.version()

    async def probe_hosts(
        self, patterns: Sequence[str] = (), *, timeout_s: float | None = None
    ) -> None:
        """Asks the hosts that the patterns mean, without any all of them, where nothing fresh is
        known, and stores their answers."""
        from sollol_tui.hosts.reading import take_reading
        from sollol_tui.jobs.probe import ask, note_readings, stale_hosts

        inventory = self.inventory()
        meant = names_meant(inventory, patterns)
        hosts = [h for h in stale_hosts(inventory, self.snapshot().hosts) if h.name in meant]
        limit_s = self._connect_timeout_s or timeout_s
        answers = await ask(self.home, hosts, take_reading, timeout_s=limit_s)
        with self._lock:
            note_readings(self._store, inventory, answers)

    async def provision_host(
        self, host: Host, report: "Callable[[Step], None]", *, recreate: bool = False
    ) -> "Environment":
        """Brings the training environment to one host; what is there stays, unless it is to be
        built anew."""
        from sollol_tui import upkeep

        async with upkeep.visit(host, self.inventory().packages, self._known_hosts) as site:
            return await upkeep.provision(site, report=report, recreate=recreate)

    async def preview_host(
        self, host: Host, report: "Callable[[Step], None]", *, recreate: bool = False
    ) -> bool:
        """Reports what `provision_host` would do; False when that is nothing. Touches nothing."""
        from sollol_tui import upkeep

        async with upkeep.visit(host, self.inventory().packages, self._known_hosts) as site:
            return await upkeep.preview(site, report=report, recreate=recreate)

    async def prune_host(self, host: Host, *, dry_run: bool = False) -> "Pruned":
        """Removes environments, payloads and wheels that no lock, run or process needs any more."""
        from sollol_tui import upkeep

        async with upkeep.visit(host, self.inventory().packages, self._known_hosts) as site:
            return await upkeep.prune(site, dry_run=dry_run)

    async def examine_hosts(
        self,
        hosts: Sequence[Host],
        report: "Callable[[str, Check], None]",
        *,
        network: Callable[[str], None] | None = None,
        fix: bool = False,
    ) -> "Examination":
        """The doctor: every stage of every host, told to `report` as it is done. `network` asks for
        the network between the hosts that pass, and hears of its progress. Only `fix` changes
        anything, and only what is safe."""
        from sollol_tui import upkeep

        examined = await upkeep.examine(
            self.inventory(), hosts, self._known_hosts, report, network=network, fix=fix
        )
        if examined.network is not None:  # the plans of later jobs stand on it
            from sollol_tui.jobs.measured import note_links

            with self._lock:
                note_links(self._store, self.inventory(), examined.network.links)
        return examined

    @property
    def _known_hosts(self) -> list[Path]:
        return [self.home.known_hosts]

    def list_nodes(self, patterns: Sequence[str] = ()) -> list[HostView]:
        """The hosts of the inventory, or those that the patterns mean, asked now. Raises
        NotFoundError for a pattern that fits no host."""
        _run(self.probe_hosts(patterns))
        meant = names_meant(self.inventory(), patterns)
        return [host for host in self.snapshot().hosts if host.name in meant]

    # jobs

    async def prepare_job(
        self,
        spec: "JobSpec | Mapping[str, Any]",
        *,
        queue: bool = True,
        resume: str | None = None,
        survey: "Survey | None" = None,
    ) -> "Prepared":
        """Checks and plans a job without starting anything; it begins at another job's checkpoint
        when `resume` names one, as JOB or JOB:STEP. A `survey` knows what earlier drafts asked.
        Raises NoWorkersError when it cannot have its workers now and may not `queue` for them."""
        from sollol_tui.jobs.submit import prepare
        from sollol_tui.model.spec import JobSpec

        if not isinstance(spec, JobSpec):
            from sollol_tui.model.job_file import spec_from_data

            spec = spec_from_data(spec)
        inventory, folder = self.inventory(), Path.cwd()
        return await prepare(
            self._store, spec, inventory, folder, may_wait=queue, resume=resume, survey=survey
        )

    def start_job(self, prepared: "Prepared") -> JobView:
        """Submits what was prepared. Raises NoWorkersError when its hosts were taken meanwhile and
        it may not queue."""
        from sollol_tui.jobs.submit import submit

        with self._lock:
            return read_job(self._store, submit(self._store, prepared))

    def submit_job(self, spec: "JobSpec | Mapping[str, Any]", *, queue: bool = True) -> JobView:
        """Checks, plans and starts a job, or puts it into the queue; returns at once, the job runs
        on its own."""
        return self.start_job(_run(self.prepare_job(spec, queue=queue)))

    def rerun_job(
        self,
        job_id: str,
        changes: Mapping[str, Any] | None = None,
        *,
        checkpoint: "int | Literal['newest'] | None" = None,
        queue: bool = True,
    ) -> JobView:
        """Starts a new job from what was asked for in an old one, with `changes` (keys as in a job
        file), at one of its checkpoints where one is named."""
        from sollol_tui.model.job_file import changed

        spec = changed(self.job_spec(job_id), changes or {})
        resume = None if checkpoint is None else f"{job_id}:{checkpoint}"
        return self.start_job(_run(self.prepare_job(spec, queue=queue, resume=resume)))

    def list_jobs(
        self, limit: int | None = None, *, states: Collection[JobState | str] = ()
    ) -> list[JobView]:
        """All jobs, or the newest `limit` of them; newest first. Only those in one of the `states`,
        if any. Raises NotFoundError when there is no such state."""
        known = [state.value for state in JobState]
        for state in states:
            if state not in known:
                raise not_found("no state", state, known)
        with self._lock:
            return list(read_jobs(self._store, limit, states=[*map(JobState, states)]))

    def get_job_status(self, job_id: str) -> JobView:
        with self._lock:
            return read_job(self._store, self._store.find_job(job_id))

    def cancel_job(self, job_id: str, *, now: bool = False) -> None:
        """Asks the job to stop after a checkpoint, or at once. It is over when its state says so.
        Raises JobError when it has ended already."""
        from sollol_tui.jobs import requests

        with self._lock:
            requests.ask_to_cancel(self._store, self._store.find_job(job_id), now=now)
            revive(self._store)

    def pause_job(self, job_id: str) -> None:
        """Asks the job to save a checkpoint and let go of its workers. It has when its state says
        paused. Raises JobError when it ends or has ended."""
        from sollol_tui.jobs import requests

        with self._lock:
            requests.ask_to_pause(self._store, self._store.find_job(job_id))
            revive(self._store)

    def join_job(self, job_id: str, host: str | None = None) -> list[str]:
        """Asks that hosts take part in a job that runs: those of the pattern `host`, or the
        coordinator; returns those. They do when the job's workers say so. Raises JobError when they
        do already, or when nothing of the job runs."""
        from sollol_tui.jobs import requests

        inventory = self.inventory()
        with self._lock:
            job = self._store.find_job(job_id)
            asked = requests.ask_to_join(self._store, job, inventory, host)
            revive(self._store)
        return asked

    def leave_job(self, job_id: str, host: str | None = None) -> list[str]:
        """Asks that hosts leave a job that runs: those of the pattern `host`, or the coordinator;
        returns those. The others go on. Raises JobError when nobody would be left."""
        from sollol_tui.jobs import requests

        inventory = self.inventory()
        with self._lock:
            job = self._store.find_job(job_id)
            asked = requests.ask_to_leave(self._store, job, inventory, host)
            revive(self._store)
        return asked

    def resume_job(self, job_id: str, *, workers: str | None = None) -> None:
        """Lets a paused job go on at the sample where it stopped, as soon as its workers are free:
        those that it had, or those of the pattern. One that is pausing is waited for. Raises
        JobError when it is not paused."""
        from sollol_tui.jobs import requests

        if self.is_pausing(job_id):
            self.wait(job_id, "paused")
        inventory = self.inventory()
        with self._lock:
            requests.resume(self._store, self._store.find_job(job_id), inventory, workers)
            revive(self._store)

    def is_pausing(self, job_id: str) -> bool:
        """Whether the job was asked to pause and has not come to it yet."""
        with self._lock:
            job = self._store.find_job(job_id)
            asked = "pause" in self._store.open_requests(job)
            return asked or self._store.job(job).state is JobState.PAUSING

    def wait(self, job_id: str, wanted: str = "done", *, timeout_s: float | None = None) -> JobView:
        """Returns the job once it is running, paused, done or at step=N, as `wanted`. Raises
        JobError when it ended otherwise, and WaitError after `timeout_s`."""
        from sollol_tui.awaited import until

        return _run(until(self, job_id, wanted, timeout_s=timeout_s))

    def logs(
        self,
        job_id: str,
        *,
        host: str | None = None,
        slot: "Slot | None" = None,
        since: float | None = None,
        grep: str | None = None,
        follow: bool = False,
    ) -> "Iterator[LogLine]":
        """The lines of all ranks' logs: of one host, of one slot (or "agent", "supervisor"), those
        that came at a time (as of time.time()) or later, those in which a regular expression is
        found; with `follow` until the job ends."""
        from sollol_tui.awaited import log_lines
        from sollol_tui.blocking import iterate
        from sollol_tui.jobs.logs import LogChoice

        choice = LogChoice.of(host=host, slot=slot, since=since, grep=grep)
        return iterate(log_lines(self, job_id, choice, follow=follow))

    def open_logs(
        self, job_id: str, choice: "LogChoice | None" = None, *, tail_bytes: int | None = None
    ) -> "LogReader":
        """A reader of the job's merged logs, from their beginning or near their end. Raises
        NotFoundError when the job has no such host or slot."""
        from sollol_tui.jobs.logs import EVERYTHING, LogReader

        view, choice = self.get_job_status(job_id), choice or EVERYTHING
        folder = self.home.job(view.id)
        choice.check(view, folder)
        return LogReader(folder, choice, tail_bytes=tail_bytes)

    def events(self, job_id: str, *kinds: str) -> list[EventRecord]:
        """What the job's workers said so far, in the order in which it was heard."""
        return self.events_after(job_id, 0, kinds)

    def events_after(self, job_id: str, number: int, kinds: Sequence[str]) -> list[EventRecord]:
        """What was heard after the event of that number; only these `kinds` if any."""
        with self._lock:
            return read_events(self._store, self._store.find_job(job_id), kinds, after=number)

    def follow_events(self, job_id: str, *kinds: str) -> Iterator[EventRecord]:
        """What the job's workers said and say, until it has ended."""
        from sollol_tui.awaited import event_records
        from sollol_tui.blocking import iterate

        return iterate(event_records(self, job_id, kinds, follow=True))

    def metrics(self, job_id: str, *, follow: bool = False) -> "Iterator[StepPoint]":
        """Loss, speed and the like of each step that was told; with `follow` until the job ends."""
        from sollol_tui.awaited import metric_points
        from sollol_tui.blocking import iterate

        return iterate(metric_points(self, job_id, follow=follow))

    def revive(self) -> list[str]:
        """Restarts the supervisors of live jobs that have lost theirs; returns those jobs."""
        with self._lock:
            return revive(self._store)

    def newest_job(self) -> JobView:
        """The newest job, ended or not. Raises NotFoundError when there is none."""
        if newest := self.list_jobs(1):
            return newest[0]
        raise NotFoundError("there is no job yet", remedy="start one with: sollol train")

    def newest_live_job(self) -> JobView:
        """The newest job that has not ended. Raises NotFoundError when there is none."""
        for job in self.list_jobs():
            if not job.state.is_terminal:
                return job
        raise NotFoundError("no job is running", remedy="start one with: sollol train")


def _run(work: Coroutine[Any, Any, T]) -> T:
    from sollol_tui.blocking import run

    return run(work)
