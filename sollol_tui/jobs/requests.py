"""What people ask of a job: to pause, to go on, to end, to take a host in or let one go. Each is
one transaction, and the same asked twice is asked once. Its supervisor alone changes what runs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sollol_tui.jobs.planner import any_device
from sollol_tui.jobs.records import load
from sollol_tui.jobs.recovery import AWAY
from sollol_tui.jobs.roster import forgive, membership_requests, settle
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import matching, select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState, WorkerState

_NOT_YET: Final = (JobState.QUEUED, JobState.PAUSED)
_ENDING: Final = (JobState.PAUSING, JobState.STOPPING, JobState.FINISHING)


def ask_to_pause(store: Store, job: str) -> None:
    """A job that waits rests at once; one that runs saves a checkpoint first. Raises JobError for
    one that ends or has ended."""
    with store.transaction():
        state = store.job(job).state
        if state in (JobState.STOPPING, JobState.FINISHING):
            raise JobError(f"{job} is {state} already", remedy=f"see: sollol show {job}")
        if state is JobState.QUEUED:
            store.move_job(job, JobState.PAUSED, resting_place(store, job))
        elif state is not JobState.PAUSED:
            store.add_request(job, "pause")


def ask_to_cancel(store: Store, job: str, *, now: bool) -> None:
    """A job of which nothing runs ends at once; another one after a checkpoint, or without one when
    it has to be `now`. Raises JobError for one that has ended."""
    with store.transaction():
        if store.job(job).state in (JobState.QUEUED, JobState.PAUSED):
            store.move_job(job, JobState.CANCELLED)
        else:
            store.add_request(job, "kill" if now else "cancel")


def resume(store: Store, job: str, inventory: Inventory, workers: str | None) -> None:
    """Puts a paused job into the queue, to go on with the workers that it had, or with those that
    the pattern names. Raises JobError when it is not paused, NotFoundError for a wrong pattern."""
    with store.transaction():
        record = store.job(job)
        if record.state is not JobState.PAUSED:
            raise JobError(
                f"{job} is {record.state}, not paused", remedy=_instead(job, record.state)
            )
        spec = load(JobSpec, record.spec)
        hosts = record.same_hosts or tuple(w.host for w in load(Plan, record.plan).workers)
        everyone = inventory.with_coordinator()
        if workers is not None:
            spec = replace(spec, workers=workers)
            candidates = [host.name for host in select(everyone, workers).hosts]
            hosts = ()
        elif record.generation == 0:  # it never ran: its pattern says which
            candidates = [host.name for host in select(everyone, spec.workers).hosts]
            hosts = ()
        else:
            candidates = list(hosts)
            if not {host.name for host in everyone.hosts} >= set(hosts):
                inventory = load(Inventory, record.inventory)
        inventory = _with_former(inventory, load(Inventory, record.inventory))
        store.note_wish(job, spec=spec, inventory=inventory, same_hosts=hosts)
        store.move_job(job, JobState.QUEUED, "waits for its turn")
        store.leases.claim(job, [any_device(host) for host in candidates])


def _with_former(inventory: Inventory, former: Inventory) -> Inventory:
    """With the hosts that the file had when the job was planned before: what lies there is the
    job's, and has to be found when it ends. No pattern means them any more."""
    names = {host.name for host in inventory.hosts}
    gone = (replace(host, enabled=False) for host in former.hosts if host.name not in names)
    return replace(inventory, hosts=(*inventory.hosts, *gone))


