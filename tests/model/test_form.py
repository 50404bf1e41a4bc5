"""The form of a job says what a job file says, in as many fields as that has keys."""

import pytest

from sollol_tui.model.errors import InputError
from sollol_tui.model.form import (
    MAIN,
    file_of_form,
    form_of_file,
    form_of_spec,
    job_fields,
    spec_of_form,
    value_of,
)
from sollol_tui.model.job_file import parse_job_file
from sollol_tui.model.spec import JobSpec, Lora, Resources, job_keys

FEWEST = {"model": "./model", "dataset": "rows.jsonl"}


def problems(typed: dict[str, str]) -> dict[str, str]:
    with pytest.raises(InputError) as refused:
        spec_of_form(typed)
    return {problem.file: problem.message for problem in refused.value.problems}


def test_every_key_of_a_job_file_is_a_field_with_its_sentence() -> None:
    fields = {field.key: field for field in job_fields()}
    assert set(job_keys()) <= set(fields)
    assert all(field.about.endswith(".") for field in fields.values())
    assert set(MAIN) <= set(fields)
    assert [key for key, field in fields.items() if field.is_required] == ["model", "dataset"]


def test_choices_and_defaults_are_those_of_the_spec() -> None:
    fields = {field.key: field for field in job_fields()}
    assert fields["wire"].choices == ("bf16", "fp32")
    assert fields["packing"].choices == ("auto", "true", "false")
    assert fields["engine"].default == JobSpec(model="m", dataset="d").engine.value
    assert fields["lora.r"].default == str(Lora().r)
    assert fields["epochs"].choices == ()


def test_an_empty_form_asks_for_model_and_dataset_and_nothing_else() -> None:
    assert set(problems({})) == {"model", "dataset"}
    assert spec_of_form(FEWEST) == JobSpec(model="./model", dataset="rows.jsonl")


@pytest.mark.parametrize(
    ("key", "typed", "words"),
    [
        ("epochs", "0", "greater than or equal to 1"),
        ("lora.r", "many", "write a whole number"),
        ("resources.gpu_ids", "[0", "write a list"),
        ("learning_rate", "1e9", "less than or equal to 10"),
        ("global_batch", "big", "'big'"),
        ("notify.bell", "loud", "write true or false"),
    ],
)
def test_what_cannot_be_is_told_of_its_field(key: str, typed: str, words: str) -> None:
    assert words in problems({**FEWEST, key: typed})[key]
    assert list(problems({**FEWEST, key: typed})) == [key]
    assert set(problems({key: typed})) == {"model", "dataset", key}


def test_two_fields_that_contradict_each_other_are_told_of_one() -> None:
    typed = {**FEWEST, "warmup_steps": "3", "warmup_ratio": "0.5"}
    assert "keep one" in problems(typed)["warmup_steps"]


def test_a_text_is_taken_as_it_is_typed() -> None:
    spec = spec_of_form({**FEWEST, "name": "yes # no", "workers": "3", "lora.target": "[q, v]"})
    assert (spec.name, spec.workers, spec.lora.target) == ("yes # no", "3", ["q", "v"])
    assert value_of("format", "{prompt: a, completion: b}") == {"prompt": "a", "completion": "b"}
    assert value_of("format", "") == "auto"


def test_a_spec_fills_the_form_from_which_it_came() -> None:
    spec = JobSpec(
        model="m",
        dataset="d: x # y",
        learning_rate=2e-5,
        lora=Lora(r=8, target=["q", "v"]),
        resources=Resources(gpu_ids=()),
        sample_prompts=["two\nlines", "ünï"],
        format={"prompt": "question"},
    )
    typed = form_of_spec(spec)
    assert typed["lora.r"] == "8"
    assert "epochs" not in typed
    assert all("\n" not in text for text in typed.values())
    assert spec_of_form(typed) == spec
    assert parse_job_file(file_of_form(typed).encode(), "job.yaml") == spec


def test_a_job_file_in_the_words_of_others_fills_the_form() -> None:
    theirs = b"base_model: org/m\ndataset: d\nlora_r: 4\nload_in_4bit: true\nnum_epochs: 2\n"
    assert form_of_file(theirs, "pasted") == {
        "model": "org/m",
        "dataset": "d",
        "epochs": "2",
        "lora.r": "4",
        "quantize": "nf4",
    }
