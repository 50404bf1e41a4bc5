"""What is learnt of a row, against TRL's SFTTrainer on the same row.

TRL has no column formats: of a row in another format it gets the same conversation. It learns a
whole completion or what a template marks as the assistant's; both are compared.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from remote import tiny
from remote.data.render import render_prompt
from remote.data.tokenising import tokenise

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's own

ASKED = {"role": "user", "content": "Why is the sky blue? 🌌"}
ANSWERED = {"role": "assistant", "content": "Because of  Rayleigh\nscattering — naïvely put."}
FOLLOWED = [
    {"role": "user", "content": "And at night?"},
    {"role": "assistant", "content": "Black."},
]
RULED = {"role": "system", "content": "Answer in one sentence."}
CONVERSATIONS = {
    "one round": [ASKED, ANSWERED],
    "two rounds": [ASKED, ANSWERED, *FOLLOWED],
    "with a system turn": [RULED, ASKED, ANSWERED, *FOLLOWED],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
CALLED = [
    {"role": "user", "content": "Weather in Ulm?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": {"place": "Ulm"}}}
        ],
    },
    {"role": "tool", "name": "weather", "content": "rain"},
    {"role": "assistant", "content": "It rains."},
]
MARKING = ("qwen2_5_training", "qwen3_training", "llama3_training", "phi3_training")
PLAIN = ("tiny", "qwen2_5", "qwen3", "llama3", "phi3")


def template(name: str) -> str:
    if name == "tiny":
        return tiny.CHAT_TEMPLATE
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


@pytest.fixture(scope="module")
def words() -> Any:
    """A tokenizer that has learnt merges, so that pieces of a template could run together."""
    texts = [turn["content"] for turns in CONVERSATIONS.values() for turn in turns]
    tokenizer = tiny.learn_tokenizer([*texts, *map(template, (*MARKING, *PLAIN))] * 3)
    tokenizer.bos_token = tiny.USER  # some templates begin with it
    return tokenizer


@pytest.fixture(scope="module")
def bare_model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model)


def theirs(model: Any, tokenizer: Any, row: dict[str, Any], folder: Path, **settings: Any) -> Any:
    """Tokens of a row and which of them TRL computes a loss for."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "trl"),
            use_cpu=True,
            bf16=False,
            report_to=[],
            disable_tqdm=True,
            **{"max_length": 4096} | settings,
        ),
        train_dataset=Dataset.from_list([row]),
        processing_class=tokenizer,
    )
    found = trainer.train_dataset[0]
    labelled = np.array(found["labels"]) != -100
    labelled[:1] = False  # the shift drops it
    return found["input_ids"], labelled.tolist()


def ours(tokenizer: Any, row: dict[str, Any], folder: Path, max_length: int = 4096) -> Any:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row))
    rows = tokenise(path, "auto", tokenizer, max_length, folder=folder / "tokens").training
    return rows.tokens.tolist(), rows.labelled.tolist()


@pytest.mark.parametrize("name", MARKING)
@pytest.mark.parametrize("turns", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_messages_under_a_template_that_marks_answers(tmp_path, words, bare_model, name, turns):
    words.chat_template = template(name)
    expected = theirs(bare_model, words, {"messages": turns}, tmp_path, assistant_only_loss=True)
    assert any(expected[1])
    assert ours(words, {"messages": turns}, tmp_path) == expected
    sharegpt = [{"from": turn["role"], "value": turn["content"]} for turn in turns]
    assert ours(words, {"conversations": sharegpt}, tmp_path) == expected


def test_calls_of_tools_and_their_answers(tmp_path, words, bare_model):
    words.chat_template = template("qwen3_training")
    row = {"messages": CALLED, "tools": [TOOL]}
    theirs_row = row | {"tools": json.dumps([TOOL])}  # a table would fill in what a schema lacks
    expected = theirs(bare_model, words, theirs_row, tmp_path, assistant_only_loss=True)
    assert ours(words, row, tmp_path) == expected
    words.chat_template = template("qwen2_5")  # marks nothing
    ids, labelled = ours(words, row, tmp_path)
    learnt = words.decode([token for token, learnt in zip(ids, labelled, strict=True) if learnt])
    assert learnt == (
        '<tool_call>\n{"name": "weather", "arguments": {"place": "Ulm"}}\n</tool_call><|im_end|>\n'
        "It rains.<|im_end|>\n"
    )


@pytest.mark.parametrize("name", PLAIN)
def test_one_answer_in_every_format_under_a_template_that_marks_nothing(
    tmp_path, words, bare_model, name
):
    words.chat_template = template(name)
    expected = theirs(bare_model, words, {"prompt": [ASKED], "completion": [ANSWERED]}, tmp_path)
    question, answer = ASKED["content"], ANSWERED["content"]
    sharegpt = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    for row in (
        {"prompt": [ASKED], "completion": [ANSWERED]},
        {"prompt": question, "completion": answer},
        {"instruction": question, "input": "", "output": answer},
        {"instruction": question, "response": answer},
        {"question": question, "answer": answer},
        {"messages": [ASKED, ANSWERED]},
        {"conversations": sharegpt},
    ):
        assert ours(words, row, tmp_path) == expected, row


@pytest.mark.parametrize("name", ["tiny", "qwen2_5", "llama3"])
def test_every_answer_of_a_conversation_is_learnt_as_a_completion_of_its_own(
    tmp_path, words, bare_model, name
):
    words.chat_template = template(name)
    turns = CONVERSATIONS["two rounds"]
    ids, labelled = ours(words, {"messages": turns}, tmp_path)
    union = np.zeros(len(ids), dtype=bool)
    for place in (1, 3):
        row = {"prompt": turns[:place], "completion": turns[place : place + 1]}
        part, learnt = theirs(bare_model, words, row, tmp_path)
        assert ids[: len(part)] == part
        union[: len(part)] |= np.array(learnt)
    assert labelled == union.tolist()


def test_a_prompt_and_its_completion_without_a_template(tmp_path, words, bare_model):
    words.chat_template = None
    row = {"prompt": ASKED["content"], "completion": ANSWERED["content"]}
    prompt = render_prompt(row["prompt"], words)
    expected = theirs(bare_model, words, row | {"prompt": prompt}, tmp_path)
    assert ours(words, row, tmp_path) == expected


@pytest.mark.parametrize("limit", [4096, 9])
def test_plain_text_and_what_is_cut(tmp_path, words, bare_model, limit):
    row = {"text": ANSWERED["content"]}
    expected = theirs(bare_model, words, row, tmp_path, max_length=limit)
    assert ours(words, row, tmp_path, limit) == expected
    words.chat_template = tiny.CHAT_TEMPLATE
    asked = {"prompt": [FOLLOWED[0]], "completion": [ANSWERED]}
    expected = theirs(bare_model, words, asked, tmp_path, max_length=limit + 20)
    assert ours(words, asked, tmp_path, limit + 20) == expected
