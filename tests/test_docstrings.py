"""The demo's dataset: real, large enough, and the same each time."""

import json

from sollol_tui.docstrings import docstring_rows, write_rows


def test_the_standard_library_gives_thousands_of_rows_each_time_the_same(tmp_path):
    rows = docstring_rows(4000)
    assert 3000 <= len(rows) <= 4000
    write_rows(rows, tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    questions = {row["instruction"] for row in rows}
    assert "What does genericpath.isfile(path) do?" in questions

    few = docstring_rows(100)
    places = [rows.index(row) for row in few]
    assert places == sorted(places)
    assert len({row["instruction"].split()[2].split(".")[0] for row in few}) > 30
