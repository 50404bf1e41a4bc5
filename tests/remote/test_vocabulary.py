"""Tokenizers are compared by what their ids mean, with nothing but the standard library."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote.distill.vocabulary import VocabularyError, compare, main

ADDED = [{"id": 3, "content": "<|end|>"}]


def folder(path: Path, vocabulary: Any, added: Any = (), **config: Any) -> Path:
    path.mkdir()
    tokenizer = {"model": {"vocab": vocabulary}, "added_tokens": list(added)}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def test_equal_tokens_are_equal_however_they_are_written(tmp_path: Path) -> None:
    bpe = folder(tmp_path / "bpe", {"a": 0, "b": 1, "c": 2}, ADDED, chat_template="x")
    unigram = folder(tmp_path / "unigram", [["a", 0.0], ["b", -1.0], ["c", -2.0]], ADDED)
    found = compare(bpe, unigram)
    assert found.equal
    assert not found.same_template
    assert "the teacher reads the student's" in found.sentence
    (unigram / "chat_template.jinja").write_text("x")
    assert compare(bpe, unigram).same_template


def test_tokens_that_only_the_teacher_has_do_no_harm(tmp_path: Path) -> None:
    teacher = folder(tmp_path / "teacher", {"a": 0, "b": 1, "c": 2}, ADDED)
    student = folder(tmp_path / "student", {"a": 0, "b": 1})
    assert compare(teacher, student).equal
    other = compare(student, teacher)
    assert (other.different, other.teacher_tokens, other.student_tokens) == (2, 2, 4)
    assert "2 is 'c' to the student and no token there" in other.sentence


def test_what_differs_is_named(tmp_path: Path) -> None:
    teacher = folder(tmp_path / "teacher", {"a": 0, "b": 1, "c": 2})
    student = folder(tmp_path / "student", {"a": 0, "c": 1, "b": 2})
    found = compare(teacher, student)
    assert not found.equal
    assert found.sentence == (
        "2 of the student's 3 tokens are others in the teacher's vocabulary of 3 (1 is 'c' to the "
        "student and 'b' to the teacher, 2 is 'b' to the student and 'c' to the teacher), so the "
        "teacher's scores say nothing to this student; it can learn the teacher's answers instead"
    )


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model": {}}', '{"model": {"vocab": 7}}'])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, content: str | None) -> None:
    sound = folder(tmp_path / "sound", {"a": 0})
    other = folder(tmp_path / "other", {"a": 0})
    if content is None:
        (other / "tokenizer.json").unlink()
    else:
        (other / "tokenizer.json").write_text(content)
    with pytest.raises(VocabularyError, match=r"other/tokenizer\.json"):
        compare(sound, other)
    assert main([str(sound), str(other)]) == 3


def test_it_runs_where_nothing_is_installed(tmp_path: Path) -> None:
    """As the coordinator runs it: without site-packages, from the payload."""
    teacher = folder(tmp_path / "teacher", {"a": 0, "b": 1})
    answer = subprocess.run(
        [
            *(sys.executable, "-S", "-P", "-m", "remote.distill.vocabulary"),
            *(str(teacher), str(teacher)),
        ],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told = json.loads(answer.stdout)
    assert (told["v"], told["kind"], told["equal"], told["examples"]) == (1, "vocabulary", True, [])
