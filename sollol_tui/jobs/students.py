"""Students who learned apart: their adapters brought here, all of them, and the best one named.
Trains and compares nothing itself."""

from collections.abc import Sequence
from pathlib import Path

from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.output import JOB_FILE
from sollol_tui.jobs.ranking import read_ranking, student_folder
from sollol_tui.jobs.results import collect, write_job_file
from sollol_tui.model.ranking import Ranked


async def collect_students(case: Attended) -> str:
    """Brings each worker's adapter into a folder of its own below the output folder; returns which
    is the best, as far as anybody measured one. Raises HostError and StateError."""
    for worker in case.crew.workers:
        output = student_folder(case.output_dir, worker.host.name)
        await collect(case.home, case.job, case.spec, worker, output)
    write_job_file(case.output_dir / JOB_FILE, case.job, case.spec)
    return best_student(read_ranking(case.store, case.job))


def best_student(ranked: Sequence[Ranked]) -> str:
    """Names the best of `ranked`, who stand in order, with its loss; where nobody measured one,
    says how to have one. Says whose student is not here."""
    here = [each for each in ranked if not each.away]
    away = "".join(f"; {e.host} is {e.away}: its student rests there" for e in ranked[len(here) :])
    if here[0].loss is not None:
        return f"best student: {here[0].sentence}{away}"
    return (
        f"all {len(here)} students are here, in {Path(here[0].folder).parent}; none is called "
        f"the best, because no held-out loss was measured: hold rows out with val_size{away}"
    )
