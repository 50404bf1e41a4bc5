"""How the students of a job who learn apart stand, by what they measured on the rows that were held
out. Measures nothing itself."""

import json
from pathlib import Path

from sollol_tui.jobs.database import told_if_damaged
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.events import finite, whole
from sollol_tui.model.plan import Plan
from sollol_tui.model.ranking import Ranked, in_order
from sollol_tui.model.spec import JobSpec, Mode


def student_folder(output_dir: Path, host: str) -> Path:
    """Where the adapter of one student comes to lie."""
    return output_dir / host


@told_if_damaged
def read_ranking(store: Store, job: str) -> tuple[Ranked, ...]:
    """The students of a job as they stand, the best first; none of a job that trains one model."""
    record = store.job(job)
    if json.loads(record.spec).get("mode") != Mode.TEACHER_STUDENT:
        return ()
    spec = load(JobSpec, record.spec)
    measured = {event.slot: event.data for event in read_events(store, job, ["evaluation"])}
    found = []
    for worker in load(Plan, record.plan).workers:
        slot = worker.ranks[0].slot
        last = measured.get(slot, {})
        own = {"seed": spec.seed + slot}
        if spec.students:
            own |= spec.students[slot % len(spec.students)].settings()
        found.append(
            Ranked(
                host=worker.host,
                loss=finite(last.get("loss")),
                step=whole(last.get("step")),
                settings=", ".join(f"{key} {value}" for key, value in own.items()),
                folder=str(student_folder(Path(record.output_dir), worker.host)),
            )
        )
    return in_order(found)
