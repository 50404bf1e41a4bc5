"""Rows as token arrays: what is learnt, what is cut, what is left out."""

import json

import numpy as np
import pytest

from remote.data.encode import begin_of
from remote.data.render import DataError
from remote.data.tokenising import tokenise as tokenise_dataset
from remote.data.tokens import Rows

# Like templates of thinking models: shows an answer otherwise once another turn follows it.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "A:{% if loop.last %}<think></think>{% endif %}{{ m.content }}<|end|>\n"
    "{% else %}Q:{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)
# Like Qwen3's: thinking is shown behind the last question only, and opens the last answer even
# where there is none.
THINKING = (
    "{% set ns = namespace(question=0) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.question = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}A:"
    "{% if loop.index0 > ns.question and (loop.last or m.reasoning_content) %}"
    "<think>{{ m.reasoning_content or '' }}</think>{% endif %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"
    "<|end|>\n{% else %}{{ m.role }}:{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)
# Shows what was said before otherwise than what is said last.
CHANGING = "{% for m in messages %}{{ m.content if loop.last else m.content | upper }}{% endfor %}"
TWO_ROUNDS = [
    {"role": role, "content": content}
    for role, content in [("user", "one"), ("assistant", "a"), ("user", "two"), ("assistant", "b")]
]


def tokenise(path, declared, tokenizer, max_length, **settings) -> Rows:
    return tokenise_dataset(
        path, declared, tokenizer, max_length, folder=path.parent / "tokens", **settings
    ).training


def learnt(rows, tokenizer) -> list[str]:
    """The learnt text of every row."""
    whole = rows.batch(np.arange(len(rows)), tokenizer.pad_token_id)
    return [
        tokenizer.decode(ids[mask]) for ids, mask in zip(whole.ids, whole.labelled, strict=True)
    ]


def write(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "añ"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "añ"}]},
        {"prompt": "q", "completion": "añ"},
        {"instruction": "q", "input": "i", "output": "añ"},
        {"instruction": "q", "response": "añ"},
        {"question": "q", "answer": "añ"},
    ],
)
@pytest.mark.parametrize("template", ["tokenizer", "plain"])
def test_the_answer_and_its_end_are_learnt_in_every_format(tmp_path, tokenizer, row, template):
    if template == "plain":
        tokenizer.chat_template = None
    rows = tokenise(write(tmp_path, row), "auto", tokenizer, 200)
    assert rows.template == template
    assert learnt(rows, tokenizer) == ["añ<|end|>"]


@pytest.mark.parametrize("answer", ["a", "e", "end", "|", ">", "assistant"])
@pytest.mark.parametrize("asked", [[], [{"role": "user", "content": "e"}]])
def test_an_answer_that_looks_like_the_template_is_learnt_at_its_own_place(
    tmp_path, tokenizer, answer, asked
):
    row = {"messages": [*asked, {"role": "assistant", "content": answer}]}
    rows = tokenise(write(tmp_path, row), "auto", tokenizer, 200)
    assert learnt(rows, tokenizer) == [f"{answer}<|end|>"]


def test_text_is_learnt_but_for_its_first_token(tmp_path, tokenizer):
    rows = tokenise(write(tmp_path, {"text": "once"}), "auto", tokenizer, 200)
    assert rows.template == "none"
    assert learnt(rows, tokenizer) == ["nce<|end|>"]


