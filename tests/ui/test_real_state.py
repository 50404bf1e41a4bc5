"""The screen in front of the real client, its SQLite state, real log files and embedded hosts."""

from pathlib import Path

import pytest

import sollol_tui.client
from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs.store import Store
from sollol_tui.model.plan import DatasetFacts, Plan, PlannedRank, PlannedWorker
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState
from tests.ui.pilot import driven

PLAN = Plan(
    workers=(
        PlannedWorker(host="one", address="127.0.0.1", accelerator="cpu", share=1.0,
                      ranks=(PlannedRank(slot=0, gpu=None),)),
    ),
    engine="static", global_batch=16, max_steps=10, rows=160, ports=(29500, 29549), left_out={},
    dataset=DatasetFacts(path="rows.jsonl", format="alpaca", rows=160, sha256="0" * 64,
                         size_bytes=1, mean_chars=10),
)  # fmt: skip


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SOLLOLClient:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(f"hosts:\n  one: {{connection: local, workdir: {tmp_path}/one}}\n")
    # The jobs of this test are rows only; nothing has to look after them.
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: None)
    return SOLLOLClient(inventory, home=tmp_path / "home")


async def test_what_another_process_writes_comes_to_the_screen(client: SOLLOLClient) -> None:
    supervisor = Store(client.home)
    async with driven(client) as screen:
        await screen.sees("no jobs yet")
        await screen.sees("one")
        await screen.until(lambda: "1/1 hosts up" in screen.text)  # asked over the embedded SSH
        job = supervisor.add_job(
            spec=JobSpec(model="m", dataset="rows.jsonl"), plan=PLAN, model="m", name="tiny",
            inventory=client.inventory(), dataset="rows.jsonl", output_dir=str,
        )  # fmt: skip
        await screen.sees("tiny")
        for state in (JobState.PLANNING, JobState.PROVISIONING, JobState.STARTING):
            supervisor.move_job(job, state)
        supervisor.move_job(job, JobState.RUNNING)
        supervisor.note_progress(job, {"step": 4, "samples_done": 64, "loss": 2.5})
        await screen.sees("40%  #####")
        log = client.home.copies(job, "one") / "log.0.1"
        log.parent.mkdir(parents=True)
        log.write_bytes(b"[/b] \x1b[2Jcolour\n1%\r100%\n")
        await screen.sees("one/0 │ [/b] colour")
        await screen.sees("one/0 │ 100%")
        await screen.press("x", "y")
        await screen.until(lambda: supervisor.open_requests(job) == ["cancel"])
        assert "stopping" not in screen.text
        supervisor.move_job(job, JobState.STOPPING)
        await screen.sees("stopping")
    supervisor.close()
    client.close()


async def test_a_bad_edit_of_the_inventory_is_told_and_takes_no_host_away(
    client: SOLLOLClient,
) -> None:
    file = client.inventory_file
    good = file.read_text()
    async with driven(client) as screen:
        await screen.sees("1/1 hosts up")
        file.write_text(good.replace("workdir", "wokdir"))
        await screen.sees("unknown key 'wokdir' - did you mean 'workdir'?")
        await screen.sees("last good one")
        assert "1/1 hosts up" in screen.text
        file.write_text(good)
        await screen.until(lambda: "wokdir" not in screen.text)
    client.close()


async def test_the_form_shows_what_the_planner_says_of_real_hosts_and_submits_it(
    client: SOLLOLClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sollol_tui.jobs.submit.start_supervisor", lambda home, job: None)
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'{{"prompt": "ask {n}", "completion": "tell {n}"}}\n' for n in range(40))
    (tmp_path / "rows.jsonl").write_text(rows)
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("a")
        await screen.sees("give model and dataset")
        await screen.press(*"org/model", "down", *"rows.jsonl")
        await screen.sees("40 rows (prompt-completion)")
        await screen.sees("one ~100% (CPU)")
        await screen.sees("tell 2")
        await screen.press("down", *"tow")
        await screen.sees("! workers")
        await screen.sees("it has: one, all")
        await screen.press("backspace", "backspace", "backspace", *"one")
        await screen.until(lambda: "! workers" not in screen.text)
        await screen.press("ctrl+s")
        await screen.hears("started j-")
        job = client.list_jobs()[0]
        await screen.until(lambda: screen.overview.job_id == job.id)
        spec = client.job_spec(job.id)
        assert (spec.model, spec.workers) == ("org/model", "one")
