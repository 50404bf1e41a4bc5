"""One thing done on one worker for a trained adapter, such as an evaluation or a merge: the worker
is chosen, leased, prepared and followed, and nothing is left on it, however that ends.

Knows no job's state, and changes none."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.runs import Run, weigh_runs
from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.jobs.new_lines import NewLines
from sollol_tui.jobs.occupied import FOLDER, Occupation, abandoned, forget, occupy
from sollol_tui.jobs.planner import accelerator_of, make_plan, resources
from sollol_tui.jobs.probe import ask
from sollol_tui.jobs.runfile import run_file
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import HostError, NoWorkersError
from sollol_tui.model.events import Event
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.patterns import Selection, select
from sollol_tui.model.plan import DatasetFacts, Plan
from sollol_tui.model.spec import Engine, JobSpec, Mode, Resources
from sollol_tui.model.text import clean

_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_KILLED_S: Final = 30.0  # how long what was killed may take to be gone
_NO_DATA: Final = DatasetFacts(path="", format="", rows=0, sha256="", size_bytes=0, mean_chars=0.0)
Say = Callable[[str], None]
Hear = Callable[[Event], None]
Then = Callable[[Worker, Event], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """`title` is what people read of it, `spec` how the adapter was trained, `adapter` a folder
    with it and a manifest. The first of `hosts` that is free does it."""

    program: Literal["evaluate", "merge"]
    title: str
    spec: JobSpec
    model: str
    adapter: Path
    inventory: Inventory
    hosts: tuple[Host, ...]
    dataset: DatasetFacts | None = None
    samples: int = 0


def hosts_for(inventory: Inventory, named: str | None, known: Sequence[str]) -> tuple[Host, ...]:
    """The hosts that may do it: the one that a person `named`, else those that are `known` to have
    what is needed, else all. Raises NotFoundError."""
    everyone = inventory.with_coordinator()
    if named is not None:
        return (everyone.host(named),)
    there = {host.name: host for host in everyone.hosts}
    return tuple(there[name] for name in known if name in there) or select(inventory, "all").hosts


async def nothing(worker: Worker, finished: Event) -> None:
    pass


async def carry_out(
    store: Store, errand: Errand, *, say: Say, hear: Hear, then: Then = nothing
) -> tuple[Event, str]:
    """Does it; returns the worker's last word and its name. `hear` gets each event, `then` is done
    before what lies on the worker goes. Raises NoWorkersError and HostError."""
    plan, workdir = await _plan(store, errand)
    [planned] = plan.workers
    id_ = f"e-{secrets.token_hex(3)}"
    occupation = Occupation(
        id=id_,
        title=errand.title,
        resources=tuple(resources(plan)),
        host=planned.host,
        run_dir=f"{workdir}/runs/{id_}/{planned.host}",
        nonce=secrets.token_hex(16),
    )
    everyone = errand.inventory.with_coordinator()
    worker = Worker(
        job=id_,
        nonce=occupation.nonce,
        host=everyone.host(planned.host),
        planned=planned,
        home=store.home,
        say=lambda text: say(f"{planned.host}: {text}"),
    )
    with _occupied(store, occupation) as file:
        try:
            finished = await _on_worker(store, errand, worker, plan, hear, then)
        except asyncio.CancelledError:  # whoever ended it is told when that was not all of it
            if problem := await _leave(worker, occupation, file):
                raise HostError(planned.host, problem) from None
            raise
        except BaseException:
            await _leave(worker, occupation, file)
            raise
        if problem := await _leave(worker, occupation, file):
            worker.say(problem)
    return finished, planned.host


async def _plan(store: Store, errand: Errand) -> tuple[Plan, str]:
    """A plan of one rank, and the workdir of its host."""
    answers = await ask(store.home, errand.hosts, gather_facts)
    wanted = Resources(gpu_ids=()) if errand.program == "merge" else Resources()
    spec = replace(_alone(errand.spec), resources=wanted)
    everyone = errand.inventory.with_coordinator()
    try:
        plan = make_plan(
            spec,
            everyone,
            Selection(hosts=errand.hosts, at_most=1),
            answers.said,
            answers.reasons(),
            errand.dataset or _NO_DATA,
            store.leases.taken_from(None),
        )
    except NoWorkersError as error:
        raise NoWorkersError(
            f"no host can take {errand.title} now",
            error.reasons,
            remedy="wait for one of them, or choose another with --host",
        ) from None
    planned, facts = plan.workers[0], answers.said[plan.workers[0].host]
    accelerator = accelerator_of(everyone.host(planned.host), facts)
    worker = replace(planned, ranks=planned.ranks[:1], accelerator=accelerator)
    plan = replace(plan, workers=(worker,))
    return with_own_addresses(plan, everyone), facts.workdir


@contextmanager
def _occupied(store: Store, occupation: Occupation) -> Iterator[Path]:
    """Holds its devices. Raises NoWorkersError when a job has taken one since it was planned."""
    with ExitStack() as held:
        with store.transaction():  # nobody else takes one meanwhile
            taken = store.leases.held()
            for resource in occupation.resources:
                if resource in taken:
                    raise NoWorkersError(
                        f"{resource} is in use by {taken[resource]} by now", {}, remedy="try again"
                    )
            file = held.enter_context(occupy(store.home.root, occupation))
        yield file


async def _on_worker(
    store: Store, errand: Errand, worker: Worker, plan: Plan, hear: Hear, then: Then
) -> Event:
    spec = _alone(errand.spec)
    if plan.workers[0].ranks[0].gpu is None:
        spec = replace(spec, quantize="none")  # which needs a GPU
    packages = errand.inventory.packages
    place = await worker.prepare(packages, errand.dataset, errand.model)
    await _clear_away(store, worker)
    begin = checkpoints.beginning_folder(store.home, worker.job)
    begin.parent.mkdir(mode=0o700, parents=True)
    shutil.copytree(errand.adapter, begin)
    await checkpoints.give(store.home, worker.job, worker)
    run = run_file(
        job=worker.job,
        nonce=worker.nonce,
        spec=spec,
        plan=plan,
        host=worker.host,
        place=place,
        generation=1,
        main_port=0,
    )
    worker.say("starting")
    told = {"program": errand.program, "samples": errand.samples}
    await worker.launch(
        run | told, {name: os.environ[name] for name in _SECRETS if name in os.environ}
    )
    finished = await _follow(errand, worker, hear)
    await then(worker, finished)
    return finished


def _alone(spec: JobSpec) -> JobSpec:
    """A job's settings for one rank without others and without a teacher."""
    return replace(spec, engine=Engine.STATIC, mode=Mode.DATA_PARALLEL)