@pytest.mark.parametrize("template", [None, FORGETFUL, "tokenizer"])
def test_all_answers_of_a_conversation_are_learnt_and_no_question(tmp_path, tokenizer, template):
    if template != "tokenizer":
        tokenizer.chat_template = template
    turns = [("user", "one"), ("assistant", "1 "), ("user", "two"), ("assistant", "2")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    [said] = learnt(tokenise(write(tmp_path, row), "auto", tokenizer, 200), tokenizer)
    assert (
        said.replace("<think></think>", "").replace("\n", "").replace(" ", "") == "1<|end|>2<|end|>"
    )


CALL = {"function": {"name": "f", "arguments": {}}}
CALLED = '<call>{"name": "f", "arguments": {}}</call><|end|>\n'


def test_answers_and_calls_are_learnt_as_a_thinking_model_shows_them(tmp_path, tokenizer):
    tokenizer.chat_template = THINKING
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    question, result = {"role": "user", "content": "q"}, {"role": "tool", "content": "3"}
    answer = {"role": "assistant", "content": "three (the answer)"}
    thought = {"reasoning_content": "hm"}
    rows = [
        [question, calling, result, answer],
        [question, calling | thought, result, answer],
        [question, calling | thought, result, answer | thought, question, answer | thought],
        [question, answer, answer],
    ]
    path = write(tmp_path, *({"messages": messages} for messages in rows))
    said, shown = "three (the answer)<|end|>\n", "<think>hm</think>"
    assert learnt(tokenise(path, "auto", tokenizer, 400), tokenizer) == [
        f"{CALLED}<think></think>{said}",
        f"{shown}{CALLED}<think></think>{said}",
        f"{CALLED}{said}{shown}{said}",
        f"{said}{said}",
    ]


def test_thinking_reaches_a_template_under_the_name_that_it_reads(tmp_path, tokenizer):
    tokenizer.chat_template = THINKING
    question, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    names = ("reasoning_content", "reasoning", "thinking")
    rows = [{"messages": [question, said | {name: "hm"}]} for name in names]
    told: list[str] = []
    rows = tokenise(write(tmp_path, *rows), "auto", tokenizer, 400, say=told.append)
    assert learnt(rows, tokenizer) == ["<think>hm</think>a<|end|>\n"] * 3
    assert not any("thinking" in line for line in told)


@pytest.mark.parametrize("template", ["tokenizer", "plain"])
def test_what_rows_hold_and_a_template_does_not_show_is_said(tmp_path, tokenizer, template):
    tokenizer.chat_template = FORGETFUL if template == "tokenizer" else None
    question, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    rows = [
        {"messages": [question, said | {"thinking": "hm"}], "tools": [tool], "id": 1},
        {"messages": [question, said]},
    ]
    path = write(tmp_path, *rows)
    for _ in ("made", "found"):
        told: list[str] = []
        tokenise(path, "auto", tokenizer, 400, say=told.append)
        named = "the plain template" if template == "plain" else "the chat template"
        assert f"1 rows hold thinking that {named} does not show there: it is not learnt" in told
        assert any(line.startswith("1 rows name tools that") for line in told) == (
            template == "tokenizer"
        )
        assert told[-1] == "no part of format messages, so not read: id"


def test_a_call_written_as_text_is_learnt_as_the_template_shows_calls(tmp_path, tokenizer):
    turns = [("human", "q"), ("function_call", '{"name": "f", "arguments": {}}')]
    row = {"conversations": [{"from": who, "value": said} for who, said in turns]}
    tokenizer.chat_template = THINKING
    path = write(tmp_path, row)
    assert learnt(tokenise(path, "auto", tokenizer, 400), tokenizer) == [f"<think></think>{CALLED}"]
    tokenizer.chat_template = FORGETFUL
    [said] = learnt(tokenise(path, "auto", tokenizer, 400), tokenizer)
    assert said == '<think></think>{"name": "f", "arguments": {}}<|end|>\n'


@pytest.mark.parametrize("template", ["tokenizer", "plain"])
def test_an_empty_answer_is_context_and_a_row_without_another_is_skipped(
    tmp_path, tokenizer, template
):
    if template == "plain":
        tokenizer.chat_template = None
    empty = {"role": "assistant", "content": " "}
    path = write(
        tmp_path,
        {"messages": [TWO_ROUNDS[0], empty, *TWO_ROUNDS[2:]]},
        {"messages": [TWO_ROUNDS[0], empty]},
        {"messages": [{"role": "assistant", "content": "a", "weight": 0}]},
    )
    rows = tokenise(path, "auto", tokenizer, 200)
    assert (learnt(rows, tokenizer), rows.skipped) == (["b<|end|>"], 2)
    path = write(tmp_path, {"text": "one"}, {"text": ""})
    assert (len(rows := tokenise(path, "auto", tokenizer, 200)), rows.skipped) == (1, 1)


def test_an_untrained_answer_is_context(tmp_path, tokenizer):
    row = {
        "messages": [
            {"role": "assistant", "content": "no", "weight": 0},
            {"role": "assistant", "content": "yes"},
        ]
    }
    rows = tokenise(write(tmp_path, row), "auto", tokenizer, 200)
    assert learnt(rows, tokenizer) == ["yes<|end|>"]


def test_long_rows_are_cut_and_those_without_an_answer_left_are_skipped(tmp_path, tokenizer):
    rows = tokenise(
        write(
            tmp_path,
            {"prompt": "q" * 50, "completion": "a"},
            {"prompt": "q", "completion": "a" * 50},
            {"prompt": "q", "completion": "a"},
        ),
        "auto",
        tokenizer,
        20,
    )
    assert (rows.skipped, rows.truncated) == (1, 2)
    assert rows.numbers.tolist() == [2, 3]
    assert rows.lengths.tolist() == [20, 5]
    assert rows.label_counts.tolist() == [17, 2]


@pytest.mark.parametrize("cell", ["x", "some words, ", "\u00e4\U0001f600 ", "\n"])
def test_of_a_huge_cell_no_more_is_tokenised_than_can_be_trained_on(tmp_path, tokenizer, cell):
    huge = cell * (1 << 20)
    whole = tokenizer(f"<|user|>q<|assistant|>{huge[:4000]}", add_special_tokens=False).input_ids
    [begin] = begin_of([huge], tokenizer.backend_tokenizer, 200)
    assert 200 < len(begin) < 1 << 18
    path = write(tmp_path, {"prompt": "q", "completion": f"{huge}!"})
    rows = tokenise(path, "auto", tokenizer, 200)
    assert rows.tokens.tolist() == whole[:200]
    assert (rows.truncated, rows.shortened) == (1, 1)


def test_a_batch_is_padded_to_its_longest_and_attends_to_no_padding(tmp_path, tokenizer):
    path = write(tmp_path, {"text": "long one"}, {"text": "b"})
    rows = tokenise(path, "auto", tokenizer, 200)
    batch = rows.batch(np.array([1, 0]), pad_id=0)
    assert batch.ids.shape == (2, 9)
    assert batch.attention.sum(axis=1).tolist() == [2, 9]
    assert batch.labelled.sum(axis=1).tolist() == rows.label_counts[[1, 0]].tolist()


def test_other_labels_on_equal_tokens_are_another_digest(tmp_path, tokenizer):
    trained = {"messages": [{"role": "assistant", "content": "a"}] * 2}
    half = {
        "messages": [{"role": "assistant", "content": "a", "weight": 0}, trained["messages"][1]]
    }
    one, other = (tokenise(write(tmp_path, row), "auto", tokenizer, 200) for row in (trained, half))
    assert one.tokens.tolist() == other.tokens.tolist()
    assert one.digest != other.digest


def test_what_cannot_be_trained_on_is_said_with_its_row(tmp_path, tokenizer):
    good = {"prompt": "q", "completion": "a"}
    with pytest.raises(DataError, match=r"rows\.jsonl, row 2, completion: is missing"):
        tokenise(write(tmp_path, good, {"prompt": "q"}), "auto", tokenizer, 200)
    with pytest.raises(DataError, match="none of its 1 rows has an answer within 3 tokens"):
        tokenise(write(tmp_path, good), "auto", tokenizer, 3)
    with pytest.raises(DataError, match="none of its 1 rows has an answer to learn, all are empty"):
        tokenise(write(tmp_path, good | {"completion": " "}), "auto", tokenizer, 200)
    tokenizer.chat_template = CHANGING
    with pytest.raises(DataError, match=r"row 1: .* does not show turn 2 as it was said"):
        tokenise(write(tmp_path, {"messages": TWO_ROUNDS}), "auto", tokenizer, 200)
    tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(DataError, match=r"refuses the turns user, assistant .*no system turns"):
        tokenise(write(tmp_path, good), "auto", tokenizer, 200)
