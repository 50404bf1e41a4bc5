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
    """The students of a job as they stand, the best first and last those whose worker is lost or
    has left; none of a job that trains one model."""
    record = store.job(job)
    if json.loads(record.spec).get("mode") != Mode.TEACHER_STUDENT:
        return ()
    spec, plan = load(JobSpec, record.spec), load(Plan, record.plan)
    measured = {event.slot: event.data for event in read_events(store, job, ["evaluation"])}
    slots = {worker.host: worker.ranks[0].slot for worker in plan.workers}
    others = {host: n for (host, _), n in store.given_slots(job).items() if host not in slots}
    away = {each.host: str(each.state) for each in store.workers(job) if each.host in others}
    found = []
    for host, slot in (slots | others).items():
        last = measured.get(slot, {})
        own = {"seed": spec.seed + slot}
        if spec.students:
            own |= spec.students[slot % len(spec.students)].settings()
        found.append(
            Ranked(
                host=host,
                loss=finite(last.get("loss")),
                step=whole(last.get("step")),
                settings=", ".join(f"{key} {value}" for key, value in own.items()),
                folder=str(student_folder(Path(record.output_dir), host)),
                away=away.get(host, ""),
            )
        )
    return in_order(found)
