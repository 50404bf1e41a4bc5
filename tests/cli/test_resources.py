"""`sollol resources`: what each host has, what is free, and who holds the rest."""

import asyncio
import json
from pathlib import Path

import pytest

import sollol_tui.client
from sollol_tui import AsyncSOLLOLClient
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.occupied import Occupation, occupy
from sollol_tui.jobs.store import Store
from sollol_tui.model.snapshot import HostState
from tests.cli.shell import sollol
from tests.jobs.samples import add_job

GIB = 1024**3
GPUS = [
    {"index": at, "name": "NVIDIA RTX 3090", "util_percent": 97.0, "vram_used_bytes": 21 * GIB,
     "vram_total_bytes": 24 * GIB, "temp_c": 71.0}
    for at in range(2)
]  # fmt: skip


def figures(**more: object) -> dict[str, object]:
    return {"cpu_percent": 31.0, "cpu_cores": 16, "ram_used_bytes": 28 * GIB,
            "ram_total_bytes": 64 * GIB, "disk_free_bytes": 120 * GIB, "gpus": [],
            **more}  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Four hosts as they were last seen; a job holds w1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("hosts: {w1: , attic: , pi01: , spare: {enabled: false}}\n")
    with Store(open_home()) as store:

        def note(host: str, state: HostState, reason: str, data: dict[str, object]) -> None:
            store.note_reading(str(inventory), host, state=state, reason=reason, data=data)

        note("w1", HostState.UP, "", figures(gpus=GPUS))
        note("attic", HostState.UP, "", figures())
        note("pi01", HostState.DOWN, "no route to host", {})
        return add_job(store, "host w1", "host w2")


def test_each_gpu_has_a_row_and_each_host_its_holder(job: str) -> None:
    code, out, _ = sollol("resources", "--cached")
    assert code == 0
    rows = [line.split("  ") for line in out.splitlines()]
    lines = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert lines[:3] == [
        ["HOST", "STATE", "CPU", "RAM", "GPU", "VRAM", "DISK FREE", "HELD BY"],
        ["w1", "up", "16 cores 31%", "28.0/64 GiB", "0: NVIDIA RTX 3090", "21.0/24 GiB",
         "120.0 GiB", job],
        ["1: NVIDIA RTX 3090", "21.0/24 GiB"],
    ]  # fmt: skip
    assert lines[3][-2:] == ["120.0 GiB", "free"]
    assert lines[4][:2] == ["pi01", "down"]
    assert lines[4][-1].startswith("no route to host, ")
    assert lines[5][:2] == ["spare", "disabled"]
    assert lines[-1] == ["free: 1 host with 0 GPUs, 16 cores, 64 GiB RAM"]


def test_free_shows_only_what_a_job_could_take(job: str) -> None:
    code, out, _ = sollol("resources", "--cached", "--free")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line] == ["HOST", "attic", "free:"]


def test_a_script_gets_one_object(job: str) -> None:
    code, out, err = sollol("resources", "--cached", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["schema"] == "sollol.resources/1"
    hosts = {host["name"]: host for host in data["hosts"]}
    assert {name: host["free"] for name, host in hosts.items()} == {
        "w1": False, "attic": True, "pi01": False, "spare": False,
    }  # fmt: skip
    assert (hosts["w1"]["job"], len(hosts["w1"]["gpus"])) == (job, 2)
    assert data["free"] == {"hosts": 1, "gpus": 0, "cpu_cores": 16, "ram_bytes": 64 * GIB}


def test_a_host_that_evaluates_or_merges_is_not_free_and_says_what_it_does(job: str) -> None:
    errand = Occupation(
        id="e-1", title=f"the merge of {job}", resources=("host attic",), host="attic",
        run_dir="", nonce="",
    )  # fmt: skip
    with occupy(open_home().root, errand):
        table, shown = sollol("resources", "--cached")[1], sollol("status", "--cached")[1]
        data = json.loads(sollol("resources", "--cached", "--json")[1])
    row = next(line for line in table.splitlines() if line.startswith("attic"))
    assert row.endswith(f"the merge of {job}")
    assert next(x for x in shown.splitlines() if x.startswith("attic")).endswith(errand.title)
    host = next(host for host in data["hosts"] if host["name"] == "attic")
    assert (host["errand"], host["free"], data["free"]["hosts"]) == (errand.title, False, 0)
    assert "free" in sollol("resources", "--cached")[1].splitlines()[3], "it is over"


def test_hosts_are_asked_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hosts = {"hosts": {"here": {"connection": "local", "workdir": str(tmp_path / "w")}}}
    (tmp_path / "inventory.yaml").write_text(json.dumps(hosts))
    code, out, _ = sollol("resources", "--json")
    (host,) = json.loads(out)["hosts"]
    assert (code, host["state"], host["free"]) == (0, "up", True)
    assert host["ram_total_bytes"] > 0
    listed = json.loads(sollol("hosts", "ls", "--json")[1])
    assert (listed["schema"], listed["hosts"][0]["name"]) == ("sollol.hosts/1", "here")


async def test_hosts_that_are_named_are_asked_and_listed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    local = {"connection": "local", "workdir": str(tmp_path / "w"), "tags": ["a"]}
    hosts = {"hosts": {"here": local, "there": local | {"tags": ["b"]}}}
    (tmp_path / "inventory.yaml").write_text(json.dumps(hosts))
    listed = json.loads((await asyncio.to_thread(sollol, "hosts", "ls", "there", "--json"))[1])
    assert [(host["name"], host["state"]) for host in listed["hosts"]] == [("there", "up")]
    async with AsyncSOLLOLClient() as client:
        known = {host.name: host.state for host in (await client.snapshot()).hosts}
        assert known == {"here": HostState.UNKNOWN, "there": HostState.UP}
        assert [host.name for host in await client.list_nodes(["tag:a"])] == ["here"]
    code, _, err = await asyncio.to_thread(sollol, "hosts", "ls", "thre")
    assert code != 0
    assert "did you mean 'there'?" in err
