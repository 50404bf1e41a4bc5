"""The run of a job's teacher on one of its hosts: prepared, launched or adopted, heard and stopped.
What comes of its shards and answers is decided elsewhere."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as File
from typing import Any, Final

from sollol_tui.jobs import teacher_rows
from sollol_tui.jobs.delivery import delivery
from sollol_tui.jobs.events import note, read_events
from sollol_tui.jobs.new_lines import NewLines
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.records import JobRecord, load
from sollol_tui.jobs.runfile import run_file, teacher_run_file
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import Place, Worker
from sollol_tui.model.errors import HostError, UnsuitableError
from sollol_tui.model.events import Event
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.plan import Plan, PlannedRank, PlannedWorker
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.teacher import PlannedTeacher, TeacherHost
from sollol_tui.model.text import clean

log = logging.getLogger("sollol.supervisor")
SILENCED_S: Final = 30.0  # how long what is killed may take
CRASHES: Final = 3  # without a shard in between, after which the teacher is given up
_TOLD_CHARS: Final = 500  # of one sentence


def as_worker(host: TeacherHost) -> PlannedWorker:
    """A teacher's host as one rank of its own."""
    return PlannedWorker(
        host=host.host,
        address=host.address,
        accelerator=host.accelerator,
        ranks=(PlannedRank(slot=0, gpu=host.gpu),),
        share=0.0,
        cpu_cores=host.cpu_cores,
        ram_gb=host.ram_gb,
    )


def teaching_workers(
    store: Store, record: JobRecord, say: Callable[[str, str], None]
) -> list[Worker]:
    """The hosts of the job's teacher, as far as something was ever prepared there."""
    teacher = load(Plan, record.plan).teacher
    return [
        _teaching_worker(store, record, as_worker(host), say)
        for host in (teacher.hosts if teacher else ())
    ]


def former_teachers(
    store: Store, record: JobRecord, say: Callable[[str, str], None]
) -> list[Worker]:
    """Hosts on which something was prepared, and which the plan leaves out by now: what is left of
    the teacher's run there is known from nowhere else."""
    teacher = load(Plan, record.plan).teacher
    planned = {host.host for host in teacher.hosts} if teacher else set[str]()
    return [
        _teaching_worker(
            store,
            record,
            PlannedWorker(host=name, address="", accelerator="cpu", ranks=(), share=0.0),
            say,
        )
        for name in teacher_rows.prepared(store, record.id)
        if name not in planned
    ]


def _teaching_worker(
    store: Store, record: JobRecord, planned: PlannedWorker, say: Callable[[str, str], None]
) -> Worker:
    place = teacher_rows.prepared(store, record.id).get(planned.host)
    return Worker(
        job=record.id,
        nonce=record.nonce,
        host=load(Inventory, record.inventory).with_coordinator().host(planned.host),
        planned=planned,
        home=store.home,
        say=lambda text: say(planned.host, text),
        place=Place.from_data(place) if place else None,
        role=".teacher",
    )


@dataclass(slots=True, kw_only=True)
class PartFigures:
    """Tokens of one part; `hits` of them were found in a cache."""

    total: int = 0
    done: int = 0
    hits: int = 0


