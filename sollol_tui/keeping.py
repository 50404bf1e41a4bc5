"""What is kept of jobs, as SOLLOLClient has it: their settings, what happened to them, figures,
checkpoints and results. Starts and steers none."""

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sollol_tui.jobs.home import Home
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.view import read_evaluations
from sollol_tui.model.snapshot import EvaluationView

if TYPE_CHECKING:  # loaded by what needs it: a reading command starts without SSH and pydantic
    from sollol_tui.jobs.figures import MetricReader
    from sollol_tui.jobs.prune import Remains
    from sollol_tui.jobs.taught import Taught
    from sollol_tui.model.checkpoints import CheckpointSurvey
    from sollol_tui.model.evidence import Evidence
    from sollol_tui.model.happenings import Happening
    from sollol_tui.model.ranking import Ranked
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

    def open_metrics(self, job_id: str) -> "MetricReader":
        """A reader of what the job's steps told, from the first one on."""
        from sollol_tui.jobs.figures import MetricReader

        with self._lock:
            return MetricReader(self.home.job(self._store.find_job(job_id)))

    def host_figures(self, job_id: str) -> dict[str, list[dict[str, Any]]]:
        """How busy each of the job's hosts was while it ran, by host, in order of time."""
        from sollol_tui.jobs.figures import read_hosts

        with self._lock:
            job = self._store.find_job(job_id)
        return read_hosts(self.home.job(job))

    def timeline(self, job_id: str | None = None, kinds: Collection[str] = ()) -> "list[Happening]":
        """What happened to a job and why, in sentences; without a job: to all of them. Only these
        `kinds` if any."""
        from sollol_tui.jobs.timeline import read_timeline

        with self._lock:
            job = self._store.find_job(job_id) if job_id is not None else None
            return read_timeline(self._store, job, kinds)

    def evaluations(self, job_id: str) -> tuple[EvaluationView, ...]:
        """What the job's held-out rows (val_size) said, in the order of steps."""
        with self._lock:
            return read_evaluations(self._store, self._store.find_job(job_id))

    def evidence(self, job_id: str) -> "Evidence":
        """What the job's ranks measured and compared of themselves: speed-up, where the time goes,
        equal weights; beside what the plan predicted."""
        from sollol_tui.jobs.evidence import read_evidence

        with self._lock:
            return read_evidence(self._store, self._store.find_job(job_id))

    def ranking(self, job_id: str) -> "tuple[Ranked, ...]":
        """The students of a job with mode: teacher_student as they stand, the best first."""
        from sollol_tui.jobs.ranking import read_ranking

        with self._lock:
            return read_ranking(self._store, self._store.find_job(job_id))

    def fetch(
        self,
        job_id: str,
        *,
        to: str | None = None,
        checkpoint: "int | Literal['newest'] | None" = None,
        host: str | None = None,
        report: "Callable[[int, int], None]" = lambda done, total: None,
    ) -> Path:
        """Brings the adapter of a job that has ended once more, or one of a job's checkpoints, into
        the folder `to` or beside the job's output_dir, and returns that folder. `host` is the
        worker whose checkpoint it shall be; students who learn apart each have their own. `report`
        hears of bytes done and in all. Raises NotFoundError when there is no such thing."""
        from sollol_tui.blocking import run
        from sollol_tui.jobs.results import fetch_adapter, fetch_checkpoint

        with self._lock:
            job = self._store.find_job(job_id)
        if checkpoint is None:
            return run(fetch_adapter(self._store, job, to, report))
        step = None if checkpoint == "newest" else checkpoint
        return run(fetch_checkpoint(self._store, job, step, to, report, host=host))

    def checkpoints(self, job_id: str) -> "CheckpointSurvey":
        """The job's checkpoints and who holds each whole: asks every worker of the job."""
        from sollol_tui.blocking import run
        from sollol_tui.jobs.holdings import Holders

        with self._lock:
            holders = Holders.of(self._store, self._store.find_job(job_id))
        return run(holders.survey())

    def supervised_jobs(self) -> dict[str, bool]:
        """The jobs that need a supervisor, and whether each has one now."""
        from sollol_tui.jobs.supervise import is_supervised

        with self._lock:
            return {job: is_supervised(self.home, job) for job in self._store.attended_jobs()}

    def prunable_jobs(self, *, older_than_s: float = 0.0, keep: int = 0) -> "list[Remains]":
        """What jobs that ended so long ago take here and on their workers, but for the newest
        `keep` of all that have ended. Changes nothing."""
        from sollol_tui.blocking import run
        from sollol_tui.jobs.prune import ended_jobs, weigh

        with self._lock:
            jobs = ended_jobs(self._store, older_than_s=older_than_s, keep=keep)
        return run(weigh(self._store, jobs))

    def prune_jobs(self, job_ids: Sequence[str], *, forget: bool = False) -> "list[Remains]":
        """Removes what ended jobs have left: logs, events, run directories, never a result folder.
        One of which something stays somewhere stays in the list, unless it is to be forgotten."""
        from sollol_tui.blocking import run
        from sollol_tui.jobs.prune import prune

        with self._lock:
            jobs = [self._store.find_job(job) for job in job_ids]
        return run(prune(self._store, jobs, forget=forget))

    def unneeded_scores(self, without: Sequence[str] = ()) -> "tuple[Taught, ...]":
        """What teachers said and wrote, kept here, that no job of the list learns from but those
        named. Changes nothing."""
        from sollol_tui.jobs.taught import unneeded

        with self._lock:
            return unneeded(self._store, {self._store.find_job(job) for job in without})

    def prune_scores(self) -> "tuple[Taught, ...]":
        """Removes from this machine what no job of the list learns from."""
        from sollol_tui.jobs.taught import remove_unneeded

        with self._lock:
            return remove_unneeded(self._store)
