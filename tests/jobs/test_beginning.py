"""A new job begins at a checkpoint of another one: at its cursor, with its weights, or not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs.beginning import Beginning, begin_from, misfit, other_samples, parse_step
from sollol_tui.jobs.checkpoints import beginning_folder, kept, kept_folder
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError, NotFoundError, StateError
from sollol_tui.model.job_file import changed
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from tests.jobs.samples import DATASET, add_job, plan
from tests.jobs.saved import write_checkpoint

SPEC = JobSpec(model="m", dataset="rows.jsonl")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def old(store: Store) -> str:
    """A job of which this machine keeps checkpoint-5, after 80 of its 160 samples."""
    job = add_job(store)
    cursor = {"samples_done": 80, "order": {"rows": 160, "epochs": 1, "global_batch": 16}}
    write_checkpoint(
        kept_folder(store.home, job),
        5,
        {
            "adapter_model.safetensors": b"weights",
            "adapter_config.json": b"{}",
            "optimizer.pt": b"moments",
            "cursor.json": json.dumps(cursor).encode(),
        },
    )
    return job


def changed_plan(**changes: Any) -> Plan:
    return replace(plan(), **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "other"}, "its weights were made with model m, and other is asked for"),
        ({"lora.r": 8}, "its weights were made with lora.r 32, and 8 is asked for"),
        ({"lora.target": ["q_proj"]}, r"its weights were made with lora.target all-linear"),
        ({"learning_rate": 1e-5, "workers": "w1", "epochs": 3, "lora.dropout": 0.1}, ""),
    ],
)
def test_weights_fit_only_the_adapter_that_they_were_made_for(
    changes: dict[str, Any], told: str
) -> None:
    assert misfit(SPEC, changed(SPEC, changes)).startswith(told)
    assert bool(misfit(SPEC, changed(SPEC, changes))) == bool(told)


@pytest.mark.parametrize(
    ("changes", "plans", "told"),
    [
        ({"learning_rate": 1e-5, "workers": "w1", "wire": "fp32"}, {}, ""),
        ({"epochs": 3}, {}, ""),
        ({"seed": 1}, {}, "seed was 42 and is 1"),
        ({"max_length": 99}, {}, "max_length was 512 and is 99"),
        ({}, {"global_batch": 32}, "global_batch was 16 and is 32"),
        ({}, {"dataset": replace(DATASET, sha256="1" * 64)}, "the data are others"),
        ({}, {"dataset": replace(DATASET, path="elsewhere.jsonl")}, ""),
    ],
)
def test_the_cursor_counts_only_where_the_next_sample_is_the_same(
    changes: dict[str, Any], plans: dict[str, Any], told: str
) -> None:
    new = changed(SPEC, changes)
    assert other_samples(SPEC, plan(), new, changed_plan(**plans), 80) == told


def test_after_a_short_last_step_a_longer_run_has_other_steps() -> None:
    longer = changed(SPEC, {"epochs": 2})
    assert "short one" in other_samples(SPEC, plan(), longer, plan(), 81)
    assert other_samples(SPEC, plan(), SPEC, plan(), 81) == ""


async def test_a_job_goes_on_at_the_cursor_of_another_ones_checkpoint(
    store: Store, old: str
) -> None:
    beginning = await begin_from(store, old, SPEC, plan())
    assert (beginning.step, beginning.samples_done, beginning.instead) == (5, 80, "")
    assert beginning.sentence == (
        f"goes on from checkpoint-5 of {old}: its weights and optimizer, after 80 samples"
    )
    new = add_job(store)
    beginning.lay(store.home, new)
    assert kept(store.home, new) == 5
    there = kept_folder(store.home, new) / "checkpoint-5"
    assert (there / "optimizer.pt").read_bytes() == b"moments"
    assert not beginning_folder(store.home, new).exists()
    assert kept(store.home, old) == 5  # the old one keeps its own


async def test_a_job_with_other_samples_begins_with_the_weights_alone(
    store: Store, old: str
) -> None:
    wide = changed_plan(global_batch=32)
    beginning = await begin_from(store, f"{old}:checkpoint-5", SPEC, wide)
    assert beginning.sentence == (
        f"begins with the weights of checkpoint-5 of {old} and the first sample, its optimizer "
        "anew, because global_batch was 16 and is 32"
    )
    new = add_job(store)
    beginning.lay(store.home, new)
    assert kept(store.home, new) is None
    folder = beginning_folder(store.home, new)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["source"] == f"checkpoint-5 of {old}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["manifest.json", *manifest["files"]]
    )
    assert "optimizer.pt" not in manifest["files"]


async def test_a_checkpoint_with_nothing_left_to_learn_is_refused(store: Store, old: str) -> None:
    kept_folder(store.home, old).rename(kept_folder(store.home, old).with_name("aside"))
    cursor = {"samples_done": 160, "order": {"rows": 160, "epochs": 1, "global_batch": 16}}
    write_checkpoint(kept_folder(store.home, old), 10, {"cursor.json": json.dumps(cursor).encode()})
    with pytest.raises(InputError, match="has learnt all of its 160 samples; set epochs higher"):
        await begin_from(store, f"{old}:10", SPEC, plan())
    longer = changed(SPEC, {"epochs": 2})
    assert (await begin_from(store, f"{old}:10", longer, plan())).instead == ""


async def test_what_is_no_checkpoint_is_refused_by_name(store: Store, old: str) -> None:
    with pytest.raises(NotFoundError, match="has no checkpoint-7; there are: 5"):
        await begin_from(store, f"{old}:7", SPEC, plan())
    with pytest.raises(InputError, match=r"lora\.r 32, and 8 is asked for"):
        await begin_from(store, old, changed(SPEC, {"lora.r": 8}), plan())
    for text in ("", "0", "-1", "x", "٣", "checkpoint-"):
        with pytest.raises(InputError, match="is no step"):
            parse_step(text)


async def test_a_beginning_that_cannot_be_laid_leaves_no_job(
    store: Store, old: str, tmp_path: Path
) -> None:
    gone = Beginning(job=old, step=5, folder=tmp_path / "gone", samples_done=80)

    def submit() -> None:
        with store.transaction():
            gone.lay(store.home, add_job(store))

    with pytest.raises(StateError, match="cannot be made: No such file"):
        submit()
    assert [row["id"] for row in store.connection.execute("SELECT id FROM jobs")] == [old]
