"""What commands print: shapes that are published, widths, and readers that leave."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema
import pytest

from sollol_tui.cli import schema as schemas
from sollol_tui.jobs.home import open_home
from sollol_tui.jobs.store import Store
from sollol_tui.model.output_schema import OUTPUTS, output_schema
from tests.cli.furnished import furnish, supervised
from tests.cli.goldens import golden, timeless
from tests.cli.shell import sollol
from tools import commands

DEADLINE_S = 60.0
PLAN = ["train", "--model", "model", "--dataset", "rows.jsonl", "--workers", "one", "--dry-run"]
READING = {  # each command that prints --json, and how it is called here
    "sollol config path": ["config", "path"],
    "sollol config show": ["config", "show"],
    "sollol dataset check": ["dataset", "check", "rows.jsonl"],
    "sollol dataset show": ["dataset", "show", "rows.jsonl"],
    "sollol events": ["events", "JOB"],
    "sollol jobs": ["jobs"],
    "sollol logs": ["logs", "JOB", "-n", "2"],
    "sollol metrics": ["metrics", "JOB"],
    "sollol resources": ["resources", "--cached"],
    "sollol show": ["show", "JOB"],
    "sollol status": ["status", "--cached"],
    "sollol version": ["version"],
}
ASKING = {  # of these hosts are asked
    "sollol checkpoints": ["--timeout", "0.5", "checkpoints", "JOB"],
    "sollol doctor": ["doctor", "one"],
    "sollol hosts ls": ["--timeout", "0.5", "hosts", "ls"],
    "sollol jobs --prune": ["--timeout", "0.5", "jobs", "--prune", "--dry-run"],
    "sollol supervise": ["supervise", "first-try"],
    "sollol train": PLAN,
}
TRAINING = {"sollol evaluate", "sollol export"}  # they need a worker with torch
NO_DATA = {  # these read, and what they print is a program's, a screen, or how a job goes on
    "sollol attach", "sollol completion", "sollol config systemd", "sollol dashboard",
    "sollol replay", "sollol schema", "sollol wait",
}  # fmt: skip
TABLES = ("status", "jobs", "resources", "metrics", "show", "events")


def json_option(command: click.Command) -> click.Option | None:
    return next(
        (p for p in command.params if isinstance(p, click.Option) and "--json" in p.opts), None
    )


PUBLISHED = {
    path: f"sollol.{match[1]}/1"
    for path, command, _ in commands.commands()
    if (option := json_option(command))
    and (match := re.search(r"sollol\.([a-z-]+)/1", option.help or ""))
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
    assert {*PUBLISHED.values(), "sollol.event/1", "sollol.prune/1"} == set(OUTPUTS)


def test_every_command_that_prints_json_is_tried_here() -> None:
    assert {*READING, *ASKING, *TRAINING} - {"sollol jobs --prune"} == set(PUBLISHED)


def stand_in(parameter: click.Parameter, job: str) -> str:
    """Something that the argument takes."""
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    return {"job": job, "host": "one"}.get(parameter.type.name, "rows.jsonl")


@pytest.mark.parametrize(
    "path", [path for path, command, _ in commands.commands()
             if not isinstance(command, click.Group) and path not in {*PUBLISHED, *NO_DATA}],
)  # fmt: skip
def test_what_prints_no_json_acts(job: str, path: str) -> None:
    """So no command reads without it, whoever adds one."""
    (command,) = (command for name, command, _ in commands.commands() if name == path)
    given = [
        stand_in(each, job)
        for each in command.params
        if isinstance(each, click.Argument) and each.required
    ]
    code, out, err = sollol("--readonly", *path.split()[1:], *given)
    assert (code, out) == (1, "")
    assert err == "sollol: this command acts, and --readonly is on\n"


@pytest.mark.parametrize("name", [*READING, *ASKING])
def test_json_has_its_published_shape(job: str, name: str) -> None:
    command = arguments((READING | ASKING)[name], job)
    _, out, err = sollol(*command, "--json")
    assert "Traceback" not in err
    shape = "sollol.prune/1" if name.endswith("--prune") else PUBLISHED[name]
    objects = [json.loads(line) for line in out.splitlines()]
    assert {data["schema"] for data in objects} == {shape}
    for data in objects:
        jsonschema.Draft202012Validator(output_schema(shape)).validate(data)
        for event in data.get("events", ()):
            jsonschema.Draft202012Validator(output_schema("sollol.event/1")).validate(event)


def test_a_shape_refuses_what_lacks_a_key(job: str) -> None:
    data = json.loads(sollol("jobs", "--json")[1])
    del data["jobs"][0]["loss"]
    with pytest.raises(jsonschema.ValidationError, match="'loss' is a required property"):
        jsonschema.Draft202012Validator(output_schema("sollol.jobs/1")).validate(data)


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("name", TABLES)
def test_tables_fit_the_terminal(
    job: str, name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written anew with GOLDEN=write, to be read before they are committed."""
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = sollol(*arguments(READING[f"sollol {name}"], job))
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= columns
    assert timeless(out) == golden(f"{name}.{columns}", out)


@pytest.mark.parametrize("name", READING)
def test_a_reader_that_leaves_at_once_ends_it_silently(job: str, name: str) -> None:
    command = arguments(READING[name], job)
    for flags in ([], ["--json"]) if name == "sollol status" else ([],):
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


def test_a_watched_status_is_an_object_a_line_and_ends_with_its_reader(job: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sollol_tui.cli", "status", "-w", "--json", "--cached"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        steps = []
        for step in (451, 452):
            with Store(open_home()) as store:
                store.note_progress(job, {"step": step})
            while step not in steps:  # each line is whole
                data = json.loads(process.stdout.readline())
                assert data["schema"] == "sollol.status/1"
                steps += [view["step"] for view in data["jobs"] if view["id"] == job]
        process.stdout.close()
        with Store(open_home()) as store:
            store.note_progress(job, {"step": 453})
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("name", ["hosts ls", "checkpoints", "doctor", "jobs --prune"])
def test_what_hosts_say_fits_a_narrow_terminal(
    job: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = sollol(*arguments(ASKING[f"sollol {name}"], job))[1]
    for line in out.splitlines():  # one word may stick out: it may be something to copy
        assert len(line) <= 60 or len(line) - max(map(len, line.split())) < 30, line


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
