"""From a spec to a job: what is wrong is said before anything starts, and nothing is changed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs.dataset import check_dataset, resolve_model
from sollol_tui.model.errors import InputError, NotFoundError, NoWorkersError
from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, supervisors, write_model, write_rows

HOSTILE = ["~nobody-here/x", "a\0b", "x/" * 3000, "\ud800"]


def refuse(bench: Bench, error: type[Exception], **settings: Any) -> str:
    """The sentence with which a job is refused; nothing may have come of it."""
    with pytest.raises(error) as refusal:
        bench.submit(**settings)
    assert bench.client.list_jobs() == []
    assert supervisors(bench.home) == []
    return str(refusal.value)


def test_a_broken_row_is_told_with_its_number_and_reason(bench: Bench) -> None:
    rows = bench.folder / "rows.jsonl"
    lines = rows.read_text().splitlines()
    lines[6] = '{"instruction": "say", "output": 5}'
    lines[11] = "{broken"
    rows.write_text("\n".join(lines))
    said = refuse(bench, InputError)
    assert "rows.jsonl  row 7, column 'output': " in said
    assert "rows.jsonl  row 12: " in said


def test_of_many_broken_rows_the_first_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n' + "{\n" * 50)
    with pytest.raises(InputError, match="and 30 more problems") as refusal:
        asyncio.run(check_dataset(tmp_path / "rows.jsonl", "auto"))
    assert len(refusal.value.problems) == 21


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no rows"), ('{"a": 1}\n', "a"), ('{"chosen": "a", "rejected": "b"}\n', "chosen")],
)
def test_a_dataset_that_cannot_be_learnt_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        asyncio.run(check_dataset(tmp_path / "rows.jsonl", "auto"))


def test_a_dataset_is_counted_and_hashed(tmp_path: Path) -> None:
    facts = asyncio.run(check_dataset(write_rows(tmp_path / "rows.jsonl", 7), "auto"))
    assert (facts.rows, facts.format, len(facts.sha256)) == (7, "alpaca", 64)
    assert facts.size_bytes == (tmp_path / "rows.jsonl").stat().st_size


def test_a_dataset_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no dataset .*rows\.jsonl"):
        asyncio.run(check_dataset(tmp_path / "rows.jsonl", "auto"))
    with pytest.raises(InputError, match="holds no file of rows"):
        asyncio.run(check_dataset(tmp_path, "auto"))


def test_a_model_folder_that_is_none_is_told_with_what_it_lacks(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    assert resolve_model("./model", tmp_path) == str(folder)
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"it lacks \*\.safetensors, tokenizer\.json"):
        resolve_model("model", tmp_path)
    with pytest.raises(NotFoundError, match="no model folder"):
        resolve_model("./absent", tmp_path)


@pytest.mark.parametrize(
    ("config", "said"), [("{", "is not JSON"), ('{"auto_map": {}}', "brings its own code")]
)
def test_a_models_config_must_be_readable_and_bring_no_code(
    tmp_path: Path, config: str, said: str
) -> None:
    (write_model(tmp_path / "model") / "config.json").write_text(config)
    with pytest.raises(InputError, match=said):
        resolve_model("model", tmp_path)


def test_a_hub_id_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve_model("TinyLlama/TinyLlama-1.1B", tmp_path) == "TinyLlama/TinyLlama-1.1B"
    with pytest.raises(InputError, match="is neither a folder nor a model id"):
        resolve_model("a b; rm", tmp_path)


@pytest.mark.parametrize("key", ["model", "dataset", "output_dir"])
@pytest.mark.parametrize("text", HOSTILE)
def test_what_no_file_system_takes_is_refused(bench: Bench, key: str, text: str) -> None:
    refuse(bench, InputError, **{key: text})


def test_the_output_of_a_live_job_is_refused(bench: Bench) -> None:
    out = str(bench.folder / "out")
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"}, workers="one", output_dir=out)
    with pytest.raises(InputError, match=f"output_dir  .*/out is where {job} will put"):
        bench.submit(workers="two", output_dir=out)


def test_an_output_that_cannot_be_is_refused_before_anything_starts(bench: Bench) -> None:
    assert "rows.jsonl is a file" in refuse(
        bench, InputError, output_dir=str(bench.folder / "rows.jsonl")
    )


def test_hosts_that_cannot_take_part_are_told_with_reasons(bench: Bench) -> None:
    with pytest.raises(NoWorkersError, match="3 workers wanted, 2 suitable now"):
        bench.submit(workers="3")
    assert bench.client.list_jobs() == []


def test_a_pattern_that_fits_nobody_is_refused(bench: Bench) -> None:
    said = refuse(bench, NotFoundError, workers="three")
    assert "no host or group fits 'three'" in said


def test_a_busy_host_is_refused_with_the_job_that_holds_it_to_who_does_not_wait(
    bench: Bench,
) -> None:
    job = bench.submit(env={"SOLLOL_STUB_STEPS": "100000"}, workers="one")
    with pytest.raises(NoWorkersError) as refusal:
        asyncio.run(bench.client.prepare_job(bench.spec(workers="one"), queue=False))
    assert refusal.value.reasons["one"] == f"in use by {job}"
    assert bench.view(job).state is not JobState.FAILED


def test_of_two_plans_for_one_host_the_second_waits_or_is_refused(bench: Bench) -> None:
    bench.lay_out({"SOLLOL_STUB_STEPS": "100000"}, {})
    waits, also, hurried = (
        asyncio.run(bench.client.prepare_job(bench.spec(workers="one"), queue=queue))
        for queue in (True, True, False)
    )
    first = bench.client.start_job(also)
    with pytest.raises(NoWorkersError, match=f"host one is in use by {first.id}"):
        bench.client.start_job(hurried)
    assert len(bench.client.list_jobs()) == 1
    second = bench.client.start_job(waits)
    assert (second.state, second.workers) == (JobState.QUEUED, ())
    assert f"host one is in use by {first.id}" in second.reason


def test_a_job_is_stored_as_it_was_planned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.lay_out({}, {})
    monkeypatch.chdir(bench.folder)
    asked = {"model": "model", "dataset": "rows.jsonl", "workers": "one,two"}
    asked |= {"batch_size": "2", "gradient_accumulation_steps": "3"}
    spec = asyncio.run(bench.client.prepare_job(asked)).spec
    assert Path(spec.model) == (bench.folder / "model").resolve()
    assert Path(spec.dataset) == bench.folder / "rows.jsonl"
    assert (spec.global_batch, spec.gradient_accumulation_steps) == (12, None)


@pytest.mark.parametrize("name", ["../../etc", "-rf", "a b\x1b[31m", "", "日本", "x" * 500])
def test_any_name_becomes_one_that_a_folder_can_have(bench: Bench, name: str) -> None:
    bench.lay_out({}, {})
    spec = {"model": str(bench.folder / "model"), "dataset": str(bench.folder / "rows.jsonl")}
    if not name:
        with pytest.raises(InputError):
            asyncio.run(bench.client.prepare_job({**spec, "name": name}))
        return
    prepared = asyncio.run(bench.client.prepare_job({**spec, "name": name, "workers": "one"}))
    assert "/" not in prepared.name
    assert prepared.name[0] not in ".-"
    assert prepared.name.isprintable()
    assert 0 < len(prepared.name) <= 60
