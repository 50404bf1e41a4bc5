"""The dataset check as a command: JSON lines, flat memory, no crash."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(*arguments: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "remote.data.check", *arguments],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_problems_are_lines_and_the_summary_counts_what_is_good(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": "q", "output": "a"}, {"instruction": "q"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    problem, summary = check(str(path))
    assert problem == {
        "v": 1,
        "kind": "problem",
        "row": 2,
        "column": "output",
        "reason": "is missing",
    }
    assert summary == {
        "v": 1,
        "kind": "summary",
        "format": "alpaca",
        "rows": 1,
        "problems": 1,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "mean_chars": 2.0,
        "examples": [
            {
                "file": None,
                "row": 1,
                "pieces": [
                    {
                        "text": "### Instruction:\nq\n\n### Response:\n",
                        "learnt": False,
                        "left_out": 0,
                    },
                    {"text": "a", "learnt": True, "left_out": 0},
                ],
            }
        ],
        "root": str(tmp_path),
        "files": ["rows.jsonl"],
        "size_bytes": path.stat().st_size,
        "longer": 0,
        "unanswered": 0,
        "thinking": 0,
        "unread_in": {},
        "unread": False,
    }


def test_a_folder_is_its_files_in_order_and_a_problem_names_its_file(tmp_path):
    for name, text in (("b.jsonl", '{"text": 1}'), ("a.jsonl", '{"text": "one"}\n{"text": "two"}')):
        (tmp_path / name).write_text(text)
    (tmp_path / "README.md").write_text("no rows")
    problem, summary = check(str(tmp_path))
    assert (problem["file"], problem["row"], problem["column"]) == ("b.jsonl", 1, "text")
    assert (summary["files"], summary["rows"]) == (["a.jsonl", "b.jsonl"], 2)
    sums = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in summary["files"]]
    listed = f"{sums[0]}  a.jsonl\n{sums[1]}  b.jsonl\n"
    assert summary["sha256"] == hashlib.sha256(listed.encode()).hexdigest()
    (tmp_path / "notes.txt").write_text("text")
    problem, _ = check(str(tmp_path))
    assert "holds 2 .jsonl and 1 .txt files; say which with a pattern" in problem["reason"]
    *_, summary = check(str(tmp_path / "*.jsonl"))
    assert summary["files"] == ["a.jsonl", "b.jsonl"]


def test_files_of_one_dataset_have_one_format(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    (tmp_path / "b.jsonl").write_text('{"prompt": "q", "completion": "a"}')
    problem, summary = check(str(tmp_path))
    assert "is prompt-completion, and the files before it are text" in problem["reason"]
    assert (summary["rows"], summary["problems"]) == (1, 1)


def test_rows_longer_than_asked_for_are_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * size}) + "\n" for size in (5, 6, 7)))
    [summary] = check(str(path), "--over", "5")
    assert summary["longer"] == 2


def test_a_missing_file_is_row_0_and_still_has_a_summary(tmp_path):
    problem, summary = check(str(tmp_path / "none.jsonl"))
    assert problem["row"] == 0
    assert (summary["rows"], summary["sha256"]) == (0, None)


def test_a_mapping_is_given_as_json_and_rows_limits_what_is_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("q,a\n" + "x,y\n" * 50)
    [summary] = check(str(path), "--format", '{"prompt": "q", "completion": "a"}', "--rows", "7")
    assert (summary["format"], summary["rows"]) == ("prompt-completion", 7)


def test_a_lone_surrogate_does_not_break_the_output(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"\\ud800": "x"}')
    problem, _ = check(str(path))
    assert "no known format" in problem["reason"]


def test_only_the_first_thousand_problems_are_listed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good"}\n' + '{"text": 1}\n' * 1500)
    *problems, summary = check(str(path))
    assert (len(problems), summary["problems"]) == (1000, 1500)


def test_formats_and_check_import_only_the_standard_library():
    code = (
        "import sys, remote.data.check\n"
        "other = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(name for name in other if not name.startswith('__')))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "['remote']"
