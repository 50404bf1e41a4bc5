"""`sollol dataset`: what it says of real files, and with which exit code."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.shell import sollol

GOOD = {"instruction": "Why?", "output": "Because.\nReally \x1b[31mso."}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, *rows: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_good_dataset_is_counted_and_long_rows_are_estimated(here: Path) -> None:
    write(here / "rows.jsonl", GOOD, {"instruction": "q", "output": "x" * 400})
    code, said, _ = sollol("dataset", "check", "rows.jsonl", "--max-length", "100")
    assert code == 0
    assert "format alpaca, 2 good rows, no problems" in said
    assert "~1 rows (50.0%) are over 100 tokens" in said


def test_problems_have_row_column_and_reason_and_an_exit_code_of_their_own(here: Path) -> None:
    write(here / "rows.jsonl", GOOD, *[{"instruction": "q"}] * 32)
    code, said, _ = sollol("dataset", "check", "rows.jsonl")
    assert code == 1
    lines = said.splitlines()
    assert lines[0].endswith("rows.jsonl  row 2, column 'output': is missing")
    assert lines[20].endswith("and 12 more problems")
    assert lines[21].endswith("1 good row, 32 problems, 740 B")


def test_rows_are_shown_with_a_mark_before_what_is_learnt(here: Path) -> None:
    write(here / "rows.jsonl", *[GOOD] * 5)
    code, said, _ = sollol("dataset", "show", "rows.jsonl")
    assert code == 0
    assert said.splitlines()[:6] == [
        "row 1",
        "  ### Instruction:",
        "  Why?",
        "  ",
        "  ### Response:",
        "> Because.",
    ]
    assert said.count("> Really so.") == 3
    assert "\x1b" not in said


def test_what_is_left_out_of_a_long_row_is_counted(here: Path) -> None:
    write(here / "rows.jsonl", {"prompt": "q", "completion": "a" * 12_345})
    code, said, _ = sollol("dataset", "show", "rows.jsonl")
    assert (code, said.splitlines()[-2]) == (0, "> [10,345 more characters]")


def test_rows_with_an_empty_answer_are_counted_and_are_no_problem(here: Path) -> None:
    write(here / "rows.jsonl", GOOD, {**GOOD, "output": " "}, GOOD)
    code, said, _ = sollol("dataset", "check", "rows.jsonl")
    assert code == 0
    assert "2 good rows, no problems" in said
    assert "1 row has an empty answer, nothing to learn from, and would be skipped" in said
    told = json.loads(sollol("dataset", "check", "rows.jsonl", "--json")[1])
    assert (told["rows"], told["rows_without_answer"]) == (2, 1)


def test_what_no_format_knows_and_thinking_are_counted(here: Path) -> None:
    said = {"role": "assistant", "content": "a"}
    write(here / "rows.jsonl", {"messages": [said | {"reasoning": "hm", "x": 1}], "id": 1})
    code, told, _ = sollol("dataset", "check", "rows.jsonl")
    assert code == 0
    assert "not read, because no part of the format (rows): id (1), messages[].x (1)" in told
    assert "1 rows hold thinking; it is learnt where the model's chat template shows it" in told
    data = json.loads(sollol("dataset", "check", "rows.jsonl", "--json")[1])
    assert (data["rows_with_thinking"], data["unread"]) == (1, {"id": 1, "messages[].x": 1})


def test_a_folder_and_a_pattern_are_one_dataset(here: Path) -> None:
    write(here / "parts" / "b.jsonl", {"text": "two"})
    write(here / "parts" / "a.jsonl", {"text": "one"})
    for place in ("parts", "parts/*.jsonl"):
        code, said, _ = sollol("dataset", "show", place, "--json")
        data = json.loads(said)
        assert (code, data["schema"], data["files"]) == (
            0,
            "sollol.dataset/1",
            ["a.jsonl", "b.jsonl"],
        )
        assert [(row["file"], row["row"]) for row in data["examples"]] == [
            ("a.jsonl", 1),
            ("b.jsonl", 1),
        ]


def test_a_mapping_names_the_columns(here: Path) -> None:
    (here / "rows.csv").write_text("frage,antwort\nq,a\n")
    mapping = json.dumps({"prompt": "frage", "completion": "antwort"})
    code, said, _ = sollol("dataset", "check", "rows.csv", "--format", mapping)
    assert (code, "format prompt-completion" in said) == (0, True)
    code, said, _ = sollol("dataset", "check", "rows.csv")
    assert (code, "format: {prompt: 'frage', completion: 'antwort'}" in said) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.jsonl"], 5, "no dataset"),
        (["hub:org/name"], 2, "only workers fetch and check it"),
        (["hub:org/../name"], 2, "is not hub:NAME"),
        (["rows.jsonl", "--format", "{"], 2, "takes a name or a mapping"),
    ],
)
def test_what_cannot_be_looked_into_is_said_in_a_sentence(
    here: Path, arguments: list[str], code: int, said: str
) -> None:
    write(here / "rows.jsonl", GOOD)
    found, _, complaint = sollol("dataset", "check", *arguments)
    assert (found, said in complaint) == (code, True)


def test_a_pipe_is_refused_and_not_waited_for(here: Path) -> None:
    os.mkfifo(here / "pipe.jsonl")
    code, out, _ = sollol("dataset", "check", "pipe.jsonl")
    assert code == 1
    assert "is a pipe or a device; rows are read from files" in out


def test_parquet_is_left_to_a_worker(here: Path) -> None:
    (here / "rows.parquet").write_bytes(b"PAR1")
    code, said, complaint = sollol("dataset", "check", "rows.parquet", "--json")
    assert (code, json.loads(said)["rows"]) == (0, None)
    _, _, complaint = sollol("dataset", "check", "rows.parquet")
    assert "parquet is read and checked on a worker" in complaint
