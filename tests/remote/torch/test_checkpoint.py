"""Checkpoint folders: whole or absent, verified, the newest few kept."""

import errno
import os
import pickle
from dataclasses import replace
from itertools import count

import pytest
import torch

from remote.checkpoint import Checkpoints, Snapshot, damage, write_folder
from tests.loop_disk import loop_disk
from tests.remote.torch.fixtures import files_below


def snapshot(step: int) -> Snapshot:
    return Snapshot(
        step=step,
        adapter={"a": torch.full((2,), float(step))},
        optimizer={"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": []},
        state={"global_step": step},
        cursor={"samples_done": 16 * step},
    )


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoints", 2, lambda folder: None)
    yield opened
    opened.close()


def save(checkpoints, *steps):
    outcomes = []
    for step in steps:
        checkpoints.save(snapshot(step), outcomes.append)
    checkpoints.wait()
    return outcomes


def test_what_was_saved_is_loaded_and_old_ones_go(checkpoints):
    outcomes = save(checkpoints, 9, 10, 11)
    assert outcomes == [checkpoints.path(step) for step in (9, 10, 11)]
    assert checkpoints.steps() == [11, 10]
    loaded = checkpoints.load(11)
    assert loaded.adapter["a"].tolist() == [11.0, 11.0]
    assert loaded.optimizer["state"][0]["step"] == 11
    assert (loaded.state, loaded.cursor) == ({"global_step": 11}, {"samples_done": 176})


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("adapter_model.safetensors", lambda data: data[:-1], "bytes where its manifest says"),
        ("optimizer.pt", lambda data: data[:-1] + b"!", "optimizer.pt does not have the sha256"),
        ("manifest.json", lambda data: data[:20], "manifest.json is not a manifest"),
        ("manifest.json", lambda data: b"[]", "manifest.json is not a manifest"),
    ],
)
def test_damage_is_found_and_named(checkpoints, file, change, reason):
    save(checkpoints, 1)
    folder = checkpoints.path(1)
    assert damage(folder) is None
    path = folder / file
    path.write_bytes(change(path.read_bytes()))
    assert reason in damage(folder)


def test_a_missing_file_is_damage(checkpoints):
    save(checkpoints, 1)
    (checkpoints.path(1) / "optimizer.pt").unlink()
    assert damage(checkpoints.path(1)) == "optimizer.pt cannot be read: No such file or directory"


def test_an_interrupted_write_leaves_the_old_folder_and_nothing_else(tmp_path):
    final = tmp_path / "result"
    write_folder(final, lambda folder: (folder / "a").write_text("old"))

    def fail(folder):
        (folder / "a").write_text("new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_folder(final, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert (final / "a").read_text() == "old"


@pytest.mark.parametrize("large", ["adapter", "optimizer"])
def test_a_disk_that_refuses_is_reported_and_the_next_save_works(checkpoints, large):
    numbers = torch.zeros(100_000)
    too_large = {"adapter": {"a": numbers}, "optimizer": {"state": {0: {"m": numbers}}}}
    outcomes = []
    with files_below(100_000):
        checkpoints.save(replace(snapshot(1), **{large: too_large[large]}), outcomes.append)
        checkpoints.wait()
    [outcome] = outcomes
    assert isinstance(outcome, OSError)
    assert outcome.errno == errno.EFBIG
    assert not [*checkpoints.path(1).parent.iterdir()]
    assert save(checkpoints, 2) == [checkpoints.path(2)]
    assert checkpoints.steps() == [2]


def test_a_later_checkpoint_without_which_the_run_began_does_not_cost_the_new_ones(checkpoints):
    save(checkpoints, 10, 30)
    (checkpoints.path(30) / "optimizer.pt").write_bytes(b"damaged")
    save(checkpoints, 15, 20)
    assert checkpoints.steps() == [20, 15]


def test_what_a_killed_writer_left_goes_with_the_next_save_and_not_before(tmp_path, checkpoints):
    left_over = tmp_path / "checkpoints" / ".checkpoint-3.tmp"
    left_over.mkdir()
    (left_over / "optimizer.pt").touch()
    Checkpoints(tmp_path / "checkpoints", 2, lambda folder: None).close()
    assert left_over.exists()  # another rank of the host may be writing it
    save(checkpoints, 4)
    assert not left_over.exists()


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_pickled_optimizer_is_never_executed(checkpoints):
    save(checkpoints, 1)
    (checkpoints.path(1) / "optimizer.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.load(1)


def test_a_power_loss_in_the_middle_of_a_save_costs_none_that_was_reported(tmp_path, monkeypatch):
    """All that was not flushed is lost, at each of the moments at which something is."""
    flush, flushes_left = os.fsync, 0
    with loop_disk(tmp_path, 16 * 1024**2) as disk:

        def fsync(descriptor):
            nonlocal flushes_left
            flushes_left -= 1
            if flushes_left == 0:
                disk.fails()
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        for moment in count(1):
            opened = Checkpoints(disk.folder / "checkpoints", 2, lambda folder: None)
            assert save(opened, 2 * moment) == [opened.path(2 * moment)]
            flushes_left = moment
            (outcome,) = save(opened, 2 * moment + 1)
            opened.close()
            if outcome == opened.path(2 * moment + 1):
                break  # it was over before
            disk.is_there_again()
            assert 2 * moment in opened.steps()
            assert {damage(opened.path(step)) for step in opened.steps()} == {None}
    assert moment > 6, "a save flushes its files, their folder and its parent"
