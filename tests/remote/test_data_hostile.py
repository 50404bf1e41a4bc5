"""Whatever stands in a dataset, it is read or it is a problem with row, column and reason."""
# ruff: noqa: UP031 - the braces are JSON's

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.data.check import check
from remote.data.examples import Conversation, Text, read_examples
from remote.data.formats import FORMATS
from remote.data.plain import render_plain
from remote.data.rows import Problem
from remote.data.turns import ROLES

quickly = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
COLUMNS = sorted({column for entry in FORMATS for column in entry.known_columns})
KEYS = ["role", "content", "from", "value", "name", "tool_calls", "function", "arguments", "weight"]

texts = st.text() | st.text(st.characters(categories=["Cs", "Cc", "L", "So", "Zl"]), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([*ROLES])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
    ),
    max_leaves=12,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from([*ROLES]) | scalars, "content": texts | values},
        optional={"tool_calls": values, "name": scalars, "weight": scalars},
    )
    | values,
    max_size=4,
)
rows = st.dictionaries(st.sampled_from(COLUMNS) | texts, values | messages, max_size=5)


def read(path: Path, content: bytes) -> list[Any]:
    """All that a file holds; every example can be shown, every problem said."""
    path.write_bytes(content)
    found = list(read_examples(path))
    assert found, "an empty file is a problem too"
    for item in found:
        if isinstance(item, Problem):
            assert item.reason
            assert item.row >= 0
            json.dumps(str(item))
        elif isinstance(item, Conversation):
            assert any(turn.role == "assistant" for turn in item.turns)
            render_plain(item.turns, item.tools).text.encode()
        else:
            assert isinstance(item, Text)
            item.content.encode()
    *problems, summary = check(str(path), "auto")
    json.dumps([problems, summary])
    assert summary["rows"] + summary["unanswered"] + summary["problems"] == len(found)
    return found


@quickly
@given(st.lists(rows, max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_rows_of_any_shape(tmp_path: Path, data: list[Any], ending: str, mark: bool) -> None:
    lines = "".join(json.dumps(row) + ending for row in data).encode()
    content = b"\xef\xbb\xbf" * mark + lines
    found = read(tmp_path / "rows.jsonl", content)
    if not any(item.row == 0 for item in found if isinstance(item, Problem)):
        assert [item.row for item in found] == list(range(1, len(data) + 1))
    array = json.dumps(data, indent=1).replace("\n", ending).encode()
    in_array = read(tmp_path / "rows.json", b"\xef\xbb\xbf" * mark + array)
    if data:
        assert [_said(item) for item in in_array] == [_said(item) for item in found]


def _said(item: Any) -> Any:
    return (item.row, item.column, item.reason) if isinstance(item, Problem) else item


@quickly
@given(st.binary(max_size=300), st.sampled_from(["jsonl", "json", "csv", "tsv", "txt"]))
def test_bytes_of_any_kind(tmp_path: Path, content: bytes, kind: str) -> None:
    read(tmp_path / f"rows.{kind}", content)


@quickly
@given(st.lists(st.lists(texts.filter(lambda text: "\0" not in text), max_size=4), max_size=5))
def test_tables_of_any_text(tmp_path: Path, table: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["prompt", "completion"], *table])
    read(tmp_path / "rows.csv", out.getvalue().encode(errors="surrogatepass"))


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


CALL = '{"function": {"name": "f", "arguments": %s}}'


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        ('{"text": "a", "text": "b"}', "text", "stands twice"),
        ('{"messages": [{"role": "user", "role": "assistant"}]}', "role", "stands twice"),
        ('{"text": NaN}', "text", "is no number (NaN or infinite), not text"),
        ('{"text": -Infinity}', "text", "no number"),
        ('{"text": null}', "text", "is null"),
        ('{"text": [[[]]]}', "text", "is a list"),
        ('{"text": %s}' % nested(50_000), None, "is not usable JSON"),
        ('{"text": ' + "9" * 5000 + "}", None, "is not usable JSON"),
        ('{"text": "\\udc80\\ud800"}', "text", "UTF-8"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_what_json_allows_and_rows_do_not(
    tmp_path: Path, row: str, column: str | None, part: str, kind: str
) -> None:
    good = '{"text": "good", "messages": [{"role": "assistant", "content": "a"}]}'
    if column not in ("text", None):
        good = '{"messages": [{"role": "assistant", "content": "a"}]}'
    elif column == "text":
        good = '{"text": "good"}'
    content = f"[{good},{row},{good}]" if kind == "json" else f"{good}\n{row}\n{good}"
    found = read(tmp_path / f"rows.{kind}", content.encode())
    assert isinstance(found[1], Problem)
    assert found[1].row == 2
    if column is not None:
        assert (found[1].column, part in found[1].reason) == (column, True)
        assert not isinstance(found[2], Problem), "the next row is lost"


@pytest.mark.parametrize(
    ("message", "column", "part"),
    [
        ('"tool_calls": {}', "tool_calls", "is an object, not a list"),
        ('"tool_calls": [1]', "tool_calls[0]", "names no function"),
        ('"tool_calls": [%s]' % (CALL % '"{"'), "tool_calls[0].function.arguments", "not JSON"),
        ('"tool_calls": [%s]' % (CALL % "[]"), "tool_calls[0].function.arguments", "is a list"),
        ('"tool_calls": [%s]' % (CALL % nested(99)), "tool_calls[0]", "nested deeper than 64"),
        ('"tool_calls": [%s]' % (CALL % '{"a": NaN}'), "tool_calls[0]", "holds no number"),
        ('"tool_calls": [%s]' % (CALL % '{"a": "\\ud800"}'), "tool_calls[0]", "surrogate"),
        ('"content": "a", "name": 3', "name", "is a number, not text"),
    ],
)
def test_calls_that_no_template_could_write(
    tmp_path: Path, message: str, column: str, part: str
) -> None:
    row = '{"messages": [{"role": "assistant", %s}]}' % message
    [problem] = read(tmp_path / "rows.jsonl", row.encode())
    assert isinstance(problem, Problem)
    assert (problem.column or "").startswith(f"messages[0].{column}")
    assert part in problem.reason


@pytest.mark.parametrize("tools", ["3", '"{"', "[1]", '{"a": 1}', "[%s]" % nested(99)])
def test_tools_that_are_none(tmp_path: Path, tools: str) -> None:
    row = '{"messages": [{"role": "assistant", "content": "a"}], "tools": %s}' % tools
    [problem] = read(tmp_path / "rows.jsonl", row.encode())
    assert isinstance(problem, Problem)
    assert (problem.column or "").startswith("tools")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt"])
def test_a_cell_of_a_megabyte(tmp_path: Path, kind: str) -> None:
    cell = "é" * 1_000_000
    content = {
        "jsonl": f'{{"text": "{cell}"}}\n',
        "json": f'[{{"text": "{cell}"}}]',
        "csv": f'text\n"{cell}"\n',
        "txt": cell,
    }[kind]
    assert read(tmp_path / f"rows.{kind}", content.encode()) == [Text(row=1, content=cell)]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    [problem] = read(tmp_path / "rows.csv", b"text,text\na,b\n")
    assert (problem.row, problem.column) == (0, "text")
