"""A host on its way into a job that runs: asked, planned and given what it needs. It takes no lease
and no part yet, so whatever goes wrong here changes nothing of the run."""

from dataclasses import replace

from sollol_tui.hosts.facts import gather_facts
from sollol_tui.jobs.addresses import with_own_addresses
from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.events import note
from sollol_tui.jobs.fingerprints import misfit
from sollol_tui.jobs.planner import plan_worker
from sollol_tui.jobs.probe import ask
from sollol_tui.jobs.records import load
from sollol_tui.jobs.roster import expect
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.spec import Engine, JobSpec


async def receive(store: Store, crew: Crew, spec: JobSpec, host: str) -> Worker:
    """The host as a worker that is ready to be launched. Raises HostError and InputError."""
    inventory = load(Inventory, store.job(crew.job).inventory).with_coordinator()
    machine = inventory.host(host)
    expect(store, crew.job, host)
    answers = await ask(store.home, [machine], gather_facts)
    if host in answers.errors:
        raise answers.errors[host]
    taken = store.leases.taken_from(crew.job)
    as_it_runs = replace(spec, engine=Engine(crew.plan.engine))
    planned, warnings = plan_worker(as_it_runs, machine, answers.said[host], taken)
    for warning in warnings:
        note(store, crew.job, "notice", host=host, message=warning)
    joined = replace(crew.plan, workers=(*crew.plan.workers, planned))
    planned = with_own_addresses(joined, inventory).workers[-1]
    worker = crew.worker(planned, machine)
    await crew.prepare_one(worker)
    if not crew.is_same_model(worker):
        raise UnsuitableError(host, "got another model than the one that the job began with")
    _check_programs(crew, worker)
    return worker


def _check_programs(crew: Crew, comer: Worker) -> None:
    """Raises UnsuitableError where ranks that run would have to agree with other programs; those of
    a static job are all launched anew, with the same ones."""
    if not crew.plan.is_elastic or comer.place is None:
        return
    others = {
        worker.host.name: worker.place.environment
        for worker in crew.workers
        if worker.place is not None and worker.host.name != comer.host.name
    }
    if said := misfit(comer.host.name, comer.place.environment, others):
        raise UnsuitableError(
            comer.host.name,
            said,
            remedy=f"sollol pause {crew.job}, then sollol resume {crew.job}: it gives all the same",
        )
