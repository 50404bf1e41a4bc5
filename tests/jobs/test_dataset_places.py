"""A dataset that is no single file: a folder or a pattern travels whole, what is on the hub stays
there, and the plan says what only a worker can know."""

import asyncio
import json
from pathlib import Path

import pytest

from sollol_tui.jobs.dataset import check_dataset, locate_dataset
from sollol_tui.model.errors import InputError
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, write_rows


@pytest.fixture
def parts(bench: Bench) -> Path:
    folder = bench.folder / "parts"
    (folder / "more").mkdir(parents=True)
    write_rows(folder / "a.jsonl", 20)
    write_rows(folder / "more" / "b.jsonl", 30)
    (folder / "README.md").write_text("no rows")
    return folder


def test_the_files_of_a_pattern_are_sent_as_one_dataset(bench: Bench, parts: Path) -> None:
    one_step = {"SOLLOL_STUB_STEPS": "1"}
    job = bench.submit(env=one_step, dataset=str(parts / "**" / "*.jsonl"), workers="one")
    bench.reaches(job, JobState.DONE)
    there = Path(json.loads((bench.run_dir(job, "one") / "run.json").read_bytes())["dataset"])
    assert there.parent.name == asyncio.run(check_dataset(parts, "auto")).sha256
    assert there.parent.parent == bench.workdirs / "one" / "datasets"
    sent = {path.relative_to(there).as_posix(): path for path in there.rglob("*.*")}
    assert sorted(sent) == ["a.jsonl", "more/b.jsonl"]
    assert all((parts / name).read_bytes() == path.read_bytes() for name, path in sent.items())


def test_a_folder_counts_as_all_of_its_files(bench: Bench, parts: Path) -> None:
    bench.lay_out({}, {})
    plan = asyncio.run(bench.client.prepare_job(bench.spec(dataset=str(parts)))).plan
    assert (plan.rows, plan.dataset.files) == (50, ("a.jsonl", "more/b.jsonl"))
    assert "50 rows in 2 files (alpaca)" in plan.lines("model", 8, 1)[0]


def test_what_only_a_worker_can_read_is_said_in_the_plan(bench: Bench) -> None:
    bench.lay_out({}, {})
    (bench.folder / "rows.parquet").write_bytes(b"PAR1")
    for dataset in ("hub:org/name@main:train", str(bench.folder / "rows.parquet")):
        spec = bench.spec(dataset=dataset, global_batch="auto")
        lines = asyncio.run(bench.client.prepare_job(spec)).plan.lines("model", 8, 1)
        assert f"{dataset}: read and checked on a worker" in lines[0]
        assert any("only a worker can count the rows" in line for line in lines)


@pytest.mark.parametrize(
    "text", ["hub:", "hub:a/b/c", "hub:../x", "hub:a b", "hub:a@", "hub:a:b:c"]
)
def test_a_name_that_the_hub_cannot_have_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="is not hub:NAME"):
        locate_dataset(text, tmp_path)
