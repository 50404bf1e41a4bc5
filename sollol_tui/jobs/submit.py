"""From a job spec to a job: checks everything that can be checked, plans, leases, hands over to a
supervisor. Until the job is stored, nothing was changed anywhere."""

from dataclasses import dataclass, replace
from pathlib import Path

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.jobs.dataset import check_dataset, locate, resolve_model
from sollol_tui.jobs.output import Output
from sollol_tui.jobs.planner import make_plan, resources
from sollol_tui.jobs.probe import ask, note_silence
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.supervise import start_supervisor
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.patterns import select
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that could start now."""

    spec: JobSpec
    inventory: Inventory
    plan: Plan
    model: str
    name: str
    output: Output


async def prepare(store: Store, spec: JobSpec, inventory: Inventory, folder: Path) -> Prepared:
    """Checks model and dataset, asks the hosts, plans. Paths in the spec start from `folder`.
    Raises InputError, NotFoundError or NoWorkersError."""
    model = resolve_model(spec.model, folder)
    dataset_file = locate(spec.dataset, folder)
    name = spec.name or f"{dataset_file.stem}-{Path(model).name}"
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)[:60].lstrip(".-") or "job"
    output = Output(template=spec.output_dir, folder=folder, name=name)
    output.check(store.live_outputs())
    everyone = inventory.with_coordinator()
    selection = select(everyone, spec.workers)
    dataset = await check_dataset(dataset_file, spec.format)
    answers = await ask(store.home, selection.hosts, gather_facts)
    note_silence(store, inventory, answers)
    plan = make_plan(
        spec, everyone, selection, answers.said, answers.reasons(), dataset, store.leased()
    )
    return Prepared(
        spec=replace(spec, name=name),
        inventory=inventory,
        plan=plan,
        model=model,
        name=name,
        output=output,
    )


def submit(store: Store, prepared: Prepared) -> str:
    """Stores the job with its leases and starts its supervisor; returns the job's id. Raises
    InputError when its output_dir was taken meanwhile."""
    prepared.output.check(store.live_outputs())
    job = store.add_job(
        spec=prepared.spec,
        plan=prepared.plan,
        inventory=prepared.inventory,
        model=prepared.model,
        dataset=prepared.plan.dataset.path,
        name=prepared.name,
        output_dir=prepared.output.of,
        resources=resources(prepared.plan),
    )
    start_supervisor(store.home, job)
    return job
