"""Copied event files become rows once, whatever is cut, repeated or garbage."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sollol_tui.jobs.ingest
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.ingest import Ingest
from sollol_tui.jobs.progress import Progress
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.view import read_snapshot
from tests.jobs.samples import INVENTORY, add_job, line, plan

FILE = "events.0.1.jsonl"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(open_home(tmp_path / "home")) as opened:
        yield opened


def restarted(store: Store, job: str) -> tuple[Ingest, Progress]:
    """What a supervisor has that has just been started."""
    progress = Progress(plan=plan(), generation=1)
    return Ingest(store, job, INVENTORY.file, progress), progress


def said(job: str, kind: str, slot: int | None, **data: Any) -> bytes:
    return line(kind, slot, job=job, **data)


def take(ingest: Ingest, file: str, path: Path) -> None:
    ingest.read("w1", file, path)
    ingest.store()


def notices(store: Store, job: str) -> list[int]:
    return [event.data["n"] for event in read_events(store, job, ["notice"])]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.tuples(st.integers(0, 1000), st.booleans(), st.booleans()), max_size=8))
def test_every_event_is_stored_once_however_the_file_grows_and_whoever_reads_it(
    store: Store, tmp_path: Path, cuts: list[tuple[int, bool, bool]]
) -> None:
    job, path = add_job(store), tmp_path / FILE
    whole = b"".join(said(job, "notice", 0, n=n) for n in range(5))
    ingest, progress = restarted(store, job)
    stored = 0
    for end, is_restart, is_stored in [*sorted(cuts), (len(whole), True, True)]:
        path.write_bytes(whole[:end])
        if is_restart:  # what the last one read and did not store is read again
            ingest, progress = restarted(store, job)
        ingest.read("w1", FILE, path)
        if is_stored:
            ingest.store()
            stored = whole[:end].count(b"\n")
        assert notices(store, job) == list(range(stored))
    assert progress.failures == []


def test_a_restart_knows_the_progress_again(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / FILE
    path.write_bytes(
        said(job, "ready", 0, world_size=2) + said(job, "step", 0, step=1, loss=4.0)
        + said(job, "step", 0, step=2, loss=3.0)
    )  # fmt: skip
    for _ in range(2):
        ingest, progress = restarted(store, job)
        take(ingest, FILE, path)
        assert progress.figures()["loss"] == 3.0
        assert progress.first_loss == 4.0
        assert set(progress.ready) == {0}
    assert [event.kind for event in read_events(store, job)] == ["ready"]


def test_garbage_between_events_is_passed_over(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / FILE
    rubbish = b"\xff\0\n{}\n[]\nnull\n{'v': 1}\n" + b"x" * 300_000 + b"\n\n\r\n"
    path.write_bytes(said(job, "notice", 0, n=0) + rubbish + said(job, "notice", 0, n=1) + b"{half")
    ingest, _ = restarted(store, job)
    take(ingest, FILE, path)
    take(ingest, FILE, path)
    assert notices(store, job) == [0, 1]


def test_a_line_without_an_end_does_not_hide_what_follows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sollol_tui.jobs.ingest, "_CHUNK", 4096)
    job, path = add_job(store), tmp_path / FILE
    path.write_bytes(said(job, "notice", 0, n=0) + b"x" * 20_000)
    ingest, _ = restarted(store, job)
    take(ingest, FILE, path)
    with path.open("ab") as file:
        file.write(b"y\n" + said(job, "notice", 0, n=1))
    take(ingest, FILE, path)
    assert notices(store, job) == [0, 1]


def test_nothing_is_taken_from_another_job_or_in_another_hosts_name(
    store: Store, tmp_path: Path
) -> None:
    job, path = add_job(store), tmp_path / FILE
    path.write_bytes(
        said("j-other", "failed", 0, error="no") + said(job, "failed", 0, error="no", host="w2")
        + said(job, "notice", 0, n=7)
    )  # fmt: skip
    ingest, progress = restarted(store, job)
    take(ingest, FILE, path)
    assert progress.failures == []
    assert [event.kind for event in read_events(store, job)] == ["notice"]


def test_who_says_too_much_fills_no_disk_and_is_still_heard(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sollol_tui.jobs.ingest, "MAX_STORED_BYTES", 20_000)
    job, path = add_job(store), tmp_path / FILE
    flood = b"".join(said(job, "notice", 0, n=n) for n in range(1000))
    for _ in range(3):
        with path.open("ab") as file:
            file.write(flood + said(job, "ready", 0, world_size=2))
        ingest, progress = restarted(store, job)
        take(ingest, FILE, path)
        assert 50 < len(notices(store, job)) < 200
        assert set(progress.ready) == {0}
    assert "w1 says too much" in caplog.text


def test_logs_are_not_events(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / "log.0.1"
    path.write_bytes(said(job, "failed", 0, error="no"))
    ingest, progress = restarted(store, job)
    take(ingest, "log.0.1", path)
    assert progress.failures == []


def test_a_hosts_metrics_are_its_newest_reading(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / "events.agent.1.jsonl"
    path.write_bytes(
        said(job, "host_metrics", None, cpu_percent=50.0, ram_used_bytes=1, ram_total_bytes=2,
             gpus=[{"index": 0, "name": "RTX\x1b[31m", "util_percent": 97}])
    )  # fmt: skip
    known = {"cpu_percent": 3.0, "cpu_cores": 8, "disk_free_bytes": 5, "gpus": []}
    store.note_reading(INVENTORY.file, "w1", state="up", reason="", data=known)
    take(restarted(store, job)[0], path.name, path)
    host = read_snapshot(store, INVENTORY).hosts[0]
    assert (host.state, host.cpu_percent, host.ram_used_bytes) == ("up", 50.0, 1)
    assert (host.cpu_cores, host.disk_free_bytes) == (8, 5), "of which it does not speak"
    assert (host.gpus[0].name, host.gpus[0].util_percent) == ("RTX", 97)


ODD = st.sampled_from([None, True, "x", -1, 1.5, 10**400, float("nan"), float("inf"), [], {}])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(odd=st.dictionaries(st.sampled_from(["index", "util_percent", "name", "temp_c"]), ODD))
def test_odd_metrics_neither_crash_nor_spoil_the_json(
    store: Store, tmp_path: Path, odd: dict[str, object]
) -> None:
    job, path = add_job(store), tmp_path / "events.agent.1.jsonl"
    path.write_bytes(said(job, "host_metrics", None, cpu_percent=odd.get("temp_c"), gpus=[odd, 5]))
    take(restarted(store, job)[0], path.name, path)
    json.dumps(read_snapshot(store, INVENTORY).as_data(), allow_nan=False)
