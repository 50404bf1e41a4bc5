"""Whatever the rows hold, tokens are right or a DataError names the row; nothing else is raised."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote import tiny
from remote.data.render import DataError
from remote.data.tokenising import tokenise

MAX_LENGTH = 48
TEMPLATES = {
    "the demo's": tiny.CHAT_TEMPLATE,
    "plain headings": None,
    "one that marks answers": (
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}<|end|>"
        "{% endgeneration %}{% else %}Q:{{ m.content | trim }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}A:{% endif %}"
    ),
    "one that forgets and refuses": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.role }}:{% if m.role == 'assistant' and loop.last %}<think></think>"
        "{% endif %}{{ m.content | trim }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    ),
}
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["<|end|>", "assistant:", "A:", "### Response:\n", " ", "\r\n", "\ufeff", "é" * 30, "👩‍👩‍👧"]
)
calls = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries(
            {"name": words, "arguments": st.dictionaries(words, words, max_size=2)})}
    ),
    max_size=2,
)  # fmt: skip
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": words},
        optional={"tool_calls": calls, "weight": st.sampled_from([0, 1])},
    ),
    min_size=1,
    max_size=5,
)
row = st.fixed_dictionaries({"messages": messages}, optional={"system": words})
texts = st.fixed_dictionaries({"text": words})


@pytest.mark.parametrize("template", TEMPLATES)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.lists(row, min_size=1, max_size=4) | st.lists(texts, min_size=1, max_size=4))
def test_rows_become_tokens_or_are_named(tokenizer: Any, template: str, data: list[Any]) -> None:
    tokenizer.chat_template = TEMPLATES[template]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n" for entry in data))
        try:
            rows = tokenise(
                path, "auto", tokenizer, MAX_LENGTH, folder=Path(folder) / "t", say=str
            ).training
        except DataError as error:
            said = str(error)
            assert re.search(r"row [1-9]|none of its \d+ rows", said), said
            return
        assert len(rows) + rows.skipped == len(data)
        assert rows.lengths.max() <= MAX_LENGTH
        assert rows.truncated >= rows.shortened
        for number, begin, end in zip(rows.numbers, rows.offsets, rows.offsets[1:], strict=False):
            mask = rows.labelled[begin:end]
            assert mask.any()
            assert not mask[0]
            if "text" in data[number - 1]:
                assert mask[1:].all()
        np.testing.assert_array_equal(np.diff(rows.offsets), rows.lengths)
