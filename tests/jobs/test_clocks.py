"""Hosts whose clocks are wrong, each in its own way, and jump while they train: nothing that a job
does depends on them."""

import os
import shutil
from pathlib import Path

import pytest

from sollol_tui.model.states import JobState
from tests.jobs.bench import Bench, until

WRONG_S = {"one": "20", "two": "-3600"}
# Every program of a payload imports its package first.
SHIM = """
import os, time
_told, _born = time.time, time.monotonic()
_wrong_s = float(os.environ.get("SOLLOL_TEST_WRONG_S", "0"))
time.time = lambda: _told() + _wrong_s - (7200 if time.monotonic() - _born > 1 else 0)
"""


def test_wrong_clocks_of_workers_change_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = tmp_path / "payload"
    shutil.copytree(os.environ["SOLLOL_PAYLOAD"], payload)
    with (payload / "remote" / "__init__.py").open("a") as package:
        package.write(SHIM)
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(payload))
    job = bench.submit(
        env={"SOLLOL_STUB_STEPS": "60", "SOLLOL_STUB_STEP_S": "0.05"},
        per_host={host: {"SOLLOL_TEST_WRONG_S": wrong} for host, wrong in WRONG_S.items()},
    )
    bench.reaches(job, JobState.RUNNING, JobState.FINISHING, JobState.DONE)
    etas = []
    until(lambda: etas.append(bench.view(job).eta_s) or bench.view(job).state.is_terminal, "an end")
    assert min((eta for eta in etas if eta is not None), default=0) >= 0
    view = bench.reaches(job, JobState.DONE)
    assert (view.step, view.world_size, view.samples_done) == (60, 2, 960)
    assert bench.started_agents(job) == ["one/log.agent.1", "two/log.agent.1"]
    said = bench.client.events(job)
    # What the hosts take for the time is far apart, and in between it went back.
    times = {host: [event.at for event in said if event.host == host] for host in WRONG_S}
    assert min(times["one"]) - min(times["two"]) > 1800
    assert all(max(told) - min(told) > 3600 for told in times.values())
    assert [event.seen_at for event in said] == sorted(event.seen_at for event in said)
    assert view.ended_at is not None
    assert view.started_at is not None
    assert 0 <= view.ended_at - view.started_at < 600
    assert bench.copies_are_equal(job)
    assert bench.left(job) == []
