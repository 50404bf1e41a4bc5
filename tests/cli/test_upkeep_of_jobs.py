"""`sollol supervise`, `sollol config` and `sollol jobs --prune` as a shell sees them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from sollol_tui.cli import supervise
from sollol_tui.hosts.shell import unit_word
from sollol_tui.jobs.store import Store
from sollol_tui.model.output_schema import output_schema
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol


def test_supervise_tells_of_each_job_whether_it_has_its_supervisor(
    store: Store, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "_LIMIT_S", 0.0)  # the test's revive starts none
    code, out, _ = sollol("supervise", "--all")
    assert code == 1
    assert out == f"{running}  running  has none: sollol logs {running} --supervisor\n"
    data = json.loads(sollol("supervise", running, "--json")[1])
    assert data == {
        "schema": "sollol.supervise/1",
        "jobs": [{"id": running, "state": "running", "supervised": False, "started": False}],
    }
    store.move_job(running, JobState.FAILED, "boom")
    assert sollol("supervise", running) == (0, f"{running}  failed  needs no supervisor\n", "")
    assert sollol("supervise", "--all") == (0, "no job needs a supervisor\n", "")
    for wrong in ((), (running, "--all")):
        assert sollol("supervise", *wrong)[0] == 2


def test_config_tells_where_things_lie_and_what_counts(store: Store, tmp_path: Path) -> None:
    places = json.loads(sollol("config", "path", "--json")[1])
    assert places["inventory"] == str(tmp_path / "inventory.yaml")
    assert places["state"] == str(store.home.root)
    assert f"state        {store.home.root}\n" in sollol("config", "path")[1]
    settings = json.loads(sollol("--timeout", "3", "config", "show", "--json")[1])["settings"]
    told = {each["name"]: (each["value"], each["from"]) for each in settings}
    assert told["timeout"] == (3.0, "command line")
    assert told["readonly"] == (False, "default")
    assert told["state"] == (str(store.home.root), "environment, SOLLOL_HOME")
    assert told["network.ports"][1] == str(tmp_path / "inventory.yaml")
    assert told["inventory"] == (str(tmp_path / "inventory.yaml"), "found")
    (tmp_path / "inventory.yaml").unlink()
    code, out, _ = sollol("config", "path")
    assert code == 0
    assert "inventory    none yet: sollol init writes one\n" in out
    assert sollol("config", "show")[0] == 0


def test_the_units_are_ones_that_systemd_takes(store: Store, tmp_path: Path) -> None:
    whole = sollol("config", "systemd")[1]
    units = tmp_path / "units"
    units.mkdir()
    for part in ("service", "timer"):
        code, text, err = sollol("config", "systemd", "--unit", part)
        assert (code, err) == (0, "")
        assert text in whole
        (units / f"sollol.{part}").write_text(text)
    assert f'"SOLLOL_HOME={store.home.root}"' in whole
    assert "KillMode=process" in whole
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here to ask")
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    asked = subprocess.run(
        ["systemd-analyze", "verify", "--user", *sorted(map(str, units.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
    )
    assert "sollol" not in asked.stderr, asked.stderr


@pytest.mark.parametrize(
    ("word", "in_command", "written"),
    [
        ("/plain", True, '"/plain"'),
        ('a "b" \\c', True, r'"a \"b\" \\c"'),
        ("50% $HOME", True, '"50%% $$HOME"'),
        ("A=50% $HOME", False, '"A=50%% $HOME"'),
    ],
)
def test_a_word_in_a_unit_is_not_expanded(word: str, in_command: bool, written: str) -> None:
    assert unit_word(word, in_command=in_command) == written
    with pytest.raises(ValueError, match="cannot stand in a unit"):
        unit_word(f"{word}\nExecStart=/bin/sh", in_command=in_command)


def test_prune_shows_asks_and_removes(store: Store, running: str) -> None:
    assert sollol("jobs", "--prune") == (0, "no ended job is that old, or none is left over\n", "")
    store.move_job(running, JobState.FAILED, "boom")
    code, out, err = sollol("jobs", "--prune", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith(f"{running}  tiny  failed 0s ago  here ")
    code, out, err = sollol("jobs", "--prune")
    assert code == 1
    assert "nobody can be asked here; add -y" in err
    assert sollol("jobs", "--prune", typed="n\n")[0] == 130
    assert store.job(running).state is JobState.FAILED
    code, out, err = sollol("-y", "jobs", "--prune")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("removed 1 job, ")
    assert sollol("show", running)[0] == 5
    assert sollol("jobs", "--keep", "3")[0] == 2
    assert sollol("--readonly", "jobs", "--prune")[0] == 1
    (store.home.scores / "old").mkdir(parents=True)
    (store.home.scores / "old" / "000000.scores").write_bytes(b"x" * 5000)
    kept = "what teachers said, kept here: 1 cache, 8.0 KiB"
    shown = sollol("jobs", "--prune", "--dry-run")[1]
    assert f"{kept}: no other job of the list learns from that\n" in shown
    told = json.loads(sollol("jobs", "--prune", "--dry-run", "--json")[1])
    jsonschema.validate(told, output_schema("sollol.prune/1"))
    assert f"removed {kept}\n" in sollol("-y", "jobs", "--prune")[1]
    assert [*store.home.scores.iterdir()] == []


def test_a_failed_job_begins_with_whose_traceback_it_is(store: Store, running: str) -> None:
    store.note_traceback(running, "Traceback:\n  boom")
    store.move_job(running, JobState.FAILED, "w1: rank 0: ValueError: boom")
    lines = sollol("show", running)[1].splitlines()
    assert lines[:3] == ["w1: rank 0: ValueError: boom", "  Traceback:", "    boom"]
