"""`sollol evaluate` and `export` as somebody at a terminal meets them, as far as no worker is
needed: errands on workers are tests/jobs/test_errands.py."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import pytest

from sollol_tui.cli.evaluate import _lines
from sollol_tui.jobs.evaluations import keep, read_kept
from sollol_tui.jobs.events import add_events
from sollol_tui.jobs.ollama import PLAIN
from sollol_tui.jobs.records import load
from sollol_tui.jobs.results import write_job_file
from sollol_tui.jobs.store import Store
from sollol_tui.model.evaluation import Evaluation, Example
from sollol_tui.model.events import decode
from sollol_tui.model.output_schema import output_schema
from sollol_tui.model.spec import JobSpec, Lora
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol
from tests.jobs.samples import add_job, line

FOUND = Evaluation(
    at=1_790_000_000.5,
    source="j-1",
    job="j-1",
    checkpoint=None,
    model="/models/tiny",
    dataset="/data/rows.jsonl",
    held_out=True,
    rows=61,
    tokens=2623,
    loss_before=5.7453,
    loss=2.4854,
    perplexity_before=312.72,
    perplexity=12.01,
    host="hydra",
    device="cuda:0",
    seconds=41.0,
    examples=(
        Example(
            place="row 7", prompt="What?\nNow?", expected="That.", before="x", after="word " * 90
        ),
        Example(place="prompt", prompt="Hello", expected="", before="", after="Hi"),
    ),
)  # fmt: skip


@pytest.fixture
def done(store: Store, tmp_path: Path) -> str:
    """A job whose result lies here, of a base that lies here."""
    job = add_job(store, "host w1")
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING, JobState.FINISHING):
        store.move_job(job, state)
    store.move_job(job, JobState.DONE)
    base = tmp_path / "a base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "llama"}')
    (base / "tokenizer.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"weights")
    output = tmp_path / "out"
    output.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md", "extra.txt"):
        (output / name).write_text("{}")
    spec = replace(load(JobSpec, store.job(job).spec), model=str(base))
    write_job_file(output / "job.yaml", job, spec)
    with store.transaction():
        store.connection.execute(
            "UPDATE jobs SET model = ?, output_dir = ?, spec = ? WHERE id = ?",
            (str(base), str(output), json.dumps(asdict(spec)), job),
        )
    return job


def test_the_outcome_is_a_table_and_the_answers_and_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = list(_lines(FOUND))
    table = [line for line in lines if line.startswith(("before", "after", "measured"))]
    assert table[0].startswith("measured   61 held-out rows (2,623 tokens learnt from)")
    assert table[1:3] == ["before       5.7453       312.72", "after        2.4854        12.01"]
    examples = lines[lines.index("row 7") :]
    assert examples[1:3] == ["asked      What?", "           Now?"]
    assert examples[3:5] == ["expected   That.", "before     x"]
    assert max(map(len, examples)) <= 60
    assert "           ... " not in "".join(examples)  # 450 characters are 10 lines
    assert examples[-3:] == ["asked      Hello", "before     -", "after      Hi"]


def test_what_is_kept_is_shown_with_the_job_in_its_published_shape(store: Store, done: str) -> None:
    keep(store.home, done, replace(FOUND, job=done, source=done))
    keep(store.home, done, replace(FOUND, job=done, source=f"checkpoint-4 of {done}", at=1.79e9))
    assert [each.loss for each in read_kept(store.home, done)] == [2.4854, 2.4854]
    (store.home.job(done) / "evaluations" / "0.json").write_text('{"schema":')  # cut short
    code, out, _ = sollol("show", done)
    assert code == 0
    told = [line for line in out.splitlines() if line.startswith("evaluated")]
    assert len(told) == 2
    assert f"{done}: loss 5.745 to 2.485 (perplexity 312.72 to 12.01) on 61 held-out" in told[0]
    _, out, _ = sollol("show", done, "--json")
    jsonschema.validate(json.loads(out), output_schema("sollol.job/1"))
    told_alone = json.loads(json.dumps(FOUND.as_data()))
    jsonschema.validate(told_alone, output_schema("sollol.evaluation/1"))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["evaluate", "j-nope"], 5, "no job 'j-nope'"),
        (["evaluate", "./nowhere"], 5, "nowhere holds no adapter"),
        (["evaluate", "JOB"], 2, "held no rows out (val_size 0); name some that it has not learnt"),
        (["evaluate", "JOB", "--host", "w9"], 5, "no host 'w9'"),
        (["evaluate", "JOB", "--dataset", "gone.jsonl"], 5, "no dataset"),
        (["evaluate", "JOB", "--checkpoint", "-3"], 2, "is no step of a checkpoint"),
        (["evaluate", "JOB", "--samples", "99"], 2, "99 is not in the range 0<=x<=20"),
        (["export", "JOB", "--host", "w1"], 2, "--host goes with --merge"),
        (["export", "JOB", "--from", "llama3.2"], 2, "--from goes with --ollama"),
        (["export", "JOB", "--ollama", "-f"], 2, "'-f' is no name for a model of Ollama's"),
        (["export", "JOB", "--to", "out"], 2, "out holds other files"),
        (["export", "JOB", "--merge", "--ollama", "x", "--from", "y"], 2, "needs no base"),
        (["--readonly", "export", "JOB"], 1, "this command acts, and --readonly is on"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    done: str, arguments: list[str], code: int, told: str
) -> None:
    found, out, error = sollol(*(done if word == "JOB" else word for word in arguments))
    assert (found, out) == (code, "")
    assert told in error


def test_an_adapter_is_exported_without_any_worker(done: str, tmp_path: Path) -> None:
    code, out, error = sollol("export", done, "--ollama", "tools", "--json")
    assert (code, error) == (0, "")
    made = json.loads(out)
    jsonschema.validate(made, output_schema("sollol.export/1"))
    folder = Path(made["path"])
    assert folder == tmp_path / "out-adapter"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("Modelfile", "README.md", "adapter_config.json", "adapter_model.safetensors", "job.yaml"),
        "tokenizer.json",
    ]
    base = tmp_path / "a base"
    assert (folder / "Modelfile").read_text() == f'FROM "{base}"\nADAPTER .\n'
    assert made["command"] == f"ollama create tools -f {folder}/Modelfile"
    sollol("export", done, "--ollama", "tools", "--from", "llama3.2:1b", "--to", "other")
    assert (tmp_path / "other" / "Modelfile").read_text() == "FROM llama3.2:1b\nADAPTER .\n"


def test_a_model_of_ollamas_is_asked_as_it_was_trained(store: Store, done: str) -> None:
    ready = decode(line("ready", 0, template="plain"))
    assert ready is not None
    add_events(store, done, "w1", "events.0.1.jsonl", [(0, ready)], 1)
    code, out, _ = sollol("export", done, "--ollama", "tools", "--json")
    assert code == 0
    text = (Path(json.loads(out)["path"]) / "Modelfile").read_text()
    assert text.endswith(f'TEMPLATE """{PLAIN}"""\nPARAMETER stop "\\n\\n### Instruction:"\n')


def test_that_template_is_what_workers_train_with() -> None:
    from remote.data.plain import opening_plain
    from remote.data.turns import Turn

    turns = [Turn(role=role, content=f"<{role}>", trained=False) for role in ("system", "user")]
    text = PLAIN.replace("{{ if .System }}", "").replace("{{ end }}", "")
    for name, value in (("System", "<system>"), ("Prompt", "<user>"), ("Response", "")):
        text = text.replace(f"{{{{ .{name} }}}}", value)
    assert text == opening_plain(turns)


def test_ollama_is_called_where_it_is_and_its_refusal_is_told(
    done: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$2" = tools ] || { printf "\\033[2KError: no such base\\n" >&2; exit 1; }\n'
        f'echo "$@" >{tmp_path}/called\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    code, out, error = sollol("export", done, "--ollama", "tools")
    assert (code, out.splitlines()[-1]) == (0, "ollama   tools")
    assert "talk to it: ollama run tools" in error
    called = (tmp_path / "called").read_text()
    assert called == f"create tools -f {tmp_path}/out-adapter/Modelfile\n"
    code, _, error = sollol("export", done, "--ollama", "others")
    assert code == 1
    assert "ollama does not take it: Error: no such base; the folder is" in error


def test_without_ollama_the_command_for_where_it_is_is_told(
    done: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    code, out, error = sollol("export", done, "--ollama", "tools")
    assert (code, out) == (0, f"adapter  {tmp_path}/out-adapter\n")
    command = f"ollama create tools -f {tmp_path}/out-adapter/Modelfile"
    assert error.splitlines()[-1] == f"Ollama is not installed here; where it is: {command}"


def test_what_ollamas_adapters_cannot_is_told_before_anything_is_made(
    store: Store, done: str, tmp_path: Path
) -> None:
    spec = load(JobSpec, store.job(done).spec)
    whole = replace(spec, lora=Lora(modules_to_save=["lm_head"]))
    store.connection.execute("UPDATE jobs SET spec = ?", (json.dumps(asdict(whole)),))
    code, _, error = sollol("export", done, "--ollama", "tools")
    assert code == 2
    assert "the adapter holds lm_head whole, which Ollama's adapters cannot; add --merge" in error
    assert not (tmp_path / "out-adapter").exists()


def test_reading_what_is_kept_needs_neither_ssh_nor_pydantic() -> None:
    probe = (
        "import sys; import sollol_tui.jobs.evaluations;"
        "print(sorted({'asyncssh', 'pydantic', 'ruamel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
