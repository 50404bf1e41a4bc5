"""What commands print: shapes that are published, widths, and readers that leave."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from sollol_tui.cli import schema as schemas
from sollol_tui.model.output_schema import OUTPUTS, output_schema
from tests.cli.furnished import furnish, supervised
from tests.cli.shell import sollol

GOLDEN = Path(__file__).parent / "golden"
DEADLINE_S = 60.0
PLAN = ["train", "--model", "model", "--dataset", "rows.jsonl", "--workers", "one", "--dry-run"]
READING = {
    "status": ["status", "--cached"],
    "jobs": ["jobs"],
    "job": ["show", "JOB"],
    "resources": ["resources", "--cached"],
    "events": ["events", "JOB"],
    "metrics": ["metrics", "JOB"],
    "dataset": ["dataset", "check", "rows.jsonl"],
    "config": ["config", "show"],
    "config-path": ["config", "path"],
}
ASKING = {  # of these hosts are asked
    "hosts": ["--timeout", "0.5", "hosts", "ls"],
    "checkpoints": ["--timeout", "0.5", "checkpoints", "JOB"],
    "doctor": ["doctor", "one"],
    "prune": ["--timeout", "0.5", "jobs", "--prune", "--dry-run"],
    "supervise": ["supervise", "first-try"],
    "plan": PLAN,
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "lab"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    made = furnish(folder)
    with supervised():
        yield made


def arguments(command: list[str], job: str) -> list[str]:
    return [job if word == "JOB" else word for word in command]


def test_every_published_shape_can_be_asked_for() -> None:
    assert tuple(f"sollol.{name}/1" for name in schemas.OUTPUTS.split()) == OUTPUTS
    code, out, _ = sollol("schema", "sollol.status/1")
    assert (code, json.loads(out)["title"]) == (0, "sollol.status/1")
    tried = {f"sollol.{name}/1" for name in (*READING, *ASKING, "event", "log-line")}
    assert tried == set(OUTPUTS)


@pytest.mark.parametrize("name", [*READING, *ASKING])
def test_json_has_its_published_shape(job: str, name: str) -> None:
    command = arguments((READING | ASKING)[name], job)
    _, out, err = sollol(*command, "--json")
    assert "Traceback" not in err
    data = json.loads(out)
    assert data["schema"] == f"sollol.{name}/1"
    jsonschema.Draft202012Validator(output_schema(data["schema"])).validate(data)
    for event in data.get("events", ()):
        jsonschema.Draft202012Validator(output_schema("sollol.event/1")).validate(event)


def test_a_shape_refuses_what_lacks_a_key(job: str) -> None:
    data = json.loads(sollol("jobs", "--json")[1])
    del data["jobs"][0]["loss"]
    with pytest.raises(jsonschema.ValidationError, match="'loss' is a required property"):
        jsonschema.Draft202012Validator(output_schema("sollol.jobs/1")).validate(data)


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("name", ["status", "jobs", "resources", "metrics"])
def test_tables_fit_the_terminal(
    job: str, name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written anew with GOLDEN=write, to be read before they are committed."""
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = sollol(*arguments(READING[name], job))
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= columns
    shown = re.sub(r"CPU \d+%, RAM \d+%", "CPU 5%, RAM 20%", out)
    shown = re.sub(r"j-[0-9a-f]{6}", "j-000000", shown)
    file = GOLDEN / f"{name}.{columns}.txt"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(shown)
    assert shown == file.read_text()


@pytest.mark.parametrize("name", READING)
def test_a_reader_that_leaves_at_once_ends_it_silently(job: str, name: str) -> None:
    command = arguments(READING[name], job)
    for flags in ([], ["--json"]) if name == "status" else ([],):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "sollol_tui.cli", *command, *flags],
            stdout=write, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        os.close(write)
        assert (done.returncode in (0, 141), done.stderr) == (True, "")


def test_jobs_are_listed_by_their_state(job: str) -> None:
    def listed(*states: str) -> set[str]:
        chosen = [word for state in states for word in ("--state", state)]
        data = json.loads(sollol("jobs", "-n", "2", *chosen, "--json")[1])
        return {each["name"] for each in data["jobs"]}

    assert listed("running") == {"tools-621k"}
    assert listed("running", "failed") == {"tools-621k", "first-try"}
    assert listed("paused") == set()
    code, out, _ = sollol("jobs", "--state", "paused")
    assert (code, out) == (0, "no job is paused - all of them: sollol jobs -a\n")
    assert sollol("jobs", "--state", "asleep")[0] == 2
    assert sollol("jobs", "--prune", "--state", "failed")[0] == 2


def test_csv_has_a_line_for_each_step(job: str) -> None:
    lines = sollol("metrics", job, "--csv")[1].splitlines()
    assert lines[0].startswith("job,step,samples_done,tokens,loss,lr,")
    assert len(lines) == 40
    assert lines[2].startswith(f"{job},2,,,2.25,0.0001,")


def test_two_jobs_are_compared(job: str) -> None:
    out = sollol("metrics", job, "--compare", job)[1]
    assert "difference" in out
    assert re.search(r"loss +0\.115 +0\.115 +\+0\.0%", out)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_sparklines_are_drawn_with_what_the_terminal_can_show(job: str, encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sollol_tui.cli", "metrics", job],
        capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, timeout=DEADLINE_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert ("█" in done.stdout.decode()) == (encoding == "utf-8")


def test_quiet_leaves_out_hints_and_keeps_data_and_errors(job: str) -> None:
    assert "is learnt" in sollol("dataset", "show", "rows.jsonl")[2]
    code, out, err = sollol("-q", "dataset", "show", "rows.jsonl")
    assert (code, err) == (0, "")
    assert "b" in out
    assert sollol("-q", "show", "j-none")[2].startswith("sollol: no job 'j-none'")
    assert sollol("-q", "-v", "status")[0] == 2


@pytest.mark.parametrize(
    ("variable", "value", "command", "code", "said"),
    [
        ("INVENTORY", "absent.yaml", "status --cached", 5, "no inventory absent.yaml"),
        ("READONLY", "1", "cancel JOB", 1, "--readonly is on"),
        ("TIMEOUT", "soon", "jobs", 2, "soon"),
        ("COLOR", "purple", "jobs", 2, "purple"),
        ("COLOR", "always", "jobs", 0, "\x1b["),
        ("QUIET", "1", "-v jobs", 2, "do not go together"),
        ("VERBOSE", "1", "-q jobs", 2, "do not go together"),
        ("YES", "perhaps", "jobs", 2, "perhaps"),
    ],
)
def test_each_global_option_is_a_variable_too(
    job: str, variable: str, value: str, command: str, code: int, said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(f"SOLLOL_{variable}", value)
    found, out, err = sollol(*arguments(command.split(), job))
    assert (found, said in out + err) == (code, True), out + err


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("statsu", "status"), ("hosts trsut w1", "trust"), ("status --cachd", "--cached"),
        ("show tools-621", "tools-621k"), ("provision w11", "w1"), ("logs JOB --host w11", "w1"),
    ],
)  # fmt: skip
def test_what_is_nearly_right_is_met_with_the_nearest(job: str, command: str, meant: str) -> None:
    code, _, err = sollol(*arguments(command.split(), job))
    assert code in (2, 5)
    assert re.search(rf"did you mean.*'{meant}'.*\?", err, re.IGNORECASE), err
