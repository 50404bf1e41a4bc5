"""Rows of a dataset file, one at a time: jsonl, json, csv, tsv, txt, parquet. Standard library
only, but for parquet.

Memory stays flat whatever the file's size. Says nothing about what columns mean. A row's number is
its line in jsonl and txt files, its place among the records (from 1) in the others.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

MAX_ROW_CHARS = 32 << 20
CHUNK_CHARS = 1 << 16
BETWEEN_ELEMENTS = re.compile(r"[ \t\r\n]*")
TWICE = "stands twice in one object"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a row, or with the whole file (row 0). `file` is named where a dataset has
    several."""

    row: int
    column: str | None
    reason: str
    file: str | None = None

    def __str__(self) -> str:
        place = [self.file] if self.file else [] if self.row else ["the file"]
        if self.row:
            place.append(f"row {self.row}")
        if self.column:
            place.append(self.column)
        return f"{', '.join(place)}: {self.reason}"


Row = tuple[int, dict[str, Any]]
Wanted = Callable[[int], bool]  # whether the row of this number is wanted


class _TwiceError(ValueError):
    """An object names a key twice; which of its values is meant, nobody knows."""


def every(number: int) -> bool:
    return True


def read_rows(path: Path, wanted: Wanted = every) -> Iterator[Row | Problem]:
    """Yields every row of the file with its number, or what is wrong there, in the file's order.
    A row that is not `wanted` may be left out, where that saves reading it."""
    kind = path.suffix.lower()
    if kind == PARQUET:
        from remote.data.parquet import read_parquet

        yield from read_parquet(path, wanted)
        return
    reader = READERS.get(kind)
    if reader is None:
        yield _whole(f"{path.name} is none of the kinds of file known: {', '.join(KINDS)}")
        return
    try:
        with path.open("rb") as start:
            if start.read(2) in UTF16_MARKS:
                yield _whole(f"{path.name} is UTF-16 text; save it as UTF-8")
                return
        # Bytes that are not UTF-8 become lone surrogates, so only the row that holds them is lost.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            empty = True
            for item in reader(file, wanted):
                empty = False
                yield item
            if empty:
                yield _whole(f"{path.name} holds no rows")
    except OSError as error:
        yield _whole(f"{path} cannot be read: {error.strerror}")


def _whole(reason: str) -> Problem:
    return Problem(row=0, column=None, reason=reason)


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Numbered lines that hold something. Only line feeds end a line: JSON text may hold U+2028."""
    number = 0
    while line := file.readline(MAX_ROW_CHARS):
        number += 1
        yield number, line
        while not line.endswith("\n") and (line := file.readline(MAX_ROW_CHARS)):
            pass  # the rest of a line too long to be a row


def _read_lines_of_json(file: TextIO, wanted: Wanted) -> Iterator[Row | Problem]:
    for number, line in _lines(file):
        if not wanted(number):
            continue
        if len(line) >= MAX_ROW_CHARS:
            yield Problem(
                row=number, column=None, reason=f"is longer than {MAX_ROW_CHARS:,} characters"
            )
        elif not line.isspace():
            yield _parsed(number, line)


def _parsed(number: int, line: str) -> Row | Problem:
    try:
        return _object(number, json.loads(line, object_pairs_hook=_once))
    except _TwiceError as error:
        return Problem(row=number, column=str(error), reason=TWICE)
    except json.JSONDecodeError as error:
        return Problem(row=number, column=None, reason=_not_json(error.msg, error.colno))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
        return Problem(row=number, column=None, reason=f"is not usable JSON: {error}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are told apart."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _not_json(message: str, character: int) -> str:
    return f"is not valid JSON: {message} (character {character})"


def _object(number: int, value: Any) -> Row | Problem:
    if isinstance(value, dict):
        return number, value
    return Problem(row=number, column=None, reason=f"is {kind_of(value)}, not an object")


def kind_of(value: Any) -> str:
    """What a value is, as a person says it who knows no Python."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case float() if not math.isfinite(value):
            return "no number (NaN or infinite)"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__