@dataclass(slots=True, kw_only=True)
class TeacherRun:
    """`hear` gets each event once. `launching` is held while the agent is started."""

    store: Store
    worker: Worker
    plan: Plan
    spec: JobSpec
    inventory: Inventory
    secrets: Mapping[str, str]
    launching: asyncio.Lock
    hear: Callable[[Event], None]
    finished: Event | None = None
    failure: Failure | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _new: NewLines = field(default_factory=NewLines)
    unseen: bool = False
    _launch: int = 0
    _may_run: bool = True
    _parts: dict[int, PartFigures] = field(default_factory=dict)
    _told: PartFigures = field(default_factory=PartFigures)

    @property
    def host(self) -> TeacherHost:
        [found] = [h for h in self.teacher.hosts if h.host == self.worker.host.name]
        return found

    @property
    def teacher(self) -> PlannedTeacher:
        assert self.plan.teacher is not None
        return self.plan.teacher

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was heard here."""
        return self._new.has_read

    async def prepare(self) -> None:
        """Brings to the host what the teacher needs. Raises HostError."""
        self.note(state="provisioning", reason="")
        place = await self.worker.prepare(
            self.inventory.packages, self.plan.dataset, self.teacher.lesson.model
        )
        self.unseen = False
        found, known = _content(self.teacher.lesson.model, place.model), self.teacher.content
        if found and known and found != known:
            raise UnsuitableError(
                self.worker.host.name,
                f"the teacher in {self.teacher.lesson.model} is not the one it was",
                remedy="put that back, or submit another job",
            )
        self.note(environment=json.dumps(place.as_data()))

    async def launch(self, part: int = 0, parts: int = 1) -> None:
        """Starts the agent for a part of the work, or adopts that of an earlier try. Raises
        HostError."""
        worker, place = self.worker, self.worker.place
        assert place is not None
        delivered = delivery(worker.home, worker.job)
        student = await worker.over_ssh(
            lambda connection: delivered.bring_tokenizer(
                connection, worker.workdir, place.environment, self.spec.model, worker.say
            )
        )
        alone = Plan(
            workers=(worker.planned,),
            engine="static",
            global_batch=self.plan.global_batch,
            max_steps=0,
            rows=0,
            dataset=self.plan.dataset,
            ports=self.plan.ports,
            left_out={},
        )
        run = run_file(
            job=worker.job,
            nonce=worker.nonce,
            spec=self.spec,
            plan=alone,
            host=worker.host,
            place=Place(
                environment=place.environment,
                run_dir=place.run_dir,
                dataset=place.dataset,
                model=student,
            ),
            generation=self.launches,
            main_port=0,
        )
        run = teacher_run_file(
            run, self.spec, self.teacher, self.host, place.model, self.launches, (part, parts)
        )
        self.note(state="loading", reason="")
        async with self.launching:
            self._may_run = True
            await worker.launch(run, dict(self.secrets))

    @property
    def launches(self) -> int:
        """Which launch of it this is; another one follows only when this is known to be over."""
        if self._launch:
            return self._launch
        self._launch = teacher_rows.launch_of(self.store, *self._row)
        return self._launch

    def give_up_launch(self) -> None:
        """The run of this launch is over; the next one is another. A host on which it came to its
        end, or where nothing of it was found, need not be asked when the job ends."""
        if self.finished is not None or not self._may_run:
            self.worker.place = None
        self.note(launch=self.launches + 1)
        self._launch += 1
        self.finished = self.failure = None
        self.over.clear()

    async def silence(self) -> None:
        """Returns once nothing of it runs there, however long its host is out of sight."""
        while self.worker.place is not None and self._may_run:
            quiet = replace(self.worker, say=partial(log.debug, "%s: %s", self.worker.host.name))
            problem = await quiet.stop("kill", SILENCED_S, asyncio.Event())
            self._may_run = bool(problem)
            if problem:
                log.warning("%s", problem)
            else:
                self.give_up_launch()

    async def follow(self) -> None:
        """Hears the run to its end, however long its host is out of sight. Raises RunFailedError
        where a new start would end the same way, and HostError where it ended without a reason."""
        self.worker.copies.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self.worker.copies.glob("events.*")):
            self._on_data(self.worker.host.name, path.name, path)
        await self.worker.watch_until(self.over, self._on_data, self._on_seen)
        if self.finished is not None:
            return
        if self.failure is not None and self.failure.foreseen:
            raise RunFailedError(self.failure)
        reason = self.failure.reason if self.failure else "it was killed, or its host restarted"
        raise HostError(self.worker.host.name, f"the teacher's run ended: {reason}")

    def note(self, **values: Any) -> None:
        """Sets columns of its row."""
        teacher_rows.note_teacher(self.store, *self._row, **values)

    def tell(self, event: Event) -> None:
        """What it has to say is a notice of the job, once: its files are read again by each
        supervisor, and it says the same in each launch."""
        host, told = self.worker.host.name, clean(event.text("message"), limit=_TOLD_CHARS)
        known = read_events(self.store, self.worker.job, ["notice"])
        if all((each.host, each.data.get("message")) != (host, told) for each in known):
            note(self.store, self.worker.job, "notice", host=host, message=told)

    def begin_part(self, part: int, tokens: int) -> None:
        """It looks at a part of the data, maybe again."""
        self._told = self._parts[part] = PartFigures(total=tokens)
        self._note_figures(state="scoring")

    def count_hits(self, tokens: int) -> None:
        """More of the part were found in a cache."""
        self._told.hits += tokens
        self._note_figures()

    def note_pace(self, event: Event) -> None:
        """How far the part is scored, and how fast."""
        self._told.done = event.count("tokens_done") or 0
        pace = {key: event.number(key) for key in ("tokens_per_s", "eta_s")}
        self._note_figures(**pace)

    def _note_figures(self, **values: Any) -> None:
        """Of all parts that it had."""
        parts = self._parts.values()
        self.note(
            total=sum(each.total for each in parts),
            done=sum(each.done for each in parts),
            hits=sum(each.hits for each in parts),
            **values,
        )

    @property
    def _row(self) -> tuple[str, str]:
        return self.worker.job, self.worker.host.name

    def _on_seen(self, host: str, reason: str) -> None:
        if bool(reason) != self.unseen:
            told = f"the teacher's host is out of sight: {reason}" if reason else "seen again"
            note(self.store, self.worker.job, "notice", host=host, message=told)
            self.note(reason=reason)
        self.unseen = bool(reason)

    def _on_data(self, host: str, file: str, path: File) -> None:
        for event in self._new.events(path):
            if (event.job, event.host) == (self.worker.job, self.worker.host.name):
                self.hear(event)
                if event.generation == self.launches:
                    self._note_end(event)

    def _note_end(self, event: Event) -> None:
        match event.kind:
            case "finished" if event.slot is not None:
                self.finished = event
            case "agent_started":
                self.failure = None
            case "failed" if event.slot is not None:
                self.failure = self._failure(event, "error")
            case "disk_full" | "rank_exited" | "agent_finished" if self.failure is None:
                if event.text("reason"):
                    self.failure = self._failure(event, "reason")

    def _failure(self, event: Event, key: str) -> Failure:
        return Failure(
            host=self.worker.host.name,
            reason=f"teacher: {clean(event.text(key), limit=_TOLD_CHARS)}",
            foreseen=event.data.get("foreseen") is True or event.kind == "disk_full",
        )


def _content(model: str, place: str) -> str:
    """The sum of a folder that was sent; "" for a model of the Hub, whose revision is pinned."""
    return File(place).name if File(model).is_absolute() else ""
