"""What a row of a dataset means: columns become a conversation or plain text.

Standard library only. Never raises on bad data: whatever a row does wrong is a `Problem` with row,
column and reason.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.data.rows import Problem, read_rows

CANNOT_BE_TEXT = re.compile("[\ud800-\udfff]")
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message. `trained` says that the loss counts its tokens."""

    role: str
    content: str
    trained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    row: int
    turns: tuple[Turn, ...]

    @property
    def chars(self) -> int:
        return sum(len(turn.content) for turn in self.turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A row of plain text: every token is trained."""

    row: int
    content: str

    @property
    def chars(self) -> int:
        return len(self.content)


Example = Conversation | Text


class _Wrong(Exception):
    """One column of the row at hand cannot be used."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A way to write a dataset: told by the columns it needs, read row by row."""

    name: str
    needs: tuple[tuple[str, ...], ...]  # one name of each group must be a column
    optional: tuple[str, ...] = ()
    read: Callable[[Mapping[str, Any]], tuple[Turn, ...] | str]

    def fits(self, columns: set[str]) -> bool:
        return all(columns.intersection(group) for group in self.needs)

    @property
    def columns(self) -> str:
        return ", ".join("|".join(group) for group in self.needs)

    @property
    def known_columns(self) -> list[str]:
        return [*(name for group in self.needs for name in group), *self.optional]


def read_examples(path: Path, declared: str | Mapping[str, str] = "auto") -> "Examples":
    """Reads a dataset file lazily. `declared` is a format's name, "auto", or a mapping from the
    names that a format uses to the columns of this file."""
    return Examples(path, declared)


class Examples:
    """The examples and problems of a file, in its order; `format` is known after the first row."""

    def __init__(self, path: Path, declared: str | Mapping[str, str]) -> None:
        self._path = path
        self._declared = declared
        self.format: Format | None = None

    def __iter__(self) -> Iterator[Example | Problem]:
        renamed = {} if isinstance(self._declared, str) else dict(self._declared)
        wanted = self._declared if isinstance(self._declared, str) else "auto"
        for item in read_rows(self._path):
            if isinstance(item, Problem):
                yield item
                continue
            number, row = item
            if renamed:
                row = {name: row[column] for name, column in renamed.items() if column in row}
            if self.format is None:
                found = choose_format(wanted, list(item[1]), renamed)
                if isinstance(found, str):
                    yield Problem(row=0, column=None, reason=found)
                    return
                self.format = found
            yield _example(self.format, number, row, renamed)


def choose_format(declared: str, columns: list[str], renamed: Mapping[str, str]) -> Format | str:
    """The format that the columns of the first row tell, or a sentence saying why there is none."""
    seen = ", ".join(map(repr, columns)) or "none"
    if renamed:
        known = {name for entry in FORMATS for name in entry.known_columns}
        if unknown := sorted(set(renamed) - known):
            return (
                f"the mapping names {unknown[0]!r}, which no format has; it may name: "
                + ", ".join(sorted(known))
            )
        if absent := [column for column in renamed.values() if column not in columns]:
            return f"the mapping names the column {absent[0]!r}; the columns are {seen}"
    elif declared != "auto":
        for entry in FORMATS:
            if entry.name == declared:
                if entry.fits(set(columns)):
                    return entry
                return f"format {declared} needs {entry.columns}; the columns are {seen}"
        names = ", ".join(entry.name for entry in FORMATS)
        return f"unknown format {declared!r}; it may be auto, {names}, or a column mapping"
    usable = set(renamed or columns)
    if {"chosen", "rejected"} <= usable:
        return (
            "columns 'chosen' and 'rejected' are preference data, which fine-tuning on answers "
            "cannot use; to train on the preferred answers write a mapping, for example "
            "format: {prompt: prompt, completion: chosen}"
        )
    for entry in FORMATS:
        if entry.fits(usable):
            return entry
    if renamed:
        return "the mapping does not complete a format; one of these is needed: " + "; ".join(
            f"{entry.name} ({entry.columns})" for entry in FORMATS
        )
    if len(columns) >= 2:
        example = f"format: {{prompt: {columns[0]!r}, completion: {columns[1]!r}}}"
    else:
        example = f"format: {{text: {columns[0] if columns else 'COLUMN'!r}}}"
    return f"the columns {seen} are of no known format; say which is which, for example {example}"


def _example(
    form: Format, number: int, row: Mapping[str, Any], renamed: Mapping[str, str]
) -> Example | Problem:
    try:
        for group in form.needs:
            if not any(name in row for name in group):
                raise _Wrong(group[0], "is missing")
        content = form.read(row)
    except _Wrong as wrong:
        column = renamed.get(wrong.column, wrong.column) if wrong.column else None
        return Problem(row=number, column=column, reason=wrong.reason)
    if isinstance(content, str):
        return Text(row=number, content=content)
    return Conversation(row=number, turns=content)


def _text(value: Any, column: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise _Wrong(column, f"is {_kind(value)}, not text")
    if found := CANNOT_BE_TEXT.search(value):
        # A reader keeps bytes that are not UTF-8 as U+DC80..U+DCFF.
        if "\udc80" <= found[0] <= "\udcff":
            raise _Wrong(column, f"holds bytes that are not UTF-8 (character {found.start() + 1})")
        raise _Wrong(column, f"holds half of a surrogate pair (character {found.start() + 1})")
    if not may_be_empty and not value.strip():
        raise _Wrong(column, "is empty")
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__


def _pair(question: str, answers: tuple[str, ...], context: str | None = None) -> Any:
    """A reader of rows with one question column, one answer column and maybe some context."""

    def read(row: Mapping[str, Any]) -> tuple[Turn, ...]:
        answer = next(name for name in answers if name in row)
        asked = _text(row[question], question)
        if context is not None and row.get(context) is not None:
            extra = _text(row[context], context, may_be_empty=True)
            asked = f"{asked}\n\n{extra}" if extra.strip() else asked
        turns = (
            Turn(role="user", content=asked, trained=False),
            Turn(role="assistant", content=_text(row[answer], answer), trained=True),
        )
        if row.get("system") is None:
            return turns
        system = _text(row["system"], "system", may_be_empty=True)
        if not system.strip():
            return turns
        return Turn(role="system", content=system, trained=False), *turns

    return read


def _messages(column: str, role_key: str, content_key: str) -> Any:
    """A reader of rows that hold a whole conversation as a list of objects."""

    def read(row: Mapping[str, Any]) -> tuple[Turn, ...]:
        messages = row[column]
        if not isinstance(messages, list):
            raise _Wrong(column, f"is {_kind(messages)}, not a list")
        if not messages:
            raise _Wrong(column, "is an empty list")
        turns = tuple(turn(message, f"{column}[{i}]") for i, message in enumerate(messages))
        if not any(turn.trained for turn in turns):
            raise _Wrong(column, "has no assistant turn to learn from")
        return turns

    def turn(message: Any, where: str) -> Turn:
        if not isinstance(message, dict):
            raise _Wrong(where, f"is {_kind(message)}, not an object")
        for key in (role_key, content_key):
            if key not in message:
                raise _Wrong(f"{where}.{key}", "is missing")
        said = message[role_key]
        role = ROLES.get(said.lower()) if isinstance(said, str) else None
        if role is None:
            raise _Wrong(
                f"{where}.{role_key}",
                f"is {said!a}; known are {', '.join(ROLES)}",
            )
        if message.get("tool_calls"):
            raise _Wrong(f"{where}.tool_calls", "is not text; write the call into the content")
        content = _text(
            _joined(message[content_key]),
            f"{where}.{content_key}",
            may_be_empty=role != "assistant",
        )
        trained = role == "assistant" and message.get("weight", 1) != 0
        return Turn(role=role, content=content, trained=trained)

    return read


def _joined(content: Any) -> Any:
    """Text given as a list of parts, as one text; anything else as it is."""
    if not isinstance(content, list):
        return content
    texts = [part["text"] for part in content if _is_text_part(part)]
    return "".join(texts) if texts and len(texts) == len(content) else content


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


FORMATS = (
    Format(name="messages", needs=(("messages",),), read=_messages("messages", "role", "content")),
    Format(
        name="sharegpt",
        needs=(("conversations",),),
        read=_messages("conversations", "from", "value"),
    ),
    Format(
        name="prompt-completion",
        needs=(("prompt",), ("completion",)),
        optional=("system",),
        read=_pair("prompt", ("completion",)),
    ),
    Format(
        name="alpaca",
        needs=(("instruction",), ("output", "response")),
        optional=("input", "system"),
        read=_pair("instruction", ("output", "response"), context="input"),
    ),
    Format(
        name="question-answer",
        needs=(("question",), ("answer",)),
        optional=("system",),
        read=_pair("question", ("answer",)),
    ),
    Format(name="text", needs=(("text",),), read=lambda row: _text(row["text"], "text")),
)
