"""Job files, flags and `--set`: the same keys everywhere, and every mistake with its place."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sollol_tui.model.errors import InputError
from sollol_tui.model.job_file import parse_job_file, parse_setting, spec_from_data
from sollol_tui.model.other_trainers import ALIASES, FOREIGN
from sollol_tui.model.spec import JobSpec, job_keys

WHOLE = b"""\
name: code-alpaca-tiny
model: ./model
dataset: ./data/code_alpaca.jsonl
format: auto
epochs: 2
global_batch: auto
batch_size: 4
max_length: 256
learning_rate: 2.0e-4
lora: {r: 16, alpha: 32, dropout: 0.1, target: [q_proj, v_proj]}
mode: data_parallel
workers: all
engine: auto
wire: bf16
save_steps: 100
save_total_limit: 2
output_dir: ./out/{name}-{id}
"""


def test_a_job_file_is_read_and_what_it_leaves_out_has_the_seeds_defaults() -> None:
    spec = parse_job_file(WHOLE, "t.yml")
    assert (spec.name, spec.epochs, spec.batch_size, spec.lora.r) == ("code-alpaca-tiny", 2, 4, 16)
    assert spec.lora.target == ["q_proj", "v_proj"]
    plain = spec_from_data({"model": "m", "dataset": "d"})
    assert (plain.epochs, plain.batch_size, plain.max_length) == (1, 1, 512)
    assert (plain.lora.r, plain.lora.alpha, plain.workers) == (32, 64, "all")


@pytest.mark.parametrize("text", ["2e-4", "2.0e-4", "0.0002"])
def test_a_learning_rate_is_a_number_however_it_is_written(text: str) -> None:
    spec = parse_job_file(f"model: m\ndataset: d\nlearning_rate: {text}\n".encode(), "t.yml")
    assert spec.learning_rate == 2e-4
    assert spec_from_data(
        {"model": "m", "dataset": "d", **dict([parse_setting(f"lr={text}")])}
    ) == (spec)


def test_flags_are_stronger_than_the_file_and_leave_its_other_keys() -> None:
    spec = parse_job_file(WHOLE, "t.yml", {"epochs": 5, "lora.r": 8, "lora_alpha": 3.0})
    assert (spec.epochs, spec.lora.r, spec.lora.alpha, spec.lora.dropout) == (5, 8, 3.0, 0.1)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("sample_packing: true", "packing", True),
        ("val_set_size: 0.05", "val_size", 0.05),
        ("bnb_4bit_quant_type: nf4", "quantize", "nf4"),
        ("per_device_train_batch_size: auto", "batch_size", "auto"),
        ("eval_steps: auto", "eval_steps", "auto"),
    ],
)
def test_training_keys_have_the_names_that_other_trainers_gave_them(
    line: str, key: str, value: object
) -> None:
    spec = parse_job_file(f"model: m\ndataset: d\n{line}\n".encode(), "t.yml")
    assert getattr(spec, key) == value


def test_names_of_other_trainers_mean_the_same() -> None:
    told = {"base_model": "m", "dataset": "d", "num_epochs": 3, "cutoff_len": 99, "lora_r": 4}
    spec = spec_from_data(told)
    assert (spec.model, spec.epochs, spec.max_length, spec.lora.r) == ("m", 3, 99, 4)
    assert set(ALIASES.values()) <= set(job_keys())


def complaint(text: str) -> str:
    with pytest.raises(InputError) as refusal:
        parse_job_file(text.encode(), "t.yml")
    return str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batchsize: 4\n", "t.yml:3:1  unknown key 'batchsize' - did you mean 'batch_size'?"),
        ("lora: {rank: 4}\n", "t.yml:3:8  unknown key 'rank' - "),
        ("lora: {r: 0}\n", "t.yml:3:8  r: "),
        ("epochs: many\n", "t.yml:3:1  epochs: "),
        ("mode: parallel\n", "t.yml:3:1  mode: "),
        ("global_batch: some\n", "t.yml:3:1  global_batch: "),
        ("epochs: 1\nnum_epochs: 2\n", "t.yml:4:1  'num_epochs' is another name of 'epochs'"),
        ("lora_r: 8\nlora: {r: 4}\n", "t.yml:3:1  'lora_r' is another name of 'lora.r'"),
        ("lora_rank: 8\nlora_r: 4\n", "t.yml:4:1  'lora_r' is another name of 'lora.r'"),
        ("epochs: 1\nlr_scheduler_type: polynomial\n", "t.yml:4:1  schedule: "),
        ("epochs: 1\nlora_rank: 0\n", "t.yml:4:1  r: "),
        ("lora: {target: []}\n", "t.yml:3:8  target: "),
        (
            "global_batch: 8\ngradient_accumulation_steps: 4\n",
            "t.yml:4:1  gradient_accumulation_steps and global_batch both say",
        ),
        (
            "batch_size: auto\ngradient_accumulation_steps: 4\n",
            "t.yml:4:1  gradient_accumulation_steps needs a number as batch_size",
        ),
        ("learning_rate: -1\n", "t.yml:3:1  learning_rate: "),
        ("learning_rate: .nan\n", "t.yml:3:1  learning_rate: "),
        ("max_grad_norm: .inf\n", "t.yml:3:1  max_grad_norm: "),
        ("lora: 5\n", "t.yml:3:1  lora: "),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, said: str) -> None:
    assert said in complaint(f"model: m\ndataset: d\n{text}")


def test_what_is_missing_is_named() -> None:
    assert "lacks the key 'dataset'" in complaint("model: m\n")


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("lr_scheduler_type: constant_with_warmup", "schedule", "constant"),
        ("load_in_4bit: true", "quantize", "nf4"),
        ("load_in_4bit: true\nbnb_4bit_quant_type: nf4\nadapter: qlora", "quantize", "nf4"),
        ("load_in_4bit: false\nload_in_8bit: false\nadapter: lora", "quantize", "none"),
        ("warmup_steps: 10", "warmup_steps", 10),
        ("num_train_epochs: 3.0", "epochs", 3),
        ("bf16: auto\nfp16: false\ntf32: false\noptim: adamw_torch", "seed", 42),
        ("micro_batch_size: 2", "batch_size", 2),
        ("chat_template:\ndeepspeed: null", "seed", 42),
        ("optimizer: adamw_torch\neval_sample_packing: true", "seed", 42),
        ("max_grad_norm: 0", "max_grad_norm", 0.0),
    ],
)
def test_pasted_settings_of_other_trainers_are_followed(
    lines: str, key: str, value: object
) -> None:
    spec = parse_job_file(f"model: m\ndataset: d\n{lines}\n".encode(), "t.yml")
    assert getattr(spec, key) == value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("load_in_8bit: true", "t.yml:3:1  load_in_8bit: a base is held whole or in 4 bits"),
        ("fp16: true", "t.yml:3:1  fp16: each device computes in bf16 where"),
        ("optim: lion_8bit", "t.yml:3:1  optim: AdamW (adamw_torch_fused) is the optimizer"),
        ("datasets: [{path: a}]", "t.yml:3:1  datasets: write dataset: and a file"),
        ("use_dora: true", "t.yml:3:1  use_dora: adapters are plain LoRA"),
        ("warmup_steps: 5\nwarmup_ratio: 0.1", "t.yml:3:1  warmup_steps and warmup_ratio both"),
        ("lr_scheduler_type: cosine_with_restarts", "not 'cosine_with_restarts'"),
        ("load_in_4bit: true\nquantize: none", "t.yml:3:1  'load_in_4bit' is another name of"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(line: str, said: str) -> None:
    assert said in complaint(f"model: m\ndataset: d\n{line}\n")


def test_all_that_is_wrong_with_a_pasted_file_is_told_at_once() -> None:
    pasted = """
    model_name_or_path: m
    datasets: [{path: a}]
    overwrite_cache: true
    resume_from_checkpoint: null
    optimizer: adamw_8bit
    saves_per_epoch: 1
    nonsense: 1
    lora_r: 0
    """
    said = complaint("".join(f"{line.strip()}\n" for line in pasted.strip().splitlines()))
    assert [line.split("  ")[0] for line in said.splitlines()] == [
        f"t.yml:{number}:1" for number in (2, 3, 5, 6, 7, 8)
    ]
    assert "lacks" not in said
    assert "unknown key 'nonsense'" in said


def test_other_words_work_as_flags_and_from_python() -> None:
    told = dict([parse_setting("load_in_4bit=true")])
    spec = spec_from_data({"model": "m", "dataset": "d", **told})
    assert spec.quantize == "nf4"
    assert parse_job_file(b"model: m\ndataset: d\nquantize: none\n", "t.yml", told) == spec
    with pytest.raises(InputError, match="load_in_8bit: a base is held whole"):
        spec_from_data({"model": "m", "dataset": "d", "load_in_8bit": True})


def test_a_mistake_on_the_command_line_has_no_line_number() -> None:
    with pytest.raises(InputError) as refusal:
        spec_from_data({"model": "m", "dataset": "d", "epochs": 0}, "command line")
    assert str(refusal.value).startswith("command line  epochs: ")


def test_a_mistake_of_a_flag_is_not_blamed_on_the_file() -> None:
    with pytest.raises(InputError) as refusal:
        parse_job_file(b"model: m\ndataset: d\n", "t.yml", {"epochs": 0})
    assert ":1:1" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("lora.target=[q_proj]", "lora.target", ["q_proj"]),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", None),
        ("name={", "name", "{"),
        ("lr=2e-4", "lr", 2e-4),
    ],
)
def test_a_setting_is_read_as_yaml(text: str, key: str, value: object) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs", "--set  'epochs' is not KEY=VALUE"),
        ("=3", "--set  '=3' is not KEY=VALUE"),
        ("epoch=3", "--set  unknown key 'epoch' - did you mean 'epochs'?"),
        ("lora.rank=3", "--set  unknown key 'lora.rank'"),
    ],
)
def test_a_setting_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_setting(text)
    assert said in str(refusal.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*job_keys(), *ALIASES, *FOREIGN, "lora", "x"]), VALUES, max_size=6
    )
)
def test_no_data_crashes_the_reader(data: dict[str, object]) -> None:
    with suppress(InputError):
        assert isinstance(spec_from_data(data), JobSpec)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(job_keys()), st.text(max_size=30))
def test_no_setting_crashes_the_reader(key: str, value: str) -> None:
    with suppress(InputError):
        parse_setting(f"{key}={value}")


def test_a_spec_survives_the_state() -> None:
    spec = parse_job_file(WHOLE, "t.yml")
    assert spec_from_data(spec.as_data()) == spec


@pytest.mark.parametrize(
    ("rows", "epochs", "size"), [(1, 1, 16), (20_000, 1, 16), (64_000, 1, 64), (621_000, 3, 128)]
)
def test_the_global_batch_comes_from_the_data_alone(rows: int, epochs: int, size: int) -> None:
    spec = JobSpec(model="m", dataset="d", epochs=epochs)
    assert spec.resolved_global_batch(rows, 1) == spec.resolved_global_batch(rows, 7) == size
