"""A dataset as token arrays with the mask of what is learnt. Knows the tokenizer, not the model."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from remote.data.formats import Conversation, Example, Turn, read_examples
from remote.data.rows import Problem

CHUNK_ROWS = 512
STAND_IN = "(the answer)"
PLAIN_HEADINGS = {
    "system": "### System:\n",
    "user": "### Instruction:\n",
    "assistant": "### Response:\n",
    "tool": "### Tool:\n",
}


class DataError(ValueError):
    """The dataset cannot be trained on; the message says which row and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples padded to the longest: three arrays of shape (samples, longest)."""

    ids: np.ndarray  # int64
    attention: np.ndarray  # int64, 0 on padding
    labelled: np.ndarray  # bool: this token is an answer's; never true in the first column


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that can be trained on, laid end to end."""

    tokens: np.ndarray  # int32, all rows
    labelled: np.ndarray  # bool, as long as tokens
    offsets: np.ndarray  # int64, one more than rows
    label_counts: np.ndarray  # int64, tokens of each row that the loss counts
    numbers: np.ndarray  # int64, the row's number in the dataset file
    skipped: int
    truncated: int
    template: str  # "tokenizer", "plain" or, for plain text, "none"

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def digest(self) -> str:
        """Equal on two ranks exactly when they train on the same tokens and the same labels."""
        content = hashlib.sha256(self.tokens.tobytes())
        content.update(self.offsets.tobytes())
        content.update(np.packbits(self.labelled).tobytes())
        return content.hexdigest()

    def batch(self, rows: np.ndarray, pad_id: int) -> Batch:
        longest = int(self.lengths[rows].max())
        ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
        attention = np.zeros_like(ids)
        labelled = np.zeros(ids.shape, dtype=bool)
        for line, row in enumerate(rows):
            begin, end = self.offsets[row], self.offsets[row + 1]
            ids[line, : end - begin] = self.tokens[begin:end]
            attention[line, : end - begin] = 1
            labelled[line, : end - begin] = self.labelled[begin:end]
        return Batch(ids=ids, attention=attention, labelled=labelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A row as the model sees it, with the character spans that are learnt."""

    text: str
    spans: list[tuple[int, int]]


def tokenise(
    path: Path, declared: str | Mapping[str, str], tokenizer: Any, max_length: int
) -> Rows:
    """Reads and tokenises the whole dataset. A row that breaks its format is a DataError: the plan
    was made for all rows, so none is left out silently. A row whose answer lies wholly beyond
    `max_length` tokens is skipped and counted."""
    tokens: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    numbers: list[int] = []
    skipped = truncated = 0
    template = "none"
    sound = _sound(path, read_examples(path, declared))
    while chunk := list(islice(sound, CHUNK_ROWS)):
        if isinstance(chunk[0], Conversation):
            template = "tokenizer" if tokenizer.chat_template else "plain"
        for example, ids, mask in _encode(chunk, tokenizer):
            truncated += len(ids) > max_length
            kept = mask[:max_length].copy()
            kept[:1] = False  # nothing comes before the first token from which to foretell it
            if not kept.any():
                skipped += 1
                continue
            tokens.append(ids[:max_length])
            masks.append(kept)
            numbers.append(example.row)
    if not tokens:
        raise DataError(
            f"{path.name}: none of its {skipped} rows has an answer within {max_length} tokens; "
            "raise max_length"
        )
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    return Rows(
        tokens=np.concatenate(tokens),
        labelled=np.concatenate(masks),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        label_counts=np.array([mask.sum() for mask in masks], dtype=np.int64),
        numbers=np.array(numbers, dtype=np.int64),
        skipped=skipped,
        truncated=truncated,
        template=template,
    )


def render_prompt(prompt: str, tokenizer: Any) -> str:
    """A question as the model sees it, up to where its answer begins."""
    return _opening([Turn(role="user", content=prompt, trained=False)], tokenizer)


def _sound(path: Path, examples: Iterable[Example | Problem]) -> Iterator[Example]:
    for item in examples:
        if isinstance(item, Problem):
            raise DataError(f"{path.name}, {item}")
        yield item


def _encode(
    examples: list[Example], tokenizer: Any
) -> Iterator[tuple[Example, np.ndarray, np.ndarray]]:
    """Yields ids (int32) and mask (bool) of each example.

    A token is learnt when it begins inside a learnt span of the rendered text; so the mask needs
    no assumption about how a template's pieces would be tokenised alone."""
    rendered = [render(example, tokenizer) for example in examples]
    encoded = tokenizer(
        [entry.text for entry in rendered],
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
    )
    for example, entry, ids, offsets in zip(
        examples, rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        begins = np.array([begin for begin, _ in offsets], dtype=np.int64)
        mask = np.zeros(len(ids), dtype=bool)
        for first, last in entry.spans:
            mask |= (begins >= first) & (begins < last)
        yield example, np.array(ids, dtype=np.int32), mask


def render(example: Example, tokenizer: Any) -> Rendered:
    """An example as text, by the tokenizer's chat template where it has one."""
    if not isinstance(example, Conversation):
        text = _begin(tokenizer) + example.content + _end(tokenizer)
        return Rendered(text=text, spans=[(0, len(text))])
    turns = example.turns
    text = _rendered(turns, tokenizer)
    spans = []
    for place, turn in enumerate(turns):
        if not turn.trained:
            continue
        # A template may show a turn differently once others follow it (thinking is dropped), so the
        # answer is looked for in the whole text, from where that and the answer's opening part.
        before, after = _around(turns[:place], tokenizer)
        # What opens an answer is what will stand there when the model is asked.
        start = _shared_length(_opening(turns[:place], tokenizer) if place else before, text)
        content = turn.content
        if (at := text.find(content, start)) < 0:  # most templates strip it
            content = content.strip()
            at = text.find(content, start)
        if at < 0:
            raise DataError(
                f"row {example.row}: the tokenizer's chat template does not show the text of turn "
                f"{place + 1} as it is, so its tokens cannot be told; remove chat_template from "
                "the model folder's tokenizer to use the plain template"
            )
        end = at + len(content)
        spans.append((start, end + _shared_length(after, text[end:])))
    return Rendered(text=text, spans=spans)


def _around(turns: tuple[Turn, ...], tokenizer: Any) -> tuple[str, str]:
    """What stands before and behind an answer that follows `turns`. What stands behind, the token
    that ends an answer above all, is learnt with it."""
    answer = Turn(role="assistant", content=STAND_IN, trained=True)
    before, _, after = _rendered((*turns, answer), tokenizer).partition(STAND_IN)
    return before, after


def _shared_length(one: str, other: str) -> int:
    """How many characters both begin with."""
    if other.startswith(one):
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _opening(turns: Iterable[Turn], tokenizer: Any) -> str:
    if tokenizer.chat_template:
        return _templated(turns, tokenizer, add_generation_prompt=True)
    return _plain(turns, tokenizer) + "\n\n" + PLAIN_HEADINGS["assistant"]


def _rendered(turns: Iterable[Turn], tokenizer: Any) -> str:
    if tokenizer.chat_template:
        return _templated(turns, tokenizer, add_generation_prompt=False)
    return _plain(turns, tokenizer)


def _templated(turns: Iterable[Turn], tokenizer: Any, *, add_generation_prompt: bool) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except Exception as error:  # a template raises what it likes: jinja2's errors, TypeError, ...
        said = f"{type(error).__name__}: {error}"
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(
            f"the tokenizer's chat template refuses the turns {roles} ({said})"
        ) from error


def _plain(turns: Iterable[Turn], tokenizer: Any) -> str:
    parts = []
    for turn in turns:
        ending = _end(tokenizer) if turn.role == "assistant" else ""
        parts.append(f"{PLAIN_HEADINGS[turn.role]}{turn.content.strip()}{ending}")
    return _begin(tokenizer) + "\n\n".join(parts)


def _begin(tokenizer: Any) -> str:
    """The tokenizer's own first token, where it puts one."""
    first = tokenizer("").input_ids[:1]
    return tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else ""


def _end(tokenizer: Any) -> str:
    return tokenizer.eos_token or ""
