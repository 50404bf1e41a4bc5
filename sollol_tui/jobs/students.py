"""Students who learned apart: their adapters brought here, all of them, and ranked by their loss on
the rows that were held out. Trains and compares nothing itself."""

from dataclasses import dataclass

from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.events import note, read_events
from sollol_tui.jobs.output import JOB_FILE
from sollol_tui.jobs.results import collect, write_job_file
from sollol_tui.model.events import finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One student; `loss` is None where it measured none. `settings` is what was its own."""

    host: str
    loss: float | None
    settings: str

    @property
    def sentence(self) -> str:
        loss = "no row was held out" if self.loss is None else f"held-out loss {self.loss:.4f}"
        return f"{self.host}  {loss}{f'  ({self.settings})' if self.settings else ''}"


async def collect_students(case: Attended) -> str:
    """Brings each worker's adapter into a folder of its own below the output folder; returns which
    is the best. Raises HostError and StateError."""
    for worker in case.crew.workers:
        output = case.output_dir / worker.host.name
        await collect(case.home, case.job, case.spec, worker, output)
    write_job_file(case.output_dir / JOB_FILE, case.job, case.spec)
    ranked = rank(case)
    for number, student in enumerate(ranked, 1):
        message = f"student {number} of {len(ranked)}: {student.sentence}"
        note(case.store, case.job, "notice", message=message)
    return f"best student: {ranked[0].sentence}"


def rank(case: Attended) -> list[Ranked]:
    """The students, the best first."""
    losses = {
        event.slot: finite(event.data.get("loss"))
        for event in read_events(case.store, case.job, ["evaluation"])
    }
    found = []
    for worker in case.crew.plan.workers:
        slot = worker.ranks[0].slot
        own = {"seed": case.spec.seed + slot}
        if case.spec.students:
            own |= case.spec.students[slot % len(case.spec.students)].settings()
        told = ", ".join(f"{key} {value}" for key, value in own.items())
        found.append(Ranked(host=worker.host, loss=losses.get(slot), settings=told))
    return sorted(found, key=lambda student: (student.loss is None, student.loss or 0.0))
