"""A recorded job is played into a state of its own: as it was then, at whatever moment."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs.logs import LogLine
from sollol_tui.jobs.recording import open_recording, save_recording
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError, JobError, NotFoundError
from sollol_tui.model.snapshot import HostState
from sollol_tui.model.states import JobState
from sollol_tui.replay import ReplayClient
from tests.jobs.bench import Bench
from tools.sample_recording import JOB, READY_S, STEP_S, write_sample


class Clock:
    """The watcher's."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def replay(recording: Path, folder: Path, clock: Clock, speed: float = 20.0) -> ReplayClient:
    return ReplayClient(*open_recording(recording), folder, speed=speed, clock=clock)


def test_a_replay_shows_what_was_at_its_moment_and_nothing_of_later(tmp_path: Path) -> None:
    write_sample(tmp_path / "recording", minutes=10)
    clock = Clock()
    with replay(tmp_path / "recording", tmp_path / "scratch", clock) as client:
        begun = client.snapshot()
        assert [job.state for job in begun.jobs] == [JobState.QUEUED]
        clock.now = (READY_S + 10.5 * STEP_S) / 20
        shown = client.snapshot()
        (job,) = shown.jobs
        assert (job.state, job.step, job.samples_done) == (JobState.RUNNING, 10, 1280)
        assert {worker.state for worker in job.workers} == {"training"}
        hydra, *_, pi = shown.hosts
        assert (hydra.job, len(hydra.gpus), pi.state) == (JOB, 2, HostState.DOWN)
        assert hydra.at is not None
        assert 0 <= shown.at - hydra.at < 5 * STEP_S + 1
        assert [point.step for point in client.metrics(JOB)] == list(range(1, 11))
        assert client.evidence(JOB).speed is None
        lines = [line.text for line in client.logs(JOB)]
        assert any(line.startswith("[  10/4852]") for line in lines)
        assert not any(line.startswith("[  11/4852]") for line in lines)
        assert "replay" in shown.inventory
        clock.now = 10_000
        over = client.snapshot()
        assert client.is_over
        assert over.jobs[0].step == int((600 - READY_S) / STEP_S)
        assert over.at <= begun.at + 601, "time stands still where the recording ends"
        assert "over" in over.inventory
        assert client.evidence(JOB).speed is not None


def test_nothing_can_be_asked_of_a_replay(tmp_path: Path) -> None:
    write_sample(tmp_path / "recording", minutes=2)
    with replay(tmp_path / "recording", tmp_path / "scratch", Clock()) as client:
        for ask in (client.cancel_job, client.pause_job, client.resume_job, client.join_job):
            with pytest.raises(JobError, match="this is a replay of what was"):
                ask(JOB)
        assert client.revive() == []


def test_long_silences_are_cut_short(tmp_path: Path) -> None:
    write_sample(tmp_path / "recording", minutes=2)
    home, _ = open_recording(tmp_path / "recording")
    with Store(home) as store:  # as if nothing had happened for a day before it began
        store.connection.execute("UPDATE jobs SET created_at = created_at - 86400")
    clock = Clock()
    with replay(tmp_path / "recording", tmp_path / "scratch", clock) as client:
        client.snapshot()
        clock.now = 4.0
        assert client.snapshot().jobs[0].state is not JobState.QUEUED


def test_a_folder_that_is_no_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"holds no state.db; make one with: sollol replay"):
        open_recording(tmp_path)


def by_slot(lines: Iterable[LogLine]) -> list[tuple[int | str, str]]:
    """What each rank wrote. When a line came is known as well as somebody looked."""
    return sorted(((line.slot, line.text) for line in lines), key=lambda each: str(each[0]))


def test_a_real_job_ends_in_its_replay_as_it_ended(bench: Bench, tmp_path: Path) -> None:
    job = bench.submit(env={"SOLLOL_STUB_LINES": "3"}, epochs=8)  # 40 rows: 20 steps of 16
    ended = bench.reaches(job, JobState.DONE)
    recording, clock = tmp_path / "recording", Clock()
    with Store(bench.home) as store:
        save_recording(store, job, recording)
        with pytest.raises(InputError, match="it is there already"):
            save_recording(store, job, recording)
    with (
        SOLLOLClient(bench.inventory, home=bench.home.root) as real,
        replay(recording, tmp_path / "scratch", clock) as client,
    ):
        assert client.snapshot().jobs[0].step == 0
        while not client.is_over:
            clock.now += 1.0
            (view,) = client.snapshot().jobs
        for of in ("state", "step", "loss", "first_loss", "samples_done", "started_at", "ended_at"):
            assert view[of] == ended[of], of
        assert by_slot(client.logs(job)) == by_slot(real.logs(job))
        assert [each.sentence for each in client.timeline(job)] == [
            each.sentence for each in real.timeline(job)
        ]
        assert list(client.metrics(job)) == list(real.metrics(job))
