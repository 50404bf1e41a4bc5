"""What a row of a dataset means: columns become a conversation or plain text.

Standard library only. Never raises on bad data: whatever a row does wrong is a `Problem` with row,
column and reason.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remote.data.rows import Problem, every, read_rows
from remote.data.source import Source, SourceError, find_source
from remote.data.turns import Turn, WrongError, read_text, read_tools, read_turns

Mine = Callable[[int, int], bool]  # whether a row is wanted, by its file and its number


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """`unread` are columns of the row, and keys of its messages, that hold something and that its
    format does not know."""

    row: int
    turns: tuple[Turn, ...]
    tools: tuple[Any, ...] = ()  # what the assistant may call, as JSON schemas
    file: int = 0
    unread: tuple[str, ...] = ()

    @property
    def chars(self) -> int:
        return sum(
            len(turn.content) + len(turn.thinking) + len(turn.call_text) for turn in self.turns
        )

    @property
    def has_answer(self) -> bool:
        """Whether there is anything to learn; a row without is skipped and counted."""
        return any(turn.trained for turn in self.turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A row of plain text: every token is trained."""

    row: int
    content: str
    file: int = 0
    unread: tuple[str, ...] = ()

    @property
    def chars(self) -> int:
        return len(self.content)

    @property
    def has_answer(self) -> bool:
        return bool(self.content.strip())


Example = Conversation | Text


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


def read_examples(dataset: Path | Source, declared: str | Mapping[str, str] = "auto") -> "Examples":
    """Reads a dataset lazily. `declared` is a format's name, "auto", or a mapping from the names
    that a format uses to the columns of this dataset."""
    return Examples(dataset, declared)


class Examples:
    """The examples and problems of a dataset, in its order. `format` is known after the first row,
    and the other files must be of the same. Rows that are not `mine` are left out."""

    def __init__(
        self, dataset: Path | Source, declared: str | Mapping[str, str], mine: Mine | None = None
    ) -> None:
        self._dataset = dataset
        self._declared = declared
        self._mine = mine
        self.format: Format | None = None

    def __iter__(self) -> Iterator[Example | Problem]:
        try:
            dataset = self._dataset
            source = dataset if isinstance(dataset, Source) else find_source(dataset)
        except SourceError as error:
            yield Problem(row=0, column=None, reason=str(error))
            return
        for file in range(len(source.names)):
            shown = source.shown(file)
            for item in self._of_file(file, source.files[file]):
                yield replace(item, file=shown) if shown and isinstance(item, Problem) else item

    def _of_file(self, file: int, path: Path) -> Iterator[Example | Problem]:
        renamed = {} if isinstance(self._declared, str) else dict(self._declared)
        declared = self._declared if isinstance(self._declared, str) else "auto"
        is_first = True  # tells the format, whoever's row it is

        def wanted(number: int) -> bool:
            return is_first or self._mine is None or self._mine(file, number)

        for item in read_rows(path, wanted if self._mine else every):
            if isinstance(item, Problem):
                if not item.row or wanted(item.row):
                    yield item
                continue
            number, row = item
            columns = list(row)
            if renamed:
                row = {name: row[column] for name, column in renamed.items() if column in row}
            if is_first:
                found = choose_format(declared, columns, renamed)
                if isinstance(found, str):
                    yield Problem(row=0, column=None, reason=found)
                    return
                if self.format not in (None, found):
                    reason = f"is {found.name}, and the files before it are {self.format.name}"
                    yield Problem(row=0, column=None, reason=reason)
                    return
                self.format = found
                is_first = False
                if not wanted(number):
                    continue
            assert self.format is not None
            yield _example(self.format, file, number, row, renamed)


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
    form: Format, file: int, number: int, row: Mapping[str, Any], renamed: Mapping[str, str]
) -> Example | Problem:
    try:
        for group in form.needs:
            if not any(name in row for name in group):
                raise WrongError(group[0], "is missing")
        content = form.read(row)
        unread = [name for name, cell in row.items() if cell and name not in form.known_columns]
        if isinstance(content, str):
            return Text(row=number, content=content, file=file, unread=tuple(unread))
        keys = dict.fromkeys(key for turn in content for key in turn.unread)
        unread += [f"{form.needs[0][0]}[].{key}" for key in keys]
        return Conversation(
            row=number, turns=content, tools=read_tools(row), file=file, unread=tuple(unread)
        )
    except WrongError as wrong:
        column = renamed.get(wrong.column, wrong.column) if wrong.column else None
        return Problem(row=number, column=column, reason=wrong.reason)


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
