"""Copied event files become rows once, whatever is cut, repeated or garbage."""

import json
from collections.abc import Iterator
from pathlib import Path

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


def notices(store: Store, job: str) -> list[int]:
    return [event.data["n"] for event in read_events(store, job, ["notice"])]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=8))
def test_every_event_is_stored_once_however_the_file_grows_and_whoever_reads_it(
    store: Store, tmp_path: Path, cuts: list[tuple[int, bool]]
) -> None:
    job, path = add_job(store), tmp_path / FILE
    whole = b"".join(line("notice", 0, n=n) for n in range(5))
    ingest, progress = restarted(store, job)
    for end, is_restart in [*sorted(cuts), (len(whole), True)]:
        path.write_bytes(whole[:end])
        if is_restart:
            ingest, progress = restarted(store, job)
        ingest.read("w1", FILE, path)
        assert notices(store, job) == list(range(whole[:end].count(b"\n")))
    assert progress.failures == []


def test_a_restart_knows_the_progress_again(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / FILE
    path.write_bytes(
        line("ready", 0, world_size=2) + line("step", 0, step=1, loss=4.0)
        + line("step", 0, step=2, loss=3.0)
    )  # fmt: skip
    for _ in range(2):
        ingest, progress = restarted(store, job)
        ingest.read("w1", FILE, path)
        assert progress.figures()["loss"] == 3.0
        assert progress.first_loss == 4.0
        assert set(progress.ready) == {0}
    assert [event.kind for event in read_events(store, job)] == ["ready"]


def test_garbage_between_events_is_passed_over(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / FILE
    rubbish = b"\xff\0\n{}\n[]\nnull\n{'v': 1}\n" + b"x" * 300_000 + b"\n\n\r\n"
    path.write_bytes(line("notice", 0, n=0) + rubbish + line("notice", 0, n=1) + b"{half")
    ingest, _ = restarted(store, job)
    ingest.read("w1", FILE, path)
    ingest.read("w1", FILE, path)
    assert notices(store, job) == [0, 1]


def test_a_line_without_an_end_does_not_hide_what_follows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sollol_tui.jobs.ingest, "_CHUNK", 4096)
    job, path = add_job(store), tmp_path / FILE
    path.write_bytes(line("notice", 0, n=0) + b"x" * 20_000)
    ingest, _ = restarted(store, job)
    ingest.read("w1", FILE, path)
    with path.open("ab") as file:
        file.write(b"y\n" + line("notice", 0, n=1))
    ingest.read("w1", FILE, path)
    assert notices(store, job) == [0, 1]


def test_logs_are_not_events(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / "log.0.1"
    path.write_bytes(line("failed", 0, error="no"))
    ingest, progress = restarted(store, job)
    ingest.read("w1", "log.0.1", path)
    assert progress.failures == []


def test_a_hosts_metrics_are_its_newest_reading(store: Store, tmp_path: Path) -> None:
    job, path = add_job(store), tmp_path / "events.agent.1.jsonl"
    path.write_bytes(
        line("host_metrics", None, cpu_percent=50.0, ram_used_bytes=1, ram_total_bytes=2,
             gpus=[{"index": 0, "name": "RTX\x1b[31m", "util_percent": 97}])
    )  # fmt: skip
    restarted(store, job)[0].read("w1", path.name, path)
    host = read_snapshot(store, INVENTORY).hosts[0]
    assert (host.state, host.cpu_percent, host.ram_used_bytes) == ("up", 50.0, 1)
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
    path.write_bytes(line("host_metrics", None, cpu_percent=odd.get("temp_c"), gpus=[odd, 5]))
    restarted(store, job)[0].read("w1", path.name, path)
    json.dumps(read_snapshot(store, INVENTORY).as_data(), allow_nan=False)
