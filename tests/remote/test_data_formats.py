"""Dataset files: which format they are, what their rows become, what is said about broken ones."""

import json
from pathlib import Path

import pytest

from remote.data.examples import Conversation, Examples, Text, Turn, read_examples
from remote.data.rows import Problem, read_rows

ASKED = Turn(role="user", content="q", trained=False)
ANSWERED = Turn(role="assistant", content="a", trained=True)


def read(path: Path, content: str | bytes, declared="auto") -> tuple[Examples, list]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    examples = read_examples(path, declared)
    return examples, list(examples)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "messages",
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        ),
        ("prompt-completion", {"prompt": "q", "completion": "a"}),
        ("alpaca", {"instruction": "q", "input": "", "output": "a"}),
        ("alpaca", {"instruction": "q", "response": "a"}),
        ("question-answer", {"question": "q", "answer": "a"}),
    ],
)
def test_columns_tell_the_format_and_only_answers_are_trained(tmp_path, name, row):
    examples, found = read(tmp_path / "rows.jsonl", json.dumps(row))
    assert examples.format.name == name
    assert found == [Conversation(row=1, turns=(ASKED, ANSWERED))]


def test_plain_text_is_trained_whole(tmp_path):
    assert read(tmp_path / "rows.jsonl", '{"text": "once"}')[1] == [Text(row=1, content="once")]


def test_an_alpaca_input_and_a_system_column_become_part_of_the_question(tmp_path):
    row = {"system": "s", "instruction": "q", "input": "more", "output": "a"}
    turns = read(tmp_path / "rows.jsonl", json.dumps(row))[1][0].turns
    assert [(turn.role, turn.content) for turn in turns] == [
        ("system", "s"),
        ("user", "q\n\nmore"),
        ("assistant", "a"),
    ]


def test_messages_win_over_other_columns(tmp_path):
    row = {"text": "t", "messages": [{"role": "assistant", "content": "a"}]}
    assert read(tmp_path / "rows.jsonl", json.dumps(row))[0].format.name == "messages"


def test_a_mapping_names_this_files_columns_also_in_problems(tmp_path):
    _, found = read(
        tmp_path / "rows.csv",
        "frage,antwort\nq,a\n,a\n",
        {"prompt": "frage", "completion": "antwort"},
    )
    assert found == [
        Conversation(row=1, turns=(ASKED, ANSWERED)),
        Problem(row=2, column="frage", reason="is empty"),
    ]


@pytest.mark.parametrize(
    ("row", "declared", "part"),
    [
        ({"chosen": "a", "rejected": "b"}, "auto", "preference data"),
        ({"chosen": "a", "rejected": "b", "prompt": "p"}, "auto", "completion: chosen"),
        (
            {"frage": "q", "antwort": "a"},
            "auto",
            "format: {prompt: 'frage', completion: 'antwort'}",
        ),
        ({"body": "q"}, "auto", "format: {text: 'body'}"),
        ({"text": "q"}, "alpaca", "needs instruction, output|response; the columns are 'text'"),
        ({"text": "q"}, "alpacca", "unknown format 'alpacca'"),
        ({"text": "q"}, {"text": "body"}, "the mapping names the column 'body'"),
        ({"text": "q"}, {"txt": "text"}, "'txt', which no format has"),
        ({"text": "q"}, {"prompt": "text"}, "does not complete a format"),
    ],
)
def test_columns_of_no_format_are_one_problem_that_says_what_to_write(
    tmp_path, row, declared, part
):
    _, found = read(tmp_path / "rows.jsonl", (json.dumps(row) + "\n") * 3, declared)
    assert [problem.row for problem in found] == [0]
    assert part in found[0].reason


