"""What jobs and the doctor measured is kept, and later plans find it."""

from typing import Any

import pytest

from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.ingest import Ingest
from sollol_tui.jobs.measured import Device, note_links, read_measured
from sollol_tui.jobs.progress import Progress
from sollol_tui.jobs.store import Store
from sollol_tui.model.links import Link
from tests.jobs.samples import INVENTORY, add_job, line, plan

RANKS = [
    {"slot": 0, "host": "w1", "samples_per_s": 3.0, "share": 0.75},
    {"slot": 1, "host": "w2", "samples_per_s": 1.0, "share": 0.25},
]


@pytest.fixture
def home(tmp_path: Any) -> Home:
    return open_home(tmp_path / "home")


def hear(store: Store, job: str, **speed: Any) -> None:
    """What a job's supervisor hears of both workers: ready, and how fast they are."""
    progress = Progress(plan=plan(), generation=1)
    ingest = Ingest(store, job, INVENTORY.file, progress)
    folder = store.home.job(job)
    folder.mkdir(parents=True, exist_ok=True)
    ready = {"tokens": 20_000, "rows": 100, "parameters": 1_000_000}
    for slot, host in enumerate(("w1", "w2")):
        name = f"events.{slot}.1.jsonl"
        lines = line("ready", slot, job=job, host=host, **ready)
        if slot == 0:
            lines += line("speed", slot, job=job, host=host, **{"step": 9, "ranks": RANKS} | speed)
        (folder / host).mkdir(exist_ok=True)
        (folder / host / name).write_bytes(lines)
    for slot, host in ((1, "w2"), (0, "w1")):
        name = f"events.{slot}.1.jsonl"
        ingest.read(host, name, folder / host / name)
    ingest.store()


def test_speeds_of_a_job_are_known_to_the_next_plan(home: Home) -> None:
    with Store(home) as store:
        job = add_job(store)
        hear(store, job)
        measured = read_measured(store, INVENTORY)
        speed = measured.speed(Device(host="w1", gpu=None), "m", None)
        assert speed is not None
        assert (speed.tokens_per_s, speed.parameters, speed.job) == (600.0, 1_000_000, job)
        assert measured.speed(Device(host="w1", gpu=0), "m", 1_000_000) is None
        assert measured.speed(Device(host="w1", gpu=None, cpu_cores=1), "m", 1_000_000) is None


def test_the_newest_speed_takes_the_place_of_an_older_one(home: Home) -> None:
    with Store(home) as store:
        hear(store, add_job(store))
        hear(store, later := add_job(store), ranks=[RANKS[0] | {"samples_per_s": 5.0}])
        measured = read_measured(store, INVENTORY)
        first = measured.speed(Device(host="w1", gpu=None), "m", None)
        second = measured.speed(Device(host="w2", gpu=None), "m", None)
        assert first is not None
        assert second is not None
        assert (first.tokens_per_s, first.job) == (1000.0, later)
        assert second.job != later


@pytest.mark.parametrize(
    "ranks",
    ["fast", [None, "x", {}], [{"slot": 7, "samples_per_s": 1.0}],
     [{"slot": 0, "samples_per_s": -1.0}], [{"slot": 0, "samples_per_s": 1e300}],
     [{"slot": 0, "samples_per_s": "1"}]],
)  # fmt: skip
def test_what_a_worker_says_amiss_is_not_kept(home: Home, ranks: Any) -> None:
    with Store(home) as store:
        hear(store, add_job(store), ranks=ranks)
        assert read_measured(store, INVENTORY).speeds == {}


SUMS = {
    "samples_per_s": 4.0, "step_s": 5.0, "adding_s": 1.0, "waiting_s": 0.0, "speedup": 1.0,
    "efficiency": 0.8, "sum_bytes": 1000,
}  # fmt: skip


def test_how_long_the_sums_of_a_jobs_hosts_took_is_known_to_the_next_plan(home: Home) -> None:
    with Store(home) as store:
        hear(store, add_job(store), **SUMS)
        hear(store, job := add_job(store), **SUMS | {"step_s": 8.0, "adding_s": 2.0})
        measured = read_measured(store, INVENTORY)
        [found] = measured.sums
        assert found == measured.sum_of(["w2", "w1"], 2)
        assert (found.hosts, found.sum_bytes, found.source) == (
            ("w1", "w2"),
            1000,
            f"measured in {job}",
        )
        # 32 samples: three quarters of them by a rank that computes 3 a second.
        assert (found.adding_s, found.rest_s) == (2.0, 0.0)
        assert measured.sum_of(["w1", "w2"], 3) is None
        assert measured.sum_of(["w1", "w3"], 2) is None


def test_the_doctors_last_word_of_a_link_is_kept(home: Home) -> None:
    links = [
        Link(origin="w1", target="w2", bytes_per_s=1e8, latency_s=0.001),
        Link(origin="w2", target="w1"),  # it could not be measured
    ]
    with Store(home) as store:
        note_links(store, INVENTORY, links)
        note_links(store, INVENTORY, [Link(origin="w1", target="w2", bytes_per_s=5e7)])
        assert read_measured(store, INVENTORY).links == {("w1", "w2"): (5e7, 0.0)}