def ask_to_join(store: Store, job: str, inventory: Inventory, pattern: str | None) -> list[str]:
    """Asks that hosts take part in a job that runs: those of the pattern, or the coordinator.
    Returns those that do not yet; a leave that has not begun is forgotten. Raises JobError, and
    NotFoundError for a wrong pattern."""
    hosts = [inventory.coordinator] if pattern is None else _named(inventory, pattern)
    with store.transaction():
        record = store.job(job)
        _check_running(job, record.state)
        present = _present(store, job)
        asked = {request.host: request.kind for request in membership_requests(store, job)}
        takes_part = {
            n for n, state in present.items() if state not in (*AWAY, WorkerState.LEAVING)
        }
        wanted = [host for host in hosts if host.name not in takes_part or host.name in asked]
        if not wanted:
            names = ", ".join(host.name for host in hosts)
            raise JobError(
                f"{names} take{'s' * (len(hosts) == 1)} part in {job} already",
                remedy=f"see: sollol show {job}",
            )
        known = load(Inventory, record.inventory)
        others = [h for h in known.hosts if h.name not in {host.name for host in wanted}]
        _note_inventory(store, job, replace(known, hosts=(*others, *wanted)))
        for host in wanted:
            if asked.get(host.name) == "leave":
                settle(store, job, "leave", host.name)
            forgive(store, job, host.name)
            if host.name not in takes_part:
                store.add_request(job, "join", host.name)
    return [host.name for host in wanted]


def ask_to_leave(store: Store, job: str, inventory: Inventory, pattern: str | None) -> list[str]:
    """Asks that hosts leave a job that runs: those of the pattern, or the coordinator. Returns
    those; a join that has not come to its end is forgotten. Raises JobError, also when nobody would
    be left to go on, and NotFoundError for a wrong pattern."""
    with store.transaction():
        record = store.job(job)
        _check_running(job, record.state)
        everyone = load(Inventory, record.inventory).with_coordinator()
        names = (
            [inventory.coordinator.name]
            if pattern is None
            else [host.name for host in matching(everyone, pattern)]
        )
        present = _present(store, job)
        asked = {request.host: request.kind for request in membership_requests(store, job)}
        leaving = [name for name in names if name in present or name in asked]
        if not leaving:
            raise JobError(
                f"{', '.join(names)} take{'s' * (len(names) == 1)} no part in {job}",
                remedy=f"its workers are {', '.join(present)}",
            )
        stay = {
            name
            for name, state in present.items()
            if state not in AWAY and name not in leaving and asked.get(name) != "leave"
        }
        if not stay:
            raise JobError(
                f"{job} would have no worker without {', '.join(leaving)}",
                remedy=f"pause or cancel it: sollol pause {job}, sollol cancel {job}",
            )
        for name in leaving:
            if asked.get(name) == "join":
                settle(store, job, "join", name)
            if name in present:
                store.add_request(job, "leave", name)
    return leaving


def _named(inventory: Inventory, pattern: str) -> list[Host]:
    if pattern.strip().isdecimal():
        raise JobError(f"'{pattern}' does not say which hosts", remedy="name them, or a group")
    return list(select(inventory, pattern).hosts)


def _instead(job: str, state: JobState) -> str:
    """What somebody may want who resumes a job that is not paused."""
    if state is JobState.PAUSING:
        return f"wait for it: sollol wait {job} --for paused"
    if state.is_terminal:
        return f"run it once more: sollol rerun {job}"
    return f"follow it: sollol attach {job}"


def _check_running(job: str, state: JobState) -> None:
    if state in _NOT_YET:
        remedy = f"choose its workers when it goes on: sollol resume {job} --workers PATTERN"
        if state is JobState.QUEUED:
            remedy = "wait until it runs, or cancel it and train with other workers"
        raise JobError(
            f"{job} is {state}: nothing of it runs that a host could join", remedy=remedy
        )
    if state in _ENDING or state.is_terminal:
        raise JobError(f"{job} is {state} already", remedy=f"see: sollol show {job}")


def _present(store: Store, job: str) -> Mapping[str, WorkerState]:
    """Who takes part or may come back to it, by name."""
    planned = {worker.host for worker in load(Plan, store.job(job).plan).workers}
    return {
        worker.host: worker.state
        for worker in store.workers(job)
        if worker.state is not WorkerState.GONE and (worker.host in planned or worker.state in AWAY)
    }


def _note_inventory(store: Store, job: str, inventory: Inventory) -> None:
    record = store.job(job)
    spec = load(JobSpec, record.spec)
    store.note_wish(job, spec=spec, inventory=inventory, same_hosts=record.same_hosts)


def resting_place(store: Store, job: str) -> str:
    """ "at step 57": where a paused job goes on."""
    step = store.step(job)
    return f"at step {step}" if step else "before its first step"
