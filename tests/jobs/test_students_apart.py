"""Students who learn apart come, go and rest like the workers of any job, also while their teacher
still scores: the real agents, ranks of the standard library."""

from pathlib import Path

from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until, write_teacher


def test_students_come_go_and_rest_and_whoever_stays_is_kept(bench: Bench) -> None:
    release = bench.folder / "release"
    job = bench.submit(
        env={"SOLLOL_STUB_STEPS": "16", "SOLLOL_STUB_HOLDS": f"distill.score:5={release}"},
        mode="teacher_student",
        workers="one",
        teacher={"model": str(write_teacher(bench.folder / "teacher")), "host": "one"},
    )
    bench.takes_steps(job)
    bench.client.join_job(job, "two")
    until(lambda: states(bench, job).get("two") == "training", "it has joined")
    bench.client.pause_job(job)
    bench.reaches(job, JobState.PAUSED)
    assert not bench.left(job)
    bench.client.resume_job(job)
    until(lambda: states(bench, job) == {"one": "training", "two": "training"}, "both go on")
    bench.client.leave_job(job, "two")
    until(lambda: states(bench, job).get("two") == "gone", "it has left")
    assert [*(bench.run_dir(job, "two") / "checkpoints").iterdir()], "its student rests there"
    ranked = [(each.host, each.away) for each in bench.client.ranking(job)]
    assert ranked == [("one", ""), ("two", "gone")]
    bench.client.join_job(job, "two")
    until(lambda: states(bench, job).get("two") == "training", "it is back")
    release.touch()
    view = bench.reaches(job, JobState.DONE)
    kept = sorted(path.parent.name for path in Path(view.output_dir).glob("*/adapter_config.json"))
    assert kept == ["one", "two"]
    assert [each.host for each in bench.client.ranking(job)] == ["one", "two"]
    assert not bench.left(job)


def states(bench: Bench, job: str) -> dict[str, str]:
    return {worker.host: str(worker.state) for worker in bench.view(job).workers}
