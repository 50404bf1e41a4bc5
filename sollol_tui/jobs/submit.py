"""From a job spec to a job: checks everything that can be checked, plans, leases, hands over to a
supervisor. Until the job is stored, nothing was changed anywhere."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.jobs.beginning import Beginning, begin_from
from sollol_tui.jobs.dataset import check_dataset, locate_dataset, resolve_model
from sollol_tui.jobs.leases import Taken, TakenError
from sollol_tui.jobs.lessons import lesson_of, with_roles
from sollol_tui.jobs.measured import read_measured
from sollol_tui.jobs.notify import whole_command
from sollol_tui.jobs.output import Output
from sollol_tui.jobs.planner import could_use, make_plan
from sollol_tui.jobs.predict import Known
from sollol_tui.jobs.probe import ask, note_silence
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import start_supervisor
from sollol_tui.jobs.survey import Survey
from sollol_tui.jobs.teachers import teacher_hosts, with_teacher
from sollol_tui.jobs.weights import read_weights
from sollol_tui.model.errors import NoWorkersError, concerning
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.oddities import oddities
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.text import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that could start now, or once what it `wait`s for is free: then its plan is the one
    that it would have. `could_use` is what nobody behind it may take."""

    spec: JobSpec
    inventory: Inventory
    plan: Plan
    model: str
    name: str
    output: Output
    could_use: tuple[str, ...] = ()
    wait: str = ""
    may_wait: bool = True
    beginning: Beginning | None = None

    def parts(self) -> list[tuple[str, list[str]]]:
        """What a person reads before it starts: lines, and the word that stands in front."""
        model = short_name(self.model)
        parts = [("plan", self.plan.lines(model, self.spec.lora.r, self.spec.epochs))]
        if (teacher := self.plan.teacher) is not None:
            parts.append(("teacher", teacher.lines(short_name(teacher.lesson.model))))
        if self.plan.memory is not None:
            parts.append(("memory", [self.plan.memory.line]))
        if self.beginning is not None:
            parts.append(("from", [clean(self.beginning.sentence)]))
        if self.wait:
            parts.append(("queue", [self.wait]))
        return parts

    @property
    def oddities(self) -> list[str]:
        """What is worth a question before it starts; mostly nothing."""
        odd = list(oddities(self.plan, self.spec))
        if self.beginning is not None and self.beginning.instead:
            odd.append(clean(self.beginning.sentence))
        return odd


def short_name(model: str) -> str:
    return Path(model).name if Path(model).is_absolute() else model


async def prepare(
    store: Store,
    spec: JobSpec,
    inventory: Inventory,
    folder: Path,
    *,
    may_wait: bool = True,
    resume: str | None = None,
    survey: Survey | None = None,
) -> Prepared:
    """Checks model and dataset, asks the hosts, plans. Paths in the spec start from `folder`.
    `resume` names the checkpoint of another job at which this one begins; `survey` knows what was
    asked for an earlier draft. Raises InputError, NotFoundError, or NoWorkersError when waiting is
    of no use or not wanted; the `key` of each says what of the spec it is about."""
    asked, spec = spec, with_roles(spec, folder)
    with concerning("model"):
        model = resolve_model(spec.model, folder)
    with concerning("dataset"):
        dataset_place = locate_dataset(spec.dataset, folder)
    name = spec.name or f"{Path(dataset_place).stem}-{Path(model).name}"
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:60].lstrip(".-") or "job"
    output = Output(template=spec.output_dir, folder=folder, name=name)
    with concerning("output_dir"):
        output.check(store.live_outputs())
    if spec.notify.command is not None:
        with concerning("notify.command"):
            command = whole_command(spec.notify.command, folder)
        spec = replace(spec, notify=replace(spec.notify, command=command))
    everyone = inventory.with_coordinator()
    with concerning("workers"):
        selection = select(everyone, spec.workers)
    with concerning("teacher.host"):
        teaching = teacher_hosts(spec, everyone)
    lesson = await lesson_of(asked, spec, model)
    hosts = (*selection.hosts, *(host for host in teaching if host not in selection.hosts))
    with concerning("dataset"):
        dataset = await (survey.dataset if survey else check_dataset)(dataset_place, spec.format)
    if survey:
        answers = await survey.facts(hosts)
    else:
        answers = await ask(store.home, hosts, gather_facts)
    note_silence(store, inventory, answers)
    wait = ""
    weights = await asyncio.to_thread(read_weights, model)
    known = Known(model=model, weights=weights, measured=read_measured(store, inventory))

    def plan_now(taken: Taken | None) -> Plan:
        facts, silent = answers.said, answers.reasons()
        with concerning("workers"):
            plan = make_plan(spec, everyone, selection, facts, silent, dataset, taken, known=known)
        with concerning("teacher.host"):
            plan = with_teacher(plan, spec, lesson, teaching, facts, silent, taken)
        return with_own_addresses(plan, everyone)

    try:
        plan = plan_now(store.leases.taken_from(None))
    except NoWorkersError as error:
        if not (error.wait and may_wait):
            raise
        wait = error.wait
        plan = plan_now(None)
    if spec.accumulated is not None:  # as the plan says from now on, whoever takes part later
        spec = replace(spec, global_batch=plan.global_batch, gradient_accumulation_steps=None)
    # Whole paths: the adapter names its base, and job.yaml is read in whatever folder.
    spec = replace(spec, name=name, model=model, dataset=dataset_place)
    return Prepared(
        spec=spec,
        inventory=inventory,
        plan=plan,
        model=model,
        name=name,
        output=output,
        could_use=tuple(could_use(spec, selection, answers.said)),
        wait=wait,
        may_wait=may_wait,
        beginning=await begin_from(store, resume, spec, plan) if resume else None,
    )


def submit(store: Store, prepared: Prepared) -> str:
    """Stores the job, with its leases or at the end of the queue, and starts its supervisor;
    returns the job's id. Raises InputError when its output_dir was taken meanwhile, and
    NoWorkersError when its workers were and it may not wait."""
    with store.transaction():
        prepared.output.check(store.live_outputs())
        job = store.add_job(
            spec=prepared.spec,
            plan=prepared.plan,
            inventory=prepared.inventory,
            model=prepared.model,
            dataset=prepared.plan.dataset.path,
            name=prepared.name,
            output_dir=prepared.output.of,
            claims=prepared.could_use,
            reason=prepared.wait,
        )
        if prepared.beginning is not None:
            prepared.beginning.lay(store.home, job)
        if not prepared.wait:
            try:
                take_turn(store, job, prepared.plan)
            except TakenError as error:
                if not prepared.may_wait:
                    raise NoWorkersError(error.message, {}, remedy=error.remedy) from None
                store.note_waiting(job, f"waits: {error.message}", prepared.could_use)
    start_supervisor(store.home, job)
    return job
