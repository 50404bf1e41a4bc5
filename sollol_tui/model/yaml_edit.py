"""Small changes to YAML text that somebody wrote: an entry in or out, all else byte for byte.

ruamel.yaml says where each node stands; the text is cut and joined there. Dumping the document anew
would move comments from one entry to the next and rewrite the indentation. Refuses (ValueError) a
place whose notation it cannot change without guessing. Pure.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

_COLON = re.compile(r"[ \t]*:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """Puts `text` in place of what stands from `start` to `end`."""

    start: int
    end: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One entry of a mapping, or of a list when `value` is None: from its first character to the
    end of its content, comments not counted."""

    key: Node
    value: Node | None
    start: int
    end: int

    @property
    def is_bare(self) -> bool:
        """Whether nothing is written for its value."""
        return self.value is None or _is_bare(self.value)


def compose(text: str) -> Node:
    """The tree of the text's one document, with the index of each node."""
    node: Node = YAML(typ="rt", pure=True).compose(StringIO(text))
    return node


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """The text with all splices made; they may touch, not overlap."""
    for splice in sorted(splices, key=lambda s: (s.start, s.end), reverse=True):
        text = text[: splice.start] + splice.text + text[splice.end :]
    return text


def items(text: str, node: Node) -> list[Item]:
    """The entries of a mapping or list, in order."""
    if isinstance(node, MappingNode):
        pairs = [(key, value) for key, value in node.value]
    else:
        pairs = [(key, None) for key in node.value]
    return [
        Item(
            key=key,
            value=value,
            start=key.start_mark.index,
            end=_end(text, key) if value is None else _pair_end(text, key, value),
        )
        for key, value in pairs
    ]


def in_flow_style(value: Any) -> str:
    """Plain data on one line, quoted where YAML needs it: `{port: 22, tags: [cuda]}`."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 2**31
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False
    stream = StringIO()
    # A value alone would get a document end; in a list a mapping of one key loses its braces.
    yaml.dump({"value": value}, stream)
    return stream.getvalue().strip().removeprefix("{value: ").removesuffix("}")


def insertion(text: str, node: Node, entry: str) -> list[Splice]:
    """Adds `entry`, written on one line, as the last of a mapping or list."""
    entries = items(text, node)
    if not entries:
        start, end = node.start_mark.index, node.end_mark.index
        if "#" in text[start:end]:
            raise ValueError("there are comments inside its brackets")
        return [Splice(start=start, end=end, text=f"{{{entry}}}")]
    if not is_flow(node):
        column, at = _column(text, entries[-1].start), _extent(text, entries[-1])
        line = " " * column + entry
        newline = _newline(text)
        added = line + newline if text[:at].endswith("\n") else newline + line
        return [Splice(start=at, end=at, text=added)]
    return _flow_insertion(text, node, entries[-1], entry)


def first_entry(text: str, item: Item, entry: str) -> list[Splice]:
    """Writes `entry`, one line, below a key of a block mapping that has no value yet."""
    line = " " * (_column(text, item.start) + 2) + entry
    at, newline = _next_line(text, item.end), _newline(text)
    added = line + newline if text[:at].endswith("\n") else newline + line
    return [Splice(start=at, end=at, text=added)]


def removal(text: str, node: Node, at: int) -> list[Splice]:
    """Takes out entry number `at` with the comments that stand on its lines or below, indented
    deeper than it."""
    entries = items(text, node)
    if not is_flow(node):
        _column(text, entries[at].start)
        start, end = _line_start(text, entries[at].start), _extent(text, entries[at])
        if end == len(text) and not text.endswith("\n"):
            start = len(text[:start].removesuffix("\n").removesuffix("\r"))
        return [Splice(start=start, end=end)]
    if len(entries) == 1:
        start, end = node.start_mark.index, node.end_mark.index
        if "#" in text[start : entries[at].start] + text[entries[at].end : end]:
            raise ValueError("there are comments inside its brackets")
        return [Splice(start=start, end=end, text="{}" if text[start] == "{" else "[]")]
    return _flow_removal(text, node, entries, at)


def replacement(text: str, item: Item, value: str) -> list[Splice]:
    """Writes `value`, one line, where the entry has a scalar, a flow collection or nothing."""
    old = item.value
    if old is None:
        raise ValueError("it is an item of a list")
    if item.is_bare:
        colon = " " if text[: item.end].endswith(":") else ": "
        return [Splice(start=item.end, end=item.end, text=colon + value)]
    start, end = old.start_mark.index, old.end_mark.index
    if "\n" in text[start:end] or (isinstance(old, CollectionNode) and not is_flow(old)):
        raise ValueError("its value takes several lines")
    return [Splice(start=start, end=end, text=value)]


def list_to_mapping(text: str, node: Node, parent: Node) -> list[Splice]:
    """Turns the list `node`, the value of a key that stands at `parent`, into a mapping of its
    items to nothing."""
    entries = items(text, node)
    names = [Splice(start=item.end, end=item.end, text=": {}") for item in entries]
    start, end = node.start_mark.index, node.end_mark.index
    if is_flow(node):
        braces = [Splice(start=start, end=start + 1, text="{")]
        return [*braces, *names, Splice(start=end - 1, end=end, text="}")]
    above = parent.start_mark.column
    dashes = []
    for item in entries:
        line = _line_start(text, item.start)
        dash = re.fullmatch(r"( *)-( +)", text[line : item.start])
        if dash is None:
            raise ValueError("it is a list in an unusual notation")
        # Below its key a mapping must be indented, a list need not be.
        blanks = dash[1] if len(dash[1]) > above else " " * (len(dash[0]))
        dashes.append(Splice(start=line, end=item.start, text=blanks))
    return [*dashes, *names]


def is_flow(node: Node) -> bool:
    return bool(getattr(node, "flow_style", False))


def _is_bare(value: Node) -> bool:
    bare: bool = value.start_mark.index == value.end_mark.index
    return bare


def _pair_end(text: str, key: Node, value: Node) -> int:
    """Where a key and its value end. The mark of a value that is not there may lie far behind."""
    if not _is_bare(value):
        return _end(text, value)
    end = _end(text, key)
    colon = _COLON.match(text, end)
    return colon.end() if colon else end


def _end(text: str, node: Node) -> int:
    """Where the content of a node ends; a block's own end mark lies behind the comments."""
    if isinstance(node, CollectionNode) and not is_flow(node):
        last = node.value[-1]
        return _pair_end(text, *last) if isinstance(last, tuple) else _end(text, last)
    end: int = node.end_mark.index
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        return len(text[:end].rstrip())
    return end


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Where the line's text ends, before its newline."""
    end = text.find("\n", index)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1 : end] == "\r" and end > index else end


