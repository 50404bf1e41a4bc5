"""An adapter is evaluated and merged on a worker that nobody else gets meanwhile, and nothing stays
there; what was found or made is here."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.jobs.adapters import WEIGHTS
from sollol_tui.jobs.checkpoints import kept_folder
from sollol_tui.jobs.dataset import check_dataset
from sollol_tui.jobs.evaluations import FOLDER as KEPT
from sollol_tui.jobs.leases import TakenError
from sollol_tui.jobs.occupied import FOLDER, Occupation, occupied, occupy
from sollol_tui.jobs.records import load
from sollol_tui.jobs.results import write_job_file
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import HostError, InputError, NotFoundError, NoWorkersError
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from tests.jobs.bench import DEADLINE_S, Bench
from tests.jobs.samples import plan
from tests.jobs.saved import write_checkpoint

WAY = (
    *(JobState.PLANNING, JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING),
    *(JobState.FINISHING, JobState.DONE),
)
STEPS = {"SOLLOL_STUB_STEPS": "4", "SOLLOL_STUB_STEP_S": "0.01"}


@pytest.fixture
def done(bench: Bench) -> str:
    """A job that has ended well, and held rows out: its result and a checkpoint are here."""
    settings = {"model": str(bench.folder / "model"), "val_size": 0.1}
    rows = asyncio.run(check_dataset(bench.folder / "rows.jsonl", "auto"))
    with Store(bench.home) as store:
        job = store.add_job(
            spec=JobSpec(dataset=rows.path, **settings),
            plan=replace(plan("one", "two"), dataset=rows),
            inventory=bench.client.inventory(),
            model=settings["model"],
            dataset=rows.path,
            name="tiny",
            output_dir=lambda job: str(bench.folder / "out" / job),
        )
        for state in WAY:
            store.move_job(job, state)
        output = Path(store.job(job).output_dir)
        files = {"adapter_model.safetensors": b"stub 4", "adapter_config.json": b"{}"}
        write_checkpoint(kept_folder(bench.home, job), 2, files | {WEIGHTS: b"stub 2"})
        output.mkdir(parents=True)
        for name, content in (files | {"job.yaml": b"", "trainer_state.json": b"{}"}).items():
            (output / name).write_bytes(content)
        write_job_file(output / "job.yaml", job, load(JobSpec, store.job(job).spec))
    return job


def left(bench: Bench) -> list[Path]:
    """What lies anywhere of errands that are over."""
    return [
        *bench.workdirs.glob("*/runs/e-*"),
        *(bench.home.root / "jobs").glob("e-*"),
        *(bench.home.root / FOLDER).glob("e-*"),
        *(bench.home.root / "staged").glob("*"),
    ]


def test_an_adapter_is_evaluated_where_its_job_ran_and_nothing_stays_there(bench: Bench) -> None:
    done = bench.submit(env=STEPS, val_size=0.1, save_steps=2)
    bench.reaches(done, JobState.DONE)
    told: list[tuple[str, int, int]] = []
    found = bench.client.evaluate(done, samples=2, progress=lambda *each: told.append(each))
    assert (found.loss_before, found.loss, found.rows, found.held_out) == (5.0, 2.0, 4, True)
    assert found.perplexity == pytest.approx(7.389, abs=1e-3)
    assert found.host in ("one", "two")
    assert [each.after for each in found.examples] == ["stub 4", "stub 4"]
    assert found.examples[0].before == "no"  # without what would colour a terminal
    assert bench.client.evaluated(done) == (found,)
    # A checkpoint, on the other host, on other rows.
    (bench.folder / "more.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    other = bench.client.evaluate(
        done, checkpoint=2, host="two", dataset=bench.folder / "more.jsonl", samples=1
    )
    assert (other.source, other.checkpoint, other.host) == (f"checkpoint-2 of {done}", 2, "two")
    assert (other.rows, other.held_out, other.examples[0].after) == (40, False, "stub 2")
    assert bench.client.evaluated(done) == (found, other)
    assert told == []  # the stub measures nothing
    assert left(bench) == []


def test_the_folder_of_a_result_is_the_adapter_of_its_job(bench: Bench, done: str) -> None:
    found = bench.client.evaluate(bench.view(done).output_dir, samples=1)
    assert (found.job, found.checkpoint, found.examples[0].after) == (done, None, "stub 4")
    assert bench.client.evaluated(done) == (found,)


async def test_a_worker_that_evaluates_is_nobody_elses_until_it_is_cancelled(
    bench: Bench, done: str
) -> None:
    bench.lay_out({**STEPS, "SOLLOL_STUB_HOLDS": "evaluate"}, {})
    measuring = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(
        bench.client.evaluation_of(
            done, host="one", progress=lambda *_: loop.call_soon_threadsafe(measuring.set)
        )
    )
    async with asyncio.timeout(DEADLINE_S):
        await measuring.wait()
    title = f"the evaluation of {done}"
    assert occupied(bench.home.root) == {"host one": title}
    with pytest.raises(NoWorkersError) as refused:
        await bench.client.evaluation_of(done, host="one")
    assert refused.value.reasons == {"one": f"in use by {title}"}
    with Store(bench.home) as store, pytest.raises(TakenError, match="host one is in use by the"):
        store.leases.take("j-other", ["host one"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left(bench) == []
    assert not [*bench.workdirs.glob("*/runs/e-*")]


def test_what_a_killed_one_left_is_removed_by_the_next(bench: Bench, done: str) -> None:
    run_dir = bench.workdirs / "one" / "runs" / "e-dead" / "one"
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_text(json.dumps({"nonce": "n1"}))
    dead = Occupation(
        id="e-dead",
        title="the evaluation of j-1",
        resources=("host one",),
        host="one",
        run_dir=str(run_dir),
        nonce="n1",
    )
    with occupy(bench.home.root, dead):
        assert occupied(bench.home.root) == {"host one": "the evaluation of j-1"}
    with occupy(bench.home.root, replace(dead, id="e-dead2", host="two")):
        pass
    assert occupied(bench.home.root) == {}  # its process is gone, and so is its hold
    bench.client.evaluate(done, host="one", samples=0)
    assert left(bench) == [bench.home.root / FOLDER / "e-dead2.json"]  # of a host not asked


def test_a_failure_says_where_and_why_and_keeps_the_log(bench: Bench, done: str) -> None:
    bench.lay_out({**STEPS, "SOLLOL_STUB_FAIL": "evaluate"}, {})
    with pytest.raises(HostError) as failed:
        bench.client.evaluate(done, host="two")
    reason = "RuntimeError: the stub was told to fail"
    assert f"two: the evaluation of {done} failed: {reason}" in str(failed.value)
    log = bench.home.root / FOLDER / "last-failure.log"
    assert str(log) in failed.value.remedy
    assert "the stub was told to fail" in log.read_text()
    assert left(bench) == []


def test_rows_that_are_not_those_held_out_are_refused(bench: Bench, done: str) -> None:
    rows = bench.folder / "rows.jsonl"
    rows.write_text(rows.read_text() + '{"instruction": "new", "output": "row"}\n')
    with pytest.raises(InputError, match=f"is not what {done} was trained on any more"):
        bench.client.evaluate(done)
    with pytest.raises(InputError, match="is a folder; name its checkpoint-N itself instead"):
        bench.client.evaluate(bench.view(done).output_dir, checkpoint=2)
    with pytest.raises(NotFoundError, match="no host 'tow'"):
        bench.client.evaluate(done, host="tow")
    with pytest.raises(NotFoundError, match="holds no adapter: it lacks adapter_model"):
        bench.client.evaluate(bench.folder / "model")


def test_a_merged_model_comes_here_whole_and_an_adapter_stands_alone(
    bench: Bench, done: str
) -> None:
    merged = bench.client.export(done, merge=True)
    folder = Path(merged.path)
    assert folder == Path(f"{bench.view(done).output_dir}-merged")
    assert (folder / "model.safetensors").read_text() == "base and stub 4"
    assert (folder / "job.yaml").read_text().startswith(f"# {done}-merged\n")
    again = bench.client.export(done, merge=True, checkpoint=2, to=bench.folder / "at-2")
    assert (Path(again.path) / "model.safetensors").read_text() == "base and stub 2"
    alone = Path(bench.client.export(done).path)
    assert sorted(path.name for path in alone.iterdir()) == [
        *("adapter_config.json", "adapter_model.safetensors", "job.yaml", "tokenizer.json")
    ]
    assert bench.client.export(done).path == str(alone)  # its own folder may be replaced
    with pytest.raises(InputError, match="holds other files"):
        bench.client.export(done, to=bench.folder / "model")
    assert left(bench) == []
    assert not (bench.home.job(done) / KEPT).exists()