async def _follow(errand: Errand, worker: Worker, hear: Hear) -> Event:
    """Hears the run to its end. Raises HostError when it did not come to what it was for."""
    heard = _Heard(hear=hear)

    def on_seen(host: str, reason: str) -> None:
        if reason:
            worker.say(f"out of sight: {reason}; trying again")

    await worker.watch_until(asyncio.Event(), heard.on_data, on_seen)
    if heard.finished is None:
        reason = clean(heard.failure or "it ended without a word", limit=500)
        remedy = "" if heard.is_foreseen else f"its log: {_keep_log(worker)}"
        raise HostError(worker.host.name, f"{errand.title} failed: {reason}", remedy=remedy)
    return heard.finished


def _keep_log(worker: Worker) -> Path:
    """Its log in a file that outlives it, and is that of the last failure alone."""
    kept = worker.home.root / FOLDER / "last-failure.log"
    logs = sorted(worker.copies.glob("log.*"), key=lambda path: ".agent." not in path.name)
    kept.write_bytes(b"".join(path.read_bytes() for path in logs))
    return kept


@dataclass(slots=True, kw_only=True)
class _Heard:
    """What the run has said so far."""

    hear: Hear
    finished: Event | None = None
    failure: str = ""
    is_foreseen: bool = False  # the failure itself says what to do
    _new: NewLines = field(default_factory=NewLines)

    def on_data(self, host: str, file: str, path: Path) -> None:
        for event in self._new.events(path):
            self._note(event)
            self.hear(event)

    def _note(self, event: Event) -> None:
        match event.kind:
            case "finished" if event.slot is not None:
                self.finished = event
            case "failed":
                self.failure = event.text("error")
                self.is_foreseen = event.data.get("foreseen") is True
            case "disk_full" | "rank_exited" | "agent_finished" if not self.failure:
                self.failure = event.text("reason")


async def _clear_away(store: Store, worker: Worker) -> None:
    """What errands left there whose process was killed here."""
    left = [each for each in abandoned(store.home.root) if each.host == worker.host.name]
    runs = [Run(job=each.id, nonce=each.nonce, path=each.run_dir) for each in left]
    if not runs:
        return
    weights = await worker.over_ssh(partial(weigh_runs, runs, remove=True))
    for each in left:
        if not weights[each.id].obstacle:
            forget(store.home.root, each)
            shutil.rmtree(store.home.job(each.id), ignore_errors=True)


async def _leave(worker: Worker, occupation: Occupation, file: Path) -> str:
    """Makes sure that nothing of it runs or lies on the worker, nor here; says when that is not so.
    Its file stays then, and the next errand there removes what is left."""
    home = worker.home
    shutil.rmtree(home.job(worker.job), ignore_errors=True)
    if worker.place is None:
        file.unlink()
        return ""
    run = Run(job=occupation.id, nonce=occupation.nonce, path=occupation.run_dir)
    problem = await worker.stop("kill", _KILLED_S, asyncio.Event())
    if not problem:
        try:
            weights = await worker.over_ssh(partial(weigh_runs, [run], remove=True))
            problem = weights[run.job].obstacle
        except HostError as error:
            problem = error.message
    if not problem:
        file.unlink()
        return ""
    return f"{occupation.run_dir} stays there until the next one removes it: {problem}"
