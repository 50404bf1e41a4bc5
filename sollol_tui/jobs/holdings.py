"""Who holds which checkpoint of a job: asked of its workers, looked up on this machine. Brings one
of them to where it is wanted, verified."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sollol_tui.hosts.fetch import fetch_tree
from sollol_tui.hosts.saved import Saved, damage_here, verify_here, verify_saved
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.transfer import Report, silent
from sollol_tui.jobs.checkpoints import PREFIX, kept_folder
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Place, Worker
from sollol_tui.model.checkpoints import CheckpointSurvey, CheckpointView, Holding, merge
from sollol_tui.model.errors import HostError, JobError, NotFoundError, SollolError, StateError
from sollol_tui.model.events import whole
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.names import COORDINATOR
from sollol_tui.model.plan import Plan, PlannedWorker

T = TypeVar("T")
RESULT: Final = "result"  # the folder that the job has left, in place of a worker's name
_NAMED: Final = 5  # checkpoints in a sentence about those that there are


def workers_of(store: Store, job: str) -> list[Worker]:
    """Every host on which the job ever had a place, those of its plan first."""
    record = store.job(job)
    planned = {worker.host: worker for worker in load(Plan, record.plan).workers}
    everyone = load(Inventory, record.inventory).with_coordinator()
    return [
        Worker(
            job=job,
            nonce=record.nonce,
            host=everyone.host(row.host),
            planned=planned.get(row.host) or _no_more_planned(row.host),
            home=store.home,
            say=lambda text: None,
            place=Place.from_data(row.environment),
        )
        for row in store.workers(job)
        if row.environment
    ]


async def ask_once(worker: Worker, act: Callable[[HostConnection], Awaitable[T]]) -> T:
    """Does something over a connection; a host that is out of reach is not waited for: people
    are. Raises HostError."""
    async with connect(worker.host, [worker.home.known_hosts]) as connection:
        return await act(connection)


def _no_more_planned(host: str) -> PlannedWorker:
    return PlannedWorker(host=host, address="", accelerator="cpu", ranks=(), share=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Where checkpoints of a job may lie: its workers, and folders of this machine by what they are
    called as a place. `told` maps steps to what the ranks said when they saved them: when that was
    heard, the samples learnt. `apart`: each worker has a student of its own."""

    job: str
    workers: tuple[Worker, ...]
    here: Mapping[str, Path]
    told: Mapping[int, tuple[float, int | None]]
    apart: bool

    @classmethod
    def of(cls, store: Store, job: str) -> "Holders":
        """The last that the state knows; asks nobody."""
        told = {
            step: (event.seen_at, whole(event.data.get("samples_done")))
            for event in read_events(store, job, ["checkpoint"])
            if (step := whole(event.data.get("step"))) is not None
        }
        return cls(
            job=job,
            workers=tuple(workers_of(store, job)),
            here={
                COORDINATOR: kept_folder(store.home, job),
                RESULT: Path(store.job(job).output_dir),
            },
            told=told,
            apart=load(Plan, store.job(job).plan).apart,
        )

    def of_host(self, host: str | None) -> "Holders":
        """That worker alone, or all where none is told and one's checkpoint is as good as
        another's. Raises JobError where it is not, and NotFoundError, which names the workers."""
        names = ", ".join(worker.host.name for worker in self.workers)
        if host is None:
            if self.apart and len(self.workers) > 1:
                raise JobError(
                    f"each student of {self.job} has checkpoints of its own, on its worker: "
                    f"{names}",
                    remedy=f"bring one here: sollol fetch {self.job} --checkpoint newest "
                    "--host HOST",
                )
            return self
        own = tuple(worker for worker in self.workers if worker.host.name == host)
        if not own:
            raise NotFoundError(
                f"{host} has had no part in {self.job}",
                remedy=f"its workers: {names}" if names else f"see: sollol show {self.job}",
            )
        return replace(self, workers=own, here={})

    async def survey(self) -> CheckpointSurvey:
        """Asks every worker of the job, and this machine. One that cannot be asked is told, and is
        no obstacle."""
        reasons: dict[str, str] = {}

        async def ask(worker: Worker) -> list[Holding]:
            try:
                saved = await ask_once(worker, partial(verify_saved, _place(worker)))
            except HostError as error:
                reasons[worker.host.name] = error.message
                return []
            return _held(worker.host.name, saved)

        async def look(place: str, folder: Path) -> list[Holding]:
            return _held(place, await verify_here(folder.glob(f"{PREFIX}*")))

        found = await asyncio.gather(
            *map(ask, self.workers), *(look(*each) for each in self.here.items())
        )
        return merge(self.job, [each for held in found for each in held], self.told, reasons)

    async def bring(
        self,
        chosen: CheckpointView,
        part: Path,
        publish: Callable[[Path], Path],
        report: Report = silent,
    ) -> Path:
        """Puts a checkpoint together in `part`, verified, and gives it to `publish`; from this
        machine where it has it, else from the first worker that can give it."""
        name = f"{PREFIX}{chosen.step}"
        for place, folder in self.here.items():
            if place in chosen.whole_at:
                return await asyncio.to_thread(_copy, folder / name, part, publish)
        failed: SollolError = NotFoundError(f"{self.job} has no {name} any more")
        for worker in self.workers:
            if worker.host.name not in chosen.whole_at:
                continue
            source = f"{_place(worker)}/{name}"
            try:
                return await worker.over_ssh(
                    partial(_fetch, source, part=part, publish=publish, report=report)
                )
            except HostError as error:
                failed = error
        raise failed


def choose(found: CheckpointSurvey, step: int | None) -> CheckpointView:
    """The checkpoint of that step, or the newest, that somebody holds whole. Raises NotFoundError,
    which names those that there are."""
    sound = [each for each in found.checkpoints if each.whole_at]
    chosen = next((each for each in sound if step in (None, each.step)), None)
    if chosen is not None:
        return chosen
    what = "checkpoint" if step is None else f"{PREFIX}{step}"
    silent = "; ".join(f"{host}: {reason}" for host, reason in found.silent.items())
    listed = ", ".join(str(each.step) for each in sound[:_NAMED])
    raise NotFoundError(
        f"{found.job} has no {what}{f' on a host that answers ({silent})' if silent else ''}",
        remedy=f"there are: {listed}" if listed else f"see: sollol show {found.job}",
    )


def _place(worker: Worker) -> str:
    return f"{worker.run_dir}/checkpoints"


def _held(place: str, saved: list[Saved]) -> list[Holding]:
    return [
        Holding(place=place, step=each.step, at=each.at, size_bytes=each.size, damage=each.damage)
        for each in saved
    ]


async def _fetch(
    source: str,
    connection: HostConnection,
    *,
    part: Path,
    publish: Callable[[Path], Path],
    report: Report,
) -> Path:
    return await fetch_tree(connection, source, part, publish=publish, report=report)


def _copy(source: Path, part: Path, publish: Callable[[Path], Path]) -> Path:
    """A copy of a checkpoint of this machine, read once more before it is published."""
    named = part / source.name  # it is verified under its name
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, named)
        if damage := damage_here(named):
            raise StateError(f"{source} cannot be copied: {damage}", remedy="try again")
        return publish(named)
    except shutil.Error as error:  # several at once, each with its reason
        raise StateError(f"{source} cannot be copied: {error.args[0][0][2]}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
