"""YAML that people write, with the place of every key, checked against a dataclass.

Refuses what YAML can do and these files never need: aliases, merge keys, tags, several documents,
depth, size.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from io import StringIO
from typing import Any, Final, TypeVar, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.reader import ReaderError

from sollol_tui.model.errors import InputError, Problem
from sollol_tui.model.names import did_you_mean

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 20
_WANTED: Final = {  # what pydantic found no value of, in the words of a YAML file
    **dict.fromkeys(("tuple_type", "list_type"), "write a list, like [a, b]"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "write a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "write a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "write true or false"),
    **dict.fromkeys(("dict_type", "dataclass_type"), "write keys and values, like {KEY: VALUE}"),
    "string_type": "write a text",
}
Path = tuple[str | int, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """`data` is plain dicts, lists and scalars; `places` maps the path of each key or item to its
    line and column, counted from 1; `elsewhere` holds the paths of what was laid over the file and
    where that came from."""

    file: str
    data: Any
    places: Mapping[Path, tuple[int, int]]
    elsewhere: Mapping[Path, str] = field(default_factory=dict)

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at `path`, or at the nearest place above it that the file has."""
        while path and path not in self.places:
            if path in self.elsewhere:
                return Problem(file=self.elsewhere[path], message=message)
            path = path[:-1]
        line, column = self.places.get(path, (1, 1) if self.places else (0, 0))
        return Problem(file=self.file, line=line, column=column, message=message)