def _read_json(file: TextIO, wanted: Wanted) -> Iterator[Row | Problem]:
    """An array of objects, or an object per line."""
    position = file.tell()
    while (first := file.read(1)).isspace():
        pass
    if first == "[":
        yield from _read_array(file)
    elif first == "{" and file.read(CHUNK_CHARS).lstrip(" \t\r").startswith("\n"):
        yield _whole(
            "holds one object over several lines, where an array of rows, or a row on each line, "
            "was expected; put its list of rows into a file of its own"
        )
    else:
        file.seek(position)
        yield from _read_lines_of_json(file, wanted)


def _read_array(file: TextIO) -> Iterator[Row | Problem]:
    """The elements of a JSON array whose opening bracket was read."""
    strict, lenient = (
        json.JSONDecoder(object_pairs_hook=hook).raw_decode for hook in (_once, None)
    )
    decode, twice = strict, None
    buffer, ended, number, size = "", False, 1, CHUNK_CHARS
    while True:
        begin = BETWEEN_ELEMENTS.match(buffer).end()  # type: ignore[union-attr]
        mark = buffer[begin : begin + 1]
        if mark == "]":
            return
        if mark == "," and number > 1:
            begin = BETWEEN_ELEMENTS.match(buffer, begin + 1).end()  # type: ignore[union-attr]
        try:
            value, end = decode(buffer, begin)
            if end == len(buffer) and not ended:
                raise json.JSONDecodeError("more may follow", buffer, end)
        except _TwiceError as error:
            decode, twice = lenient, str(error)  # tells where this element ends
            continue
        except (ValueError, RecursionError) as error:
            if ended or len(buffer) - begin > MAX_ROW_CHARS or isinstance(error, RecursionError):
                reason = getattr(error, "msg", str(error))
                place = max(getattr(error, "pos", begin) - begin, 0) + 1
                yield Problem(row=number, column=None, reason=_not_json(reason, place))
                return
            more = file.read(size)
            size *= 2  # a long element is parsed again few times
            ended = not more
            buffer = buffer[begin if mark != "," else 0 :] + more
            continue
        if twice is None:
            yield _object(number, value)
        else:
            yield Problem(row=number, column=twice, reason=TWICE)
        decode, twice = strict, None
        number += 1
        buffer, size = buffer[end:], CHUNK_CHARS


def _read_delimited(file: TextIO, delimiter: str, wanted: Wanted) -> Iterator[Row | Problem]:
    csv.field_size_limit(MAX_ROW_CHARS)
    records = csv.reader(file, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(
                row=number + 1 if header else 0, column=None, reason=f"is not CSV: {error}"
            )
            return
        if not record:
            continue
        if header is None:
            header = [name.strip() for name in record]
            if twice := [name for name in header if header.count(name) > 1]:
                yield Problem(row=0, column=twice[0], reason="stands twice in the header")
                return
            continue
        number += 1
        if not wanted(number):
            continue
        if len(record) == len(header):
            yield number, dict(zip(header, record, strict=True))
        else:
            reason = f"has {len(record)} columns where the header has {len(header)}"
            yield Problem(row=number, column=None, reason=reason)


def _read_csv(file: TextIO, wanted: Wanted) -> Iterator[Row | Problem]:
    return _read_delimited(file, ",", wanted)


def _read_tsv(file: TextIO, wanted: Wanted) -> Iterator[Row | Problem]:
    return _read_delimited(file, "\t", wanted)


def _read_txt(file: TextIO, wanted: Wanted) -> Iterator[Row | Problem]:
    for number, line in _lines(file):
        if wanted(number) and not line.isspace():
            yield number, {"text": line.rstrip("\r\n")}


READERS = {
    ".jsonl": _read_lines_of_json,
    ".ndjson": _read_lines_of_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_txt,
}
PARQUET = ".parquet"
KINDS = (*READERS, PARQUET)
