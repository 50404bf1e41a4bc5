"""What people ask of a job: to pause, to go on, to end. Each is one transaction, and the same asked
twice is asked once. What runs is changed by its supervisor alone."""

from dataclasses import replace

from sollol_tui.jobs.planner import any_device
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState


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
            remedy = f"wait for it: sollol wait {job} --for paused"
            raise JobError(
                f"{job} is {record.state}, not paused",
                remedy=remedy if record.state is JobState.PAUSING else "",
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
        store.note_wish(job, spec=spec, inventory=inventory, same_hosts=hosts)
        store.move_job(job, JobState.QUEUED, "waits for its turn")
        store.leases.claim(job, [any_device(host) for host in candidates])


def resting_place(store: Store, job: str) -> str:
    """ "at step 57": where a paused job goes on."""
    step = store.step(job)
    return f"at step {step}" if step else "before its first step"
