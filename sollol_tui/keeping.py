"""What is kept of jobs, as SOLLOLClient has it: their settings, checkpoints and results. Starts and
steers none."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sollol_tui.jobs.home import Home
from sollol_tui.jobs.store import Store

if TYPE_CHECKING:  # loaded by what needs it: a reading command starts without SSH and pydantic
    from sollol_tui.model.checkpoints import CheckpointSurvey
    from sollol_tui.model.spec import JobSpec


class Keeping:
    """A part of SOLLOLClient, which opens and closes the state."""

    home: Home
    _store: Store
    _lock: threading.RLock

    def job_spec(self, job_id: str) -> "JobSpec":
        """What was asked for when the job was submitted, with whole paths."""
        from sollol_tui.jobs.records import load
        from sollol_tui.model.spec import JobSpec

        with self._lock:
            return load(JobSpec, self._store.job(self._store.find_job(job_id)).spec)

    def fetch(
        self,
        job_id: str,
        *,
        to: str | None = None,
        checkpoint: "int | Literal['newest'] | None" = None,
        report: "Callable[[int, int], None]" = lambda done, total: None,
    ) -> Path:
        """Brings the adapter of a job that has ended once more, or one of a job's checkpoints, into
        the folder `to` or beside the job's output_dir, and returns that folder. `report` hears of
        bytes done and in all. Raises NotFoundError when there is no such thing."""
        from sollol_tui.blocking import run
        from sollol_tui.jobs.results import fetch_adapter, fetch_checkpoint

        with self._lock:
            job = self._store.find_job(job_id)
        if checkpoint is None:
            return run(fetch_adapter(self._store, job, to, report))
        step = None if checkpoint == "newest" else checkpoint
        return run(fetch_checkpoint(self._store, job, step, to, report))

    def checkpoints(self, job_id: str) -> "CheckpointSurvey":
        """The job's checkpoints and who holds each whole: asks every worker of the job."""
        from sollol_tui.blocking import run
        from sollol_tui.jobs.holdings import Holders

        with self._lock:
            holders = Holders.of(self._store, self._store.find_job(job_id))
        return run(holders.survey())