def message(role="assistant", content="a", **more):
    return {"messages": [{"role": role, "content": content, **more}]}


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        ({"prompt": "q"}, "completion", "is missing"),
        ({"prompt": "q", "completion": None}, "completion", "is null, not text"),
        ({"prompt": 3, "completion": "a"}, "prompt", "is a number, not text"),
        ({"prompt": " \n", "completion": "a"}, "prompt", "is empty"),
        ({"prompt": "q", "completion": "x\ud800"}, "completion", "surrogate pair (character 2)"),
        ([], None, "is a list, not an object"),
        (None, None, "is null, not an object"),
    ],
)
def test_a_broken_row_is_a_problem_and_the_others_are_read(tmp_path, row, column, part):
    good = json.dumps({"prompt": "q", "completion": "a"})
    _, found = read(tmp_path / "rows.jsonl", "\n".join([good, json.dumps(row), good]))
    assert [type(item) for item in found] == [Conversation, Problem, Conversation]
    assert (found[1].row, found[1].column) == (2, column)
    assert part in found[1].reason


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        ({"messages": []}, "messages", "empty list"),
        ({"messages": "hi"}, "messages", "is text, not a list"),
        ({"messages": ["hi"]}, "messages[0]", "not an object"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "is missing"),
        (message(role="robot"), "messages[0].role", "is 'robot'; known are system"),
        (message(role=["x"]), "messages[0].role", "known are"),
        (message(role="user"), "messages", "no assistant turn"),
        (message(content=None), "messages[0].content", "is null, not text"),
        (message(content=[{"type": "image"}]), "messages[0].content[0]", "a part of type 'image';"),
        (
            message(content=["a"]),
            "messages[0].content[0]",
            "is text; only parts with a text can be learnt",
        ),
        (message(content="a", weight=0.5), "messages[0].weight", "is neither 0 nor 1"),
        (message(content="a", weight="0"), "messages[0].weight", "is neither 0 nor 1"),
        (message(tool_calls=[{}]), "messages[0].tool_calls[0]", "names no function"),
    ],
)
def test_a_broken_message_is_named_by_its_place(tmp_path, row, column, part):
    _, [problem] = read(tmp_path / "rows.jsonl", json.dumps(row))
    assert (problem.row, problem.column) == (1, column)
    assert part in problem.reason


def test_text_parts_are_joined(tmp_path):
    row = message(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    assert read(tmp_path / "rows.jsonl", json.dumps(row))[1][0].turns[0].content == "ab"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"text": "one"}\n{"text": "two"}\n'),
        ("rows.json", '[{"text": "one"},\n {"text": "two"}]'),
        ("rows.json", '\n{"text": "one"}\n{"text": "two"}'),
        ("rows.csv", "text\none\ntwo\n"),
        ("rows.tsv", "text\tn\none\t1\ntwo\t2\n"),
        ("rows.txt", "one\ntwo"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_kind_of_file_is_read_with_and_without_bom_and_crlf(
    tmp_path, name, content, mark, ending
):
    path = tmp_path / name
    path.write_bytes((mark + content).replace("\n", ending).encode())
    assert [row["text"] for _, row in read_rows(path)] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "row", "part"),
    [
        ("rows.jsonl", b"", 0, "holds no rows"),
        ("rows.json", b"[]", 0, "holds no rows"),
        ("rows.csv", b"text\n", 0, "holds no rows"),
        ("rows.pdf", b"x", 0, "none of the kinds of file known: .jsonl"),
        ("rows.txt", "x".encode("utf-16"), 0, "save it as UTF-8"),
        ("rows.jsonl", b"{", 1, "is not valid JSON"),
        ("rows.jsonl", b"\n\n[" + b"[" * 100_000, 3, "is not usable JSON"),
        ("rows.json", b'[{"text": "a"', 1, "is not valid JSON"),
        ("rows.csv", b"text,n\nx\n", 1, "has 1 columns where the header has 2"),
        ("rows.csv", b'text\n"x', 1, "is not CSV"),
    ],
)
def test_an_unreadable_file_or_row_is_a_problem(tmp_path, name, content, row, part):
    path = tmp_path / name
    path.write_bytes(content)
    [problem] = read_rows(path)
    assert problem.row == row
    assert part in problem.reason