def _next_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _column(text: str, index: int) -> int:
    """How far an entry that has its line to itself is indented; the dash of an item counts."""
    before = text[_line_start(text, index) : index].removeprefix("\ufeff")
    if not re.fullmatch(r" *(- +)?", before):
        raise ValueError("another entry stands on the same line")
    return len(before) - len(before.lstrip(" "))


def _extent(text: str, item: Item) -> int:
    """Where the lines of a block entry end: its content, and the comments below that are indented
    deeper than its key."""
    column = _column(text, item.start)
    at = probe = _next_line(text, item.end)
    while probe < len(text):
        line = text[probe : _line_end(text, probe)]
        blanks = len(line) - len(line.lstrip(" "))
        probe = _next_line(text, probe)
        if line[blanks:].startswith("#") and blanks > column:
            at = probe
        elif line.strip():
            break
    return at


def _comma(text: str, start: int, end: int) -> int | None:
    """The index of the comma in what stands between two entries, comments skipped."""
    at = start
    while at < end:
        if text[at] == ",":
            return at
        at = _line_end(text, at) if text[at] == "#" else at + 1
    return None


def _begins_line(text: str, index: int) -> bool:
    return not text[_line_start(text, index) : index].strip()


def _flow_insertion(text: str, node: Node, last: Item, entry: str) -> list[Splice]:
    closing = node.end_mark.index - 1
    comma = _comma(text, last.end, closing)
    end = last.end
    # `{a: , b: }`: a comma right behind a colon would belong to the key.
    if text[:end].endswith(":") and text[end] == " ":
        end += 1
    if not _begins_line(text, last.start) or _line_start(text, last.start) <= node.start_mark.index:
        return [Splice(start=end, end=end, text=f", {entry}")]
    indent = _newline(text) + text[_line_start(text, last.start) : last.start]
    behind = _line_end(text, last.end if comma is None else comma)
    if behind > closing:
        if comma is None:
            return [Splice(start=end, end=end, text=f",{indent}{entry}")]
        return [Splice(start=comma + 1, end=comma + 1, text=f"{indent}{entry},")]
    if comma is not None:
        return [Splice(start=behind, end=behind, text=f"{indent}{entry},")]
    if behind == end:
        return [Splice(start=end, end=end, text=f",{indent}{entry}")]
    return [
        Splice(start=end, end=end, text=","),
        Splice(start=behind, end=behind, text=f"{indent}{entry}"),
    ]


def _flow_removal(text: str, node: Node, entries: Sequence[Item], at: int) -> list[Splice]:
    item, is_last = entries[at], at == len(entries) - 1
    closing = node.end_mark.index - 1
    after = _comma(text, item.end, closing if is_last else entries[at + 1].start)
    before = _comma(text, entries[at - 1].end, item.start) if at else None
    end = item.end if after is None else after + 1
    rest = text[end : _line_end(text, end)].strip()
    if _begins_line(text, item.start) and (not rest or rest.startswith("#")):
        lines = Splice(start=_line_start(text, item.start), end=_next_line(text, end))
        if after is None and before is not None:
            return [Splice(start=before, end=before + 1), lines]
        return [lines]
    if not is_last:
        gap = text[end : entries[at + 1].start]
        stop = entries[at + 1].start if not gap.strip() and "\n" not in gap else end
        return [Splice(start=item.start, end=stop)]
    if before is None or "#" in text[before : item.start]:
        raise ValueError("there are comments between its commas")
    return [Splice(start=before, end=item.end)]
