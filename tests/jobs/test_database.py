"""A state of an earlier version is brought to this one's shape, with what is in it; and what is in
one survives a power loss."""

import json
import sqlite3
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import pytest

from sollol_tui.jobs.database import VERSION
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.queue import take_turn
from sollol_tui.jobs.records import dump
from sollol_tui.jobs.roster import membership_requests
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.view import read_jobs
from sollol_tui.model.errors import StateError
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from tests.jobs.samples import INVENTORY, add_job, plan
from tests.loop_disk import loop_disk


def write_version_1(home: Home) -> None:
    """What a version 1 left: a job that ran, one that was just submitted, and one that is done."""
    spec = asdict(JobSpec(model="m", dataset="rows.jsonl"))
    del spec["resources"]
    with sqlite3.connect(home.database) as database:
        database.executescript(
            resources.files("sollol_tui.jobs").joinpath("schema.sql").read_text()
        )
        told = (json.dumps(spec), dump(plan()), dump(INVENTORY))
        for job, state, generation in (
            ("j-1", "running", 1),
            ("j-2", "queued", 0),
            ("j-3", "done", 2),
        ):
            database.execute(
                "INSERT INTO jobs (id, nonce, name, state, spec, plan, inventory, model, dataset,"
                " output_dir, generation, created_at, updated_at, step, loss)"
                " VALUES (?, 'n', 'tiny', ?, ?, ?, ?, 'm', 'rows.jsonl', ?, ?, 1, 1, 7, 1.5)",
                (job, state, *told, f"out/{job}", generation),
            )
        database.executemany(
            "INSERT INTO leases VALUES (?, ?)", [("host w1", "j-1"), ("host w2", "j-2")]
        )
        database.execute(
            "INSERT INTO workers (job, host, position, state, slots) VALUES"
            " ('j-1', 'w1', 0, 'training', '[0]')"
        )
        database.execute("PRAGMA user_version = 1")
    database.close()


def test_a_state_of_version_1_is_taken_over(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    write_version_1(home)
    with Store(home) as store:
        assert store.connection.execute("PRAGMA user_version").fetchone()[0] == VERSION
        # Who had its leases without running yet does not wait.
        assert [store.job(job).state for job in ("j-1", "j-2", "j-3")] == [
            *(JobState.RUNNING, JobState.PLANNING, JobState.DONE),
        ]
        assert store.leases.held() == {"host w1": "j-1", "host w2": "j-2"}
        assert store.given_slots("j-1") == {("w1", None): 0, ("w2", None): 1}
        assert store.given_slots("j-2") == {}
        assert {(job.id, job.step, job.loss) for job in read_jobs(store)} == {
            *(("j-1", 7, 1.5), ("j-2", 7, 1.5), ("j-3", 7, 1.5)),
        }
        new = add_job(store)
        assert store.job(new).turn > store.job("j-1").turn
        take_turn(store, new, plan("w3"))
        store.move_job("j-1", JobState.PAUSING)
        store.move_job("j-1", JobState.PAUSED)
    with Store(home) as store:  # opened again, nothing is done twice
        assert store.leases.held() == {"host w2": "j-2", "host w3": new}


def test_what_was_asked_of_a_job_in_version_2_is_still_asked(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    write_version_1(home)
    with sqlite3.connect(home.database) as database:
        script = resources.files("sollol_tui.jobs").joinpath("schema_2.sql").read_text()
        database.executescript(script)
        database.execute(
            "INSERT INTO requests (job, kind, created_at) VALUES ('j-1', 'pause', 1.0)"
        )
        database.execute("PRAGMA user_version = 2")
    database.close()
    with Store(home) as store:
        assert store.open_requests("j-1") == ["pause"]
        assert membership_requests(store, "j-1") == []
        store.add_request("j-1", "pause")
        store.add_request("j-1", "join", "w3")
        assert store.open_requests("j-1") == ["pause", "join"]
        assert [(w.host, w.tries, w.tried_at) for w in store.workers("j-1")] == [("w1", 0, None)]


def test_a_new_state_and_a_migrated_one_have_the_same_shape(tmp_path: Path) -> None:
    old, new = open_home(tmp_path / "old"), open_home(tmp_path / "new")
    write_version_1(old)
    shapes = []
    for home in (old, new):
        with Store(home) as store:
            rows = store.connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name")
            shapes.append([tuple(row) for row in rows])
    assert shapes[0] == shapes[1]


def test_what_was_stored_before_a_power_loss_is_there_after_it(tmp_path: Path) -> None:
    """All that was not flushed is lost."""
    with loop_disk(tmp_path, 16 * 1024**2) as disk:
        home = open_home(disk.folder / "home")
        with Store(home) as store:
            jobs = [add_job(store) for _ in range(3)]
            disk.fails()
            with pytest.raises(StateError, match="cannot be written"):
                add_job(store)
        disk.is_there_again()
        with Store(home) as store:
            assert [store.job(job).state for job in jobs] == [JobState.QUEUED] * 3