def test_a_missing_file_is_a_problem_of_the_file(tmp_path):
    [problem] = read_rows(tmp_path / "none.jsonl")
    assert problem.row == 0
    assert "No such file" in problem.reason


def test_bytes_that_are_not_utf8_cost_only_their_row(tmp_path):
    _, found = read(tmp_path / "rows.jsonl", b'{"text": "\xff"}\n{"text": "good"}')
    assert found == [
        Problem(row=1, column="text", reason="holds bytes that are not UTF-8 (character 1)"),
        Text(row=2, content="good"),
    ]


def test_an_array_is_read_across_the_edges_of_chunks(tmp_path):
    texts = [f"{number}" * (number % 700) + "]}, {" for number in range(2000)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"text": text} for text in texts], indent=1))
    assert [row["text"] for _, row in read_rows(path)] == texts


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_goes_by_several_names(tmp_path, name):
    said = {"role": "assistant", "content": "a", name: "hm"}
    [found] = read(tmp_path / "rows.jsonl", json.dumps({"messages": [said]}))[1]
    assert found.turns == (Turn(role="assistant", content="a", trained=True, thinking="hm"),)
    assert found.unread == ()


def test_one_object_over_several_lines_is_not_taken_for_broken_lines(tmp_path):
    wrapped = {"data": [{"prompt": "q", "completion": "a"}]}
    [problem] = read(tmp_path / "rows.json", json.dumps(wrapped, indent=1))[1]
    assert problem.row == 0
    assert "holds one object over several lines, where an array of rows" in problem.reason


def test_columns_and_keys_that_mean_nothing_are_named(tmp_path):
    said = {"role": "assistant", "content": "a", "train": True, "refusal": None}
    rows = {"messages": [said, said], "id": 7, "tools": [], "note": ""}
    [found] = read(tmp_path / "rows.jsonl", json.dumps(rows))[1]
    assert found.unread == ("id", "messages[].train")
    [text] = read(tmp_path / "rows.jsonl", json.dumps({"text": "once", "source": "web"}))[1]
    assert text.unread == ("source",)
    [chosen] = read(tmp_path / "rows.jsonl", json.dumps({"t": "x", "id": 7}), {"text": "t"})[1]
    assert chosen.unread == ()  # whoever writes a mapping has said what is meant


def test_earlier_rounds_of_an_alpaca_row_come_before_its_question(tmp_path):
    row = {"instruction": "q", "output": "a", "history": [["q", "a"], ["q", ""]]}
    [found] = read(tmp_path / "rows.jsonl", json.dumps(row))[1]
    silent = Turn(role="assistant", content="", trained=False)
    assert found.turns == (ASKED, ANSWERED, ASKED, silent, ASKED, ANSWERED)


@pytest.mark.parametrize(
    ("history", "column", "reason"),
    [
        ("before", "history", "is not a list of [question, answer]"),
        ([["q"]], "history[0]", "is not [question, answer]"),
        ([["q", "a"], ["q", 7]], "history[1]", "is a number, not text"),
    ],
)
def test_earlier_rounds_that_are_none_are_named(tmp_path, history, column, reason):
    row = {"instruction": "q", "output": "a", "history": history}
    assert read(tmp_path / "rows.jsonl", json.dumps(row))[1] == [
        Problem(row=1, column=column, reason=reason)
    ]


def test_a_call_written_as_text_is_a_call_and_other_text_is_an_answer(tmp_path):
    call = '{"name": "f", "arguments": {"x": 1}}'
    for value, calls in ((call, 1), (f"[{call}, {call}]", 2), ("f(1)", 0), ("[]", 0)):
        turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": value}]
        [found] = read(tmp_path / "rows.jsonl", json.dumps({"conversations": turns}))[1]
        said = found.turns[1]
        assert said.trained
        assert len(said.extras.get("tool_calls", ())) == calls
        assert (said.content, said.call_text) == (("", value) if calls else (value, ""))
