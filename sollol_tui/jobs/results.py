"""Brings a finished job's adapter, or one of a job's checkpoints, to a folder of this machine and
lays beside it what explains it."""

import os
import shutil
from functools import partial
from pathlib import Path

from sollol_tui.hosts.fetch import fetch_tree
from sollol_tui.hosts.ssh import connect
from sollol_tui.hosts.transfer import Report, silent
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.holdings import Holders, choose
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.output import JOB_FILE, chosen_place, part_of, publish
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Place, Worker
from sollol_tui.model.errors import JobError, NotFoundError, StateError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec


async def collect(
    home: Home,
    job: str,
    spec: JobSpec,
    worker: Worker,
    output: Path,
    report: Report = silent,
) -> Path:
    """Fetches the result from `worker` into `output`, verified, with the resolved job.yaml and the
    logs of all ranks, and returns its path: another one beside `output` when that holds something
    else by now. It appears there whole, or not at all. Raises HostError and StateError."""
    assert worker.place is not None
    try:
        async with connect(worker.host, [home.known_hosts]) as connection:
            return await fetch_tree(
                connection,
                f"{worker.place.run_dir}/result",
                part_of(output, job),
                publish=partial(_publish, home, job, spec, output),
                report=report,
            )
    except (OSError, ValueError) as error:
        raise _no_place("the adapter", output, error, f"sollol fetch {job}") from error


async def fetch_adapter(store: Store, job: str, to: str | None, report: Report = silent) -> Path:
    """Brings the adapter of a job that has ended into the folder `to`, else to where the job put it
    when it was done; returns where it is. Raises NotFoundError when there is none."""
    worker, record = worker_with_result(store, job), store.job(job)
    output = Path(record.output_dir) if to is None else chosen_place(to, Path.cwd(), job)
    spec = load(JobSpec, record.spec)
    place = await collect(store.home, job, spec, worker, output, report)
    if to is None:
        store.note_output(job, place)
    return place


async def fetch_checkpoint(
    store: Store,
    job: str,
    step: int | None,
    to: str | None,
    report: Report = silent,
    *,
    host: str | None = None,
) -> Path:
    """Brings a checkpoint, the newest when no `step` is told, verified and with the resolved
    job.yaml, into the folder `to`, else beside the job's output_dir; returns where it is. Only that
    of `host`, where one is told: of students who learn apart each has its own. Raises JobError
    where it has to be told, NotFoundError, HostError and StateError."""
    holders, record = Holders.of(store, job).of_host(host), store.job(job)
    spec, beside = load(JobSpec, record.spec), Path(record.output_dir)
    chosen = choose(await holders.survey(), step)
    name = f"{f'{host}-' if host else ''}checkpoint-{chosen.step}"
    owned_by = f"{job}-{name}"
    output = beside.with_name(f"{beside.name}-{name}")
    output = chosen_place(str(output) if to is None else to, Path.cwd(), owned_by)

    def put(part: Path) -> Path:
        write_job_file(part / JOB_FILE, owned_by, spec)
        return publish(part, output, owned_by)

    try:
        return await holders.bring(chosen, part_of(output, owned_by), put, report)
    except (OSError, ValueError) as error:
        of_host = f" --host {host}" if host else ""
        again = f"sollol fetch {job} --checkpoint {chosen.step}{of_host}"
        raise _no_place(name, output, error, again) from error


def _no_place(what: str, output: Path, error: Exception, again: str) -> StateError:
    reason = getattr(error, "strerror", None) or str(error)
    return StateError(
        f"{what} cannot be put into {output}: {reason}", remedy=f"make that possible, then: {again}"
    )


def _publish(home: Home, job: str, spec: JobSpec, output: Path, part: Path) -> Path:
    write_job_file(part / JOB_FILE, job, spec)
    for path in sorted(home.job(job).glob("*/log.*")):
        target = part / "logs" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return publish(part, output, job)


def write_job_file(file: Path, job: str, spec: JobSpec) -> None:
    """The spec as a job file; its first line says whose folder it marks."""
    from ruamel.yaml import YAML

    with file.open("w", encoding="utf-8") as opened:
        opened.write(f"# {job}\n")
        YAML(typ="safe", pure=True).dump(spec.as_data(), opened)
        opened.flush()
        os.fsync(opened.fileno())


def worker_with_result(store: Store, job: str) -> Worker:
    """The worker on which a job that has ended has left its result. Raises NotFoundError when there
    is none, and JobError while the job's supervisor will fetch it."""
    record = store.job(job)
    plan = load(Plan, record.plan)
    places = {worker.host: worker.environment for worker in store.workers(job)}
    left_on = {
        event.host for event in read_events(store, job, ["finished"]) if event.data.get("result")
    }
    planned = next((worker for worker in plan.workers if worker.host in left_on), None)
    place = places.get(planned.host) if planned else None
    if planned is None or place is None:
        if record.state.is_terminal:
            raise NotFoundError(
                f"{job} has no result: its training did not come to an end",
                remedy=f"see: sollol show {job}",
            )
        raise NotFoundError(
            f"{job} has no result yet, it is {record.state}",
            remedy=f"it brings its adapter by itself; before: sollol fetch {job} "
            "--checkpoint newest",
        )
    if not record.state.is_terminal:
        raise JobError(
            f"{job} is {record.state} and brings its adapter by itself",
            remedy=f"follow it: sollol attach {job}",
        )
    return Worker(
        job=job,
        nonce=record.nonce,
        host=load(Inventory, record.inventory).with_coordinator().host(planned.host),
        planned=planned,
        home=store.home,
        say=lambda text: None,
        place=Place.from_data(place),
    )
