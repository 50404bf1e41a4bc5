"""The ways to write a dataset: which columns tell each, and how its rows are read. Standard library
only; opens no file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from remote.data.turns import Turn, WrongError, read_text, read_turns


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


def _pair(question: str, answers: tuple[str, ...], context: str | None = None) -> Any:
    """A reader of rows with one question column, one answer column and maybe some context."""

    def read(row: Mapping[str, Any]) -> tuple[Turn, ...]:
        answer = next(name for name in answers if name in row)
        asked = read_text(row[question], question)
        if context is not None and row.get(context) is not None:
            extra = read_text(row[context], context, may_be_empty=True)
            asked = f"{asked}\n\n{extra}" if extra.strip() else asked
        said = read_text(row[answer], answer, may_be_empty=True)
        earlier = _rounds(row.get("history")) if context is not None else ()
        return *_system(row), *earlier, *_round(asked, said)

    return read


def _round(asked: str, said: str) -> tuple[Turn, Turn]:
    return (
        Turn(role="user", content=asked, trained=False),
        Turn(role="assistant", content=said, trained=bool(said.strip())),
    )


def _rounds(history: Any) -> Iterator[Turn]:
    """What was said before, as LLaMA-Factory writes it: a list of [question, answer]."""
    if not history:
        return
    if not isinstance(history, list):
        raise WrongError("history", "is not a list of [question, answer]")
    for place, pair in enumerate(history):
        where = f"history[{place}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise WrongError(where, "is not [question, answer]")
        yield from _round(read_text(pair[0], where), read_text(pair[1], where, may_be_empty=True))


def _prompt_completion(row: Mapping[str, Any]) -> tuple[Turn, ...]:
    """Prompt and completion as texts, or both as lists of messages; the loss counts the
    completion's answers only."""
    prompt, completion = row["prompt"], row["completion"]
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return _of_texts(row)
    asked = tuple(replace(turn, trained=False) for turn in read_turns(prompt, "prompt"))
    answered = read_turns(completion, "completion")
    if not any(turn.role == "assistant" for turn in answered):
        raise WrongError("completion", "has no assistant turn to learn from")
    return *_system(row), *asked, *answered


_of_texts = _pair("prompt", ("completion",))


def _messages(column: str) -> Any:
    """A reader of rows that hold a whole conversation as a list of objects."""

    def read(row: Mapping[str, Any]) -> tuple[Turn, ...]:
        turns = read_turns(row[column], column)
        if not any(turn.role == "assistant" for turn in turns):
            raise WrongError(column, "has no assistant turn to learn from")
        return turns if turns[0].role == "system" else (*_system(row), *turns)

    return read


def _system(row: Mapping[str, Any]) -> tuple[Turn, ...]:
    if row.get("system") is None:
        return ()
    system = read_text(row["system"], "system", may_be_empty=True)
    return (Turn(role="system", content=system, trained=False),) if system.strip() else ()


FORMATS = (
    Format(
        name="messages",
        needs=(("messages",),),
        optional=("system", "tools"),
        read=_messages("messages"),
    ),
    Format(
        name="sharegpt",
        needs=(("conversations",),),
        optional=("system", "tools"),
        read=_messages("conversations"),
    ),
    Format(
        name="prompt-completion",
        needs=(("prompt",), ("completion",)),
        optional=("system", "tools"),
        read=_prompt_completion,
    ),
    Format(
        name="alpaca",
        needs=(("instruction",), ("output", "response")),
        optional=("input", "system", "history"),
        read=_pair("instruction", ("output", "response"), context="input"),
    ),
    Format(
        name="question-answer",
        needs=(("question",), ("answer",)),
        optional=("system",),
        read=_pair("question", ("answer",)),
    ),
    Format(
        name="text",
        needs=(("text",),),
        read=lambda row: read_text(row["text"], "text", may_be_empty=True),
    ),
)
