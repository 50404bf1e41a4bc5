"""Says what a dataset is and what is wrong with it. Standard library only, changes nothing.

Run it with `python -P -m remote.data.check PLACE [--format F] [--rows N] [--over CHARS]`; it
prints JSON lines.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator
from typing import Any

from remote.data.examples import Conversation, Example, Examples
from remote.data.plain import render_plain
from remote.data.rows import PARQUET, Problem
from remote.data.source import Source, SourceError, content_hash, find_source

VERSION = 1
EXAMPLES = 3
EXAMPLE_CHARS = 2000
LISTED_PROBLEMS = 1000
LISTED_UNREAD = 50


def check(
    place: str, declared: str | dict[str, str], rows: int | None = None, over: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yields one line per problem (the first thousand) and the summary, which counts them all.
    `rows` limits how many rows are read. Counted are rows of more than `over` characters, those
    without an answer, which nobody can learn from, those with thinking, which some templates do not
    show, and those in which a column or key holds what the format does not know. Parquet files are
    read where this Python can."""
    try:
        source = find_source(place)
    except SourceError as error:
        yield _line("problem", row=0, column=None, reason=str(error))
        yield _line("summary", format=None, rows=0, problems=1, sha256=None, examples=[])
        return
    examples = Examples(source, declared)
    unread = any(name.lower().endswith(PARQUET) for name in source.names) and not _reads_parquet()
    good = unanswered = problems = chars = longer = 0
    shown: list[dict[str, Any]] = []
    unread_in: dict[str, int] = {}
    thinking = 0
    for item in () if unread else examples:
        if rows is not None and good + unanswered + problems >= rows:
            break
        if isinstance(item, Problem):
            problems += 1
            if problems <= LISTED_PROBLEMS:
                file = {"file": item.file} if item.file else {}
                yield _line("problem", row=item.row, column=item.column, reason=item.reason, **file)
            continue
        if not item.has_answer:
            unanswered += 1
            continue
        good += 1
        chars += item.chars
        longer += over is not None and item.chars > over
        thinking += isinstance(item, Conversation) and any(turn.thinking for turn in item.turns)
        for name in item.unread:
            if name in unread_in or len(unread_in) < LISTED_UNREAD:
                unread_in[name] = unread_in.get(name, 0) + 1
        if len(shown) < EXAMPLES:
            shown.append(_shown(item, source))
    yield _line(
        "summary",
        format=examples.format.name if examples.format else None,
        rows=good,
        problems=problems,
        sha256=_hash(source) if rows is None else None,
        mean_chars=round(chars / good, 1) if good else 0.0,
        examples=shown,
        root=str(source.root),
        files=source.names,
        size_bytes=_size(source),
        longer=longer,
        unanswered=unanswered,
        thinking=thinking,
        unread_in=unread_in,
        unread=unread,
    )


def _line(kind: str, **data: Any) -> dict[str, Any]:
    return {"v": VERSION, "kind": kind, **data}


def _shown(example: Example, source: Source) -> dict[str, Any]:
    """A row in pieces as a model sees it under plain headings: which of them are learnt, and how
    many characters at the end of each are left out."""
    if isinstance(example, Conversation):
        rendered = render_plain(example.turns, example.tools)
        text, spans = rendered.text, rendered.spans
    else:
        text, spans = example.content, [(0, len(example.content))]
    pieces, at = [], 0
    for begin, end in [*spans, (len(text), len(text))]:
        for piece, learnt in ((text[at:begin], False), (text[begin:end], True)):
            if piece:
                shown = piece[:EXAMPLE_CHARS]
                pieces.append(
                    {"text": shown, "learnt": learnt, "left_out": len(piece) - len(shown)}
                )
        at = end
    return {"file": source.shown(example.file), "row": example.row, "pieces": pieces}


def _reads_parquet() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def _hash(source: Source) -> str | None:
    try:
        return content_hash(source)
    except OSError:
        return None


def _size(source: Source) -> int | None:
    try:
        return source.size_bytes
    except OSError:
        return None


def _declared(value: str) -> str | dict[str, str]:
    """A format's name, or a column mapping written as a JSON object."""
    if not value.startswith("{"):
        return value
    mapping = json.loads(value)
    if not all(isinstance(column, str) for column in mapping.values()):
        raise ValueError(value)
    return mapping


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="remote.data.check", description=__doc__)
    parser.add_argument("place", help="a file, a folder or a pattern")
    parser.add_argument("--format", type=_declared, default="auto", metavar="NAME|JSON")
    parser.add_argument("--rows", type=int, metavar="N", help="read the first N rows only")
    parser.add_argument("--over", type=int, metavar="CHARS", help="count the rows that are longer")
    options = parser.parse_args(arguments)
    for line in check(options.place, options.format, options.rows, options.over):
        print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main(sys.argv[1:])
