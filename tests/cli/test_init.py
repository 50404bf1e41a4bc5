"""`sollol init`: what it writes is valid, and nothing is ever overwritten by surprise."""

import json
import re
from pathlib import Path

import pytest

from sollol_tui.model.inventory import ConnectionKind
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.job_file import parse_job_file
from tests.cli.shell import sollol

FILES = ["data/instructions.jsonl", "inventory.yaml", "train.yaml"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_it_writes_three_files_that_work_together(folder: Path) -> None:
    code, out, err = sollol("init")
    assert (code, written(folder)) == (0, FILES)
    assert out == "wrote inventory.yaml\nwrote train.yaml\nwrote data/instructions.jsonl\n"
    assert "sollol train train.yaml" in err
    inventory = parse_inventory((folder / "inventory.yaml").read_bytes(), "inventory.yaml")
    assert [host.connection for host in inventory.hosts] == [ConnectionKind.LOCAL]
    spec = parse_job_file((folder / "train.yaml").read_bytes(), "train.yaml")
    rows = [json.loads(line) for line in Path(spec.dataset).read_text().splitlines()]
    assert len(rows) == 20
    assert all(set(row) == {"instruction", "output"} and all(row.values()) for row in rows)
    assert sollol("status", "--cached")[0] == 0


def test_what_the_inventory_shows_in_comments_is_valid_too(folder: Path) -> None:
    sollol("init")
    text = (folder / "inventory.yaml").read_text()
    live = re.sub(r'^( *)# (?= |"|\w+:( |$))', r"\1", text, flags=re.MULTILINE)
    inventory = parse_inventory(live.encode(), "inventory.yaml")
    names = ["hydra", "desktop", "attic", "pi01", "pi02", "pi03", "this-machine"]
    assert [host.name for host in inventory.hosts] == names
    assert inventory.host("desktop").groups == ("gpu",)


@pytest.mark.parametrize("there", FILES)
def test_a_file_that_is_there_stops_it_before_anything_is_written(folder: Path, there: str) -> None:
    (folder / there).parent.mkdir(exist_ok=True)
    (folder / there).write_text("mine")
    code, out, err = sollol("init")
    assert (code, out, written(folder)) == (1, "", [there])
    assert f"{there} would be overwritten, nothing was written; --force does it" in err
    assert (folder / there).read_text() == "mine"
    assert sollol("init", "--force")[0] == 0
    assert written(folder) == FILES
    assert (folder / there).read_text() != "mine"


def test_readonly_writes_nothing(folder: Path) -> None:
    assert sollol("--readonly", "init")[0] == 1
    assert written(folder) == []


def test_the_hosts_of_the_ssh_config_take_the_place_of_the_example(
    folder: Path, isolated_home: Path
) -> None:
    code, _, err = sollol("init", "--from-ssh-config")
    assert (code, "sollol hosts add NAME" in err, written(folder)) == (5, True, [])
    config = isolated_home / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text("Host hydra\nHost attic pi*\nHost forge.example\n  User git\n")
    code, _, err = sollol("init", "--from-ssh-config")
    assert (code, "forge.example logs in as git, left out" in err) == (0, True)
    text = (folder / "inventory.yaml").read_text()
    inventory = parse_inventory(text.encode(), "inventory.yaml")
    assert [host.name for host in inventory.hosts] == ["hydra", "attic"]
    assert "# Aliases of ~/.ssh/config need nothing else" in text
