"""Students who learned apart: their adapters brought here, all of them, and the best one named.
Trains and compares nothing itself."""

from sollol_tui.jobs.attended import Attended
from sollol_tui.jobs.output import JOB_FILE
from sollol_tui.jobs.ranking import read_ranking, student_folder
from sollol_tui.jobs.results import collect, write_job_file


async def collect_students(case: Attended) -> str:
    """Brings each worker's adapter into a folder of its own below the output folder; returns which
    is the best. Raises HostError and StateError."""
    for worker in case.crew.workers:
        output = student_folder(case.output_dir, worker.host.name)
        await collect(case.home, case.job, case.spec, worker, output)
    write_job_file(case.output_dir / JOB_FILE, case.job, case.spec)
    return f"best student: {read_ranking(case.store, case.job)[0].sentence}"
