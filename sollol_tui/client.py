"""The Python API, and what the command line and the screens stand on: one object per inventory.

from sollol_tui import SOLLOLClient
client = SOLLOLClient()
job = client.submit_job({"model": "./model", "dataset": "rows.jsonl", "workers": "2"})
client.get_job_status(job["id"])["loss"]
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from sollol_tui.hosts.doctor import Expectations, diagnose_all
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.network import examine_network
from sollol_tui.hosts.preview import preview
from sollol_tui.hosts.provision import Step, provision
from sollol_tui.hosts.prune import Pruned, prune
from sollol_tui.hosts.reading import take_reading
from sollol_tui.hosts.ssh import connect
from sollol_tui.inventories import InventoryFile
from sollol_tui.jobs import requests
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.logs import LogReader
from sollol_tui.jobs.planner import MIN_DISK, accelerator_of
from sollol_tui.jobs.probe import ask, note_readings, stale_hosts
from sollol_tui.jobs.records import EventRecord, load
from sollol_tui.jobs.results import collect, worker_with_result
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.submit import Prepared, prepare, submit
from sollol_tui.jobs.supervise import revive
from sollol_tui.jobs.view import read_evaluations, read_job, read_jobs, read_snapshot
from sollol_tui.model.diagnosis import Check, Examination
from sollol_tui.model.errors import JobError, WaitError
from sollol_tui.model.goals import parse_goal
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.snapshot import EvaluationView, HostView, JobView, Snapshot
from sollol_tui.model.spec import JobSpec

T = TypeVar("T")
_POLL_S: Final = 0.25
_REVIVE_EVERY_S: Final = 3.0  # a killed supervisor is back before anybody misses it


class SOLLOLClient:
    """Reads and steers the cluster of one inventory. Safe to use from several threads.

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
        self._inventory = InventoryFile(inventory)
        self._connect_timeout_s = connect_timeout_s
        self._store = Store(self.home)
        self._lock = threading.RLock()
        self.revive()

    def close(self) -> None:
        with self._lock:
            self._store.close()

    # the cluster

    @property
    def inventory_file(self) -> Path:
        """Where the inventory is. Raises NotFoundError when there is none."""
        with self._lock:
            return self._inventory.path

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

    async def probe_hosts(self, *, timeout_s: float | None = None) -> None:
        """Asks the hosts of which nothing fresh is known, and stores their answers."""
        inventory = self.inventory()
        hosts = stale_hosts(inventory, self.snapshot().hosts)
        limit_s = self._connect_timeout_s or timeout_s
        answers = await ask(self.home, hosts, take_reading, timeout_s=limit_s)
        with self._lock:
            note_readings(self._store, inventory, answers)

    async def provision_host(
        self, host: Host, report: Callable[[Step], None], *, recreate: bool = False
    ) -> Environment:
        """Brings the training environment to one host; what is there stays, unless it is to be
        built anew."""
        async with connect(host, [self.home.known_hosts]) as connection:
            facts = await gather_facts(connection)
            return await provision(
                connection,
                facts,
                self.inventory().packages,
                accelerator=accelerator_of(host, facts),
                env=host.env,
                report=report,
                recreate=recreate,
            )

    async def preview_host(
        self, host: Host, report: Callable[[Step], None], *, recreate: bool = False
    ) -> bool:
        """Reports what `provision_host` would do; False when that is nothing. Touches nothing."""
        async with connect(host, [self.home.known_hosts]) as connection:
            facts = await gather_facts(connection)
            return await preview(
                connection,
                facts,
                self.inventory().packages,
                accelerator=accelerator_of(host, facts),
                env=host.env,
                report=report,
                recreate=recreate,
            )

    async def prune_host(self, host: Host, *, dry_run: bool = False) -> Pruned:
        """Removes environments, payloads and wheels that no lock, run or process needs any more."""
        async with connect(host, [self.home.known_hosts]) as connection:
            facts = await gather_facts(connection)
            return await prune(
                connection,
                facts,
                self.inventory().packages,
                accelerator=accelerator_of(host, facts),
                env=host.env,
                dry_run=dry_run,
            )

    async def examine_hosts(
        self,
        hosts: Sequence[Host],
        report: Callable[[str, Check], None],
        *,
        network: Callable[[str], None] | None = None,
        fix: bool = False,
    ) -> Examination:
        """The doctor: every stage of every host, told to `report` as it is done. `network` asks for
        the network between the hosts that pass, and hears of its progress. Only `fix` changes
        anything, and only what is safe."""
        inventory, known_hosts = self.inventory(), [self.home.known_hosts]
        expected = Expectations(
            known_hosts=known_hosts,
            packages=inventory.packages,
            accelerator_of=accelerator_of,
            disk_needed=MIN_DISK,
            fix=fix,
        )
        diagnoses = await diagnose_all(hosts, expected, report)
        passed = [
            (host, diagnosis.facts)
            for host, diagnosis in zip(hosts, diagnoses, strict=True)
            if diagnosis.facts is not None
        ]
        found = None
        if network is not None and len(passed) > 1:
            found = await examine_network(passed, inventory.network, known_hosts, network)
        return Examination(diagnoses=tuple(diagnoses), network=found)

    def list_nodes(self) -> list[HostView]:
        """The hosts of the inventory, asked now."""
        _run(self.probe_hosts())
        return list(self.snapshot().hosts)

    # jobs

    async def prepare_job(
        self, spec: JobSpec | Mapping[str, Any], *, queue: bool = True
    ) -> Prepared:
        """Checks and plans a job without starting anything. Raises NoWorkersError when it cannot
        have its workers now and may not `queue` for them."""
        if not isinstance(spec, JobSpec):
            from sollol_tui.model.job_file import spec_from_data

            spec = spec_from_data(spec)
        return await prepare(self._store, spec, self.inventory(), Path.cwd(), may_wait=queue)

    def start_job(self, prepared: Prepared) -> JobView:
        """Submits what was prepared. Raises NoWorkersError when its hosts were taken meanwhile and
        it may not queue."""
        with self._lock:
            return read_job(self._store, submit(self._store, prepared))

    def submit_job(self, spec: JobSpec | Mapping[str, Any], *, queue: bool = True) -> JobView:
        """Checks, plans and starts a job, or puts it into the queue; returns at once, the job runs
        on its own."""
        return self.start_job(_run(self.prepare_job(spec, queue=queue)))

    def list_jobs(self) -> list[JobView]:
        """All jobs, newest first."""
        with self._lock:
            return list(read_jobs(self._store))

    def get_job_status(self, job_id: str) -> JobView:
        with self._lock:
            return read_job(self._store, self._store.find_job(job_id))

    def cancel_job(self, job_id: str, *, now: bool = False) -> None:
        """Asks the job to stop after a checkpoint, or at once. It is over when its state says so.
        Raises JobError when it has ended already."""
        with self._lock:
            requests.ask_to_cancel(self._store, self._store.find_job(job_id), now=now)
            revive(self._store)

    def pause_job(self, job_id: str) -> None:
        """Asks the job to save a checkpoint and let go of its workers. It has when its state says
        paused. Raises JobError when it ends or has ended."""
        with self._lock:
            requests.ask_to_pause(self._store, self._store.find_job(job_id))
            revive(self._store)

    def resume_job(self, job_id: str, *, workers: str | None = None) -> None:
        """Lets a paused job go on at the sample where it stopped, as soon as its workers are free:
        those that it had, or those of the pattern. Raises JobError when it is not paused."""
        inventory = self.inventory()
        with self._lock:
            requests.resume(self._store, self._store.find_job(job_id), inventory, workers)
            revive(self._store)

    def wait_job(
        self, job_id: str, wanted: str = "done", *, timeout_s: float | None = None
    ) -> JobView:
        """Returns the job once it is running, paused, done or at step=N, as `wanted`. Raises
        JobError when it ended otherwise, and WaitError after `timeout_s`."""
        goal = parse_goal(wanted)
        began = revived_at = time.monotonic()
        while not goal.is_reached(view := self.get_job_status(job_id)):
            if goal.is_missed(view):
                why = f": {view.reason}" if view.reason else ""
                raise JobError(f"{view.id} is {view.state}{why}", remedy=f"sollol show {view.id}")
            now = time.monotonic()
            if timeout_s is not None and now - began > timeout_s:
                raise WaitError(
                    f"{view.id} is {view.state} and not {goal} after {timeout_s:g} s",
                    remedy="it goes on; wait longer, or see: sollol status",
                )
            if now - revived_at > _REVIVE_EVERY_S:
                self.revive()
                revived_at = now
            time.sleep(_POLL_S)
        return view

    def fetch(self, job_id: str) -> Path:
        """Brings the adapter of a job that has ended once more, and returns its folder. Raises
        NotFoundError when its training did not come to an end."""
        with self._lock:
            job = self._store.find_job(job_id)
            worker, record = worker_with_result(self._store, job), self._store.job(job)
        spec, wanted = load(JobSpec, record.spec), Path(record.output_dir)
        output = _run(collect(self.home, job, spec, worker, wanted))
        with self._lock:
            self._store.note_output(job, output)
        return output

    def open_logs(self, job_id: str, *, tail_bytes: int | None = None) -> LogReader:
        """A reader of the job's merged logs, from their beginning or near their end."""
        with self._lock:
            job = self._store.find_job(job_id)
        return LogReader(self.home.job(job), tail_bytes=tail_bytes)

    def events(self, job_id: str, *kinds: str) -> list[EventRecord]:
        """What the job's workers said, in the order in which it was heard."""
        with self._lock:
            return read_events(self._store, self._store.find_job(job_id), kinds)

    def evaluations(self, job_id: str) -> tuple[EvaluationView, ...]:
        """What the job's held-out rows (val_size) said, in the order of steps."""
        with self._lock:
            return read_evaluations(self._store, self._store.find_job(job_id))

    def revive(self) -> list[str]:
        """Restarts the supervisors of live jobs that have lost theirs; returns those jobs."""
        with self._lock:
            return revive(self._store)

    def newest_live_job(self) -> JobView:
        """The newest job that has not ended. Raises JobError when there is none."""
        for job in self.list_jobs():
            if not job.state.is_terminal:
                return job
        raise JobError("no job is running", remedy="start one with: sollol train")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also from inside a running event loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
