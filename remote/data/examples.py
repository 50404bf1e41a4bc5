"""What a row of a dataset means: columns become a conversation or plain text.

Standard library only. Never raises on bad data: whatever a row does wrong is a `Problem` with row,
column and reason.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remote.data.formats import Format, choose_format
from remote.data.rows import Problem, every, read_rows
from remote.data.source import Source, SourceError, find_source
from remote.data.turns import Turn, WrongError, read_tools

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