def read_document(raw: bytes, file: str) -> Document:
    """Reads one YAML document. Raises InputError with line and column."""
    if len(raw) > MAX_BYTES:
        raise InputError.single(file, f"is {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem(file=file, line=line, column=1, message="is not UTF-8 text")
        raise InputError([problem]) from None
    try:
        _refuse_unsafe(text, file)
        loaded = YAML(typ="rt", pure=True).load(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        # What follows of a duplicate key is both its values, which may be secrets.
        told = (error.problem or "not valid YAML").partition(" with value ")[0]
        reason = " ".join(told.split())
        problem = Problem(file=file, line=line, column=column, message=reason)
        raise InputError([problem]) from None
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        reason = f"the character U+{ord(text[error.position]):04X} is not allowed"
        problem = Problem(file=file, line=line, column=column, message=reason)
        raise InputError([problem]) from None
    except IndexError:  # ruamel.yaml reads `+_` as a number without digits
        message = "a number without digits; put text like +_ into quotes"
        raise InputError([Problem(file=file, line=1, column=1, message=message)]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError([Problem(file=file, line=1, column=1, message=reason)]) from None
    places: dict[Path, tuple[int, int]] = {}
    try:
        return Document(file=file, data=_plain(loaded, (), places), places=places)
    except _KeyIsNoTextError as error:
        line, column = error.place
        raise InputError(
            [Problem(file=file, line=line, column=column, message=str(error))]
        ) from None


class _KeyIsNoTextError(Exception):
    """A key such as 01 or null, whose text YAML does not keep."""

    def __init__(self, key: object, place: tuple[int, int]) -> None:
        super().__init__(f"a key is text; put it into quotes: without them it reads as {key}")
        self.place = place


def _refuse_unsafe(text: str, file: str) -> None:
    counts: list[int | None] = []  # of each open collection: the nodes so far, None for a list
    for event in YAML(typ="rt", pure=True).parse(StringIO(text)):
        if isinstance(event, CollectionEndEvent):
            counts.pop()
        if not isinstance(event, NodeEvent):
            continue
        mark = event.start_mark
        place = {"file": file, "line": mark.line + 1, "column": mark.column + 1}
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise InputError([Problem(**place, message="anchors and aliases are not used here")])
        if str(getattr(event, "tag", None) or "").startswith(("!", "tag:")):
            raise InputError([Problem(**place, message="tags are not used here")])
        if isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]:
            raise InputError([Problem(**place, message="merge keys (<<) are not used here")])
        count = counts[-1] if counts else None
        if count is not None:
            counts[-1] = count + 1
        if isinstance(event, CollectionStartEvent):
            if count is not None and count % 2 == 0:
                raise InputError([Problem(**place, message="a key is one word or text")])
            counts.append(0 if isinstance(event, MappingStartEvent) else None)
            if len(counts) > MAX_DEPTH:
                raise InputError([Problem(**place, message=f"nested deeper than {MAX_DEPTH}")])


def _plain(node: Any, path: Path, places: dict[Path, tuple[int, int]]) -> Any:
    if isinstance(node, CommentedMap):
        plain: dict[Any, Any] = {}
        for key, value in node.items():
            line, column = node.lc.key(key)
            if not isinstance(key, str):
                raise _KeyIsNoTextError(key, (line + 1, column + 1))
            name = str(key)
            places[(*path, name)] = (line + 1, column + 1)
            plain[name] = _plain(value, (*path, name), places)
        return plain
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            line, column = node.lc.item(index)
            places[(*path, index)] = (line + 1, column + 1)
        return [_plain(value, (*path, index), places) for index, value in enumerate(node)]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def check(document: Document, kind: type[T], data: Any, path: Path = ()) -> T:
    """`data`, found at `path` of the document, as a `kind`. Raises InputError with every problem,
    unknown keys with the nearest known one."""
    try:
        checked: T = _adapter(cast(Hashable, kind)).validate_python(data)
    except ValidationError as error:
        reasons: dict[Path, list[str]] = {}
        for detail in error.errors(include_url=False, include_context=True):
            location = _inside(data, tuple(detail["loc"]))
            reasons.setdefault(location, []).append(_reason(kind, detail, location))
        problems = [
            document.problem((*path, *location), " or ".join(dict.fromkeys(messages)))
            for location, messages in reasons.items()
        ]
        raise InputError(problems) from None
    return checked


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def _inside(data: Any, location: Path) -> Path:
    """The part of a pydantic location that the data has: without the names of union members, but
    with a last key that is missing."""
    kept: list[str | int] = []
    for number, step in enumerate(location):
        last = number == len(location) - 1
        if isinstance(data, Mapping) and (step in data or last):
            data = data.get(step)
        elif isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            continue
        kept.append(step)
    return tuple(kept)


def _reason(kind: type, detail: ErrorDetails, location: Path) -> str:
    key = _called(location)
    match detail["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return unknown_key(key, _keys_at(kind, location[:-1]))
        case "missing" | "missing_keyword_only_argument" | "missing_argument":
            return f"lacks the key '{key}'"
        case "value_error":
            return f"{key}: {detail['ctx']['error']}"
        case _:
            reason = _WANTED.get(detail["type"]) or detail["msg"][0].lower() + detail["msg"][1:]
            shown = repr(detail["input"])
            return f"{key}: {reason}, not {shown if len(shown) < 60 else shown[:57] + '...'}"


def _called(location: Path) -> str:
    """The last key, with the number of the item in it: `gpu_ids[0]`."""
    items = ""
    for step in reversed(location):
        if isinstance(step, str):
            return f"{step}{items}"
        items = f"[{step}]{items}"
    return items


def unknown_key(key: str, known: list[str]) -> str:
    meant = did_you_mean(key, known, cutoff=0.5)
    return f"unknown key '{key}'{meant or ' - known here: ' + ', '.join(known)}"


def _keys_at(kind: Any, location: Path) -> list[str]:
    """The keys that the dataclass at `location` inside `kind` takes."""
    for step in location:
        candidates = [kind, *get_args(kind)]
        inner = next((c for c in candidates if is_dataclass(c) and isinstance(c, type)), None)
        if inner is not None and step in {f.name for f in fields(inner)}:
            kind = get_type_hints(inner)[str(step)]
    candidates = [kind, *get_args(kind)]
    inner = next((c for c in candidates if is_dataclass(c) and isinstance(c, type)), None)
    return [f.name for f in fields(inner)] if inner is not None else []
