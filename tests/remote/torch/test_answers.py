"""A teacher's answers become a dataset: each question once, only what ends, the same again."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from remote.base import load_tokenizer
from remote.control import Action, write_control
from remote.data.examples import Conversation, read_examples
from remote.distill import answer as answering
from remote.distill.answer import Writer, answer
from remote.errand import carry_out
from tests.remote.torch.scorers import Scoring, events

ANSWERS = {"max_new_tokens": 48, "max_prompt_tokens": 40, "temperature": 1.0, "seed": 3}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """40 questions, of which one is asked twice and one is long; the last is a second one."""
    turns = [{"role": "user", "content": "one?"}, {"role": "assistant", "content": "first"}]
    again = [*turns, {"role": "user", "content": "two?"}, {"role": "assistant", "content": "no"}]
    rows = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": "theirs"}]
        for q in [*(f"colour {n}?" for n in range(40)), "colour 7?", "long " * 40]
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in [*rows, again]))
    return path


@pytest.fixture
def teacher(tmp_path: Path, teacher_model: Path, questions: Path) -> Scoring:
    return Scoring(tmp_path, teacher_model, teacher_model, questions, program="distill.answer")


def ask(run_dir: Path, attempt: int = 1) -> int:
    return carry_out([str(run_dir), "9", str(attempt)], answer)


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(answering, name, refuse)


def test_answers_are_a_dataset_that_one_may_edit(
    teacher: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = teacher.plan(answers=ANSWERS)
    assert ask(run_dir) == 0
    [done] = events(run_dir, "finished")
    assert (done["prompts"], done["duplicates"], done["too_long"]) == (41, 1, 1)
    assert done["rows"] + done["cut"] + done["empty"] == 41
    assert done["rows"] > 0
    path = Path(done["path"])
    read = [*read_examples(path)]
    assert len(read) == done["rows"]
    for example in read:
        assert isinstance(example, Conversation)
        assert [turn.trained for turn in example.turns][:-1] == [False] * (len(example.turns) - 1)
        assert example.turns[-1].content not in ("theirs", "no")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[1:]) + "\n")
    forbid(monkeypatch, "load_teacher")
    assert ask(run_dir, attempt=2) == 0
    [again] = events(run_dir, "finished", attempt=2)
    assert again["rows"] == done["rows"] - 1
    assert again["sha256"] != done["sha256"]


def test_a_teacher_that_was_told_to_stop_goes_on_after_the_blocks_that_are_there(
    teacher: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (teacher.plan(name, answers=ANSWERS) for name in ("w1.whole", "w1.broken"))
    assert ask(whole) == 0
    [done] = events(whole, "finished")
    expected = Path(done["path"]).read_bytes()
    Path(done["path"]).unlink()
    write = Writer.write
    asked: list[int] = []

    def counted(writer: Writer, block: int, some: Any) -> Any:
        if block and not asked.count(block):
            write_control(broken, Action.STOP)
        asked.append(block)
        return write(writer, block, some)

    monkeypatch.setattr(Writer, "write", counted)
    assert ask(broken) == 0
    assert len(events(broken, "stopped")) == 1
    write_control(broken, Action.RUN)
    assert ask(broken, attempt=2) == 0
    assert asked == [0, 1, 1]
    assert Path(done["path"]).read_bytes() == expected


def test_a_teacher_that_never_ends_is_told_by_name(teacher: Scoring) -> None:
    run_dir = teacher.plan(answers={**ANSWERS, "max_new_tokens": 1, "temperature": 0})
    assert ask(run_dir) == 1
    [failed] = events(run_dir, "failed")
    assert failed["foreseen"]
    assert "none of the 41 answers of the-teacher came to an end within 1 tokens" in failed["error"]


def test_a_teacher_with_too_few_places_for_its_answers_is_refused(
    tmp_path: Path, tiny_model: Path, questions: Path
) -> None:
    small = GPT2Config(vocab_size=260, n_positions=48, n_embd=16, n_layer=1, n_head=1)
    folder = tmp_path / "small"
    GPT2LMHeadModel(small).save_pretrained(folder)
    load_tokenizer(str(tiny_model)).save_pretrained(folder)
    run_dir = Scoring(tmp_path, folder, folder, questions, program="distill.answer").plan(
        answers=ANSWERS
    )
    assert ask(run_dir) == 1
    [failed] = events(run_dir, "failed")
    assert failed["foreseen"]
    assert re.search(
        r"the longest question may have \d+ tokens with its answer and the-teacher has 48 places",
        failed["error"],
    )


def test_plain_text_has_no_questions(tmp_path: Path, teacher_model: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"text": "once upon a time"}) + "\n")
    writer = Scoring(tmp_path, teacher_model, teacher_model, path, program="distill.answer")
    run_dir = writer.plan()
    assert ask(run_dir) == 1
    [failed] = events(run_dir, "failed")
    assert "text.jsonl holds plain text, in which nobody asks" in failed["error"]
