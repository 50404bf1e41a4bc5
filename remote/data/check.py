"""Says what a dataset file is and what is wrong with it. Standard library only, changes nothing.

Run it with `python -P -m remote.data.check FILE [--format F] [--rows N]`; it prints JSON lines.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remote.data.formats import Conversation, Example, read_examples
from remote.data.rows import Problem

VERSION = 1
EXAMPLES = 3
EXAMPLE_CHARS = 2000
LISTED_PROBLEMS = 1000


def check(path: Path, declared: str | dict[str, str], rows: int | None) -> Iterator[dict[str, Any]]:
    """Yields one line per problem (the first thousand) and the summary, which counts them all.
    `rows` limits how many good and bad rows are read."""
    examples = read_examples(path, declared)
    good = problems = chars = 0
    shown: list[dict[str, Any]] = []
    for item in examples:
        if rows is not None and good + problems >= rows:
            break
        if isinstance(item, Problem):
            problems += 1
            if problems <= LISTED_PROBLEMS:
                yield _line("problem", row=item.row, column=item.column, reason=item.reason)
            continue
        good += 1
        chars += item.chars
        if len(shown) < EXAMPLES:
            shown.append(_shown(item))
    yield _line(
        "summary",
        format=examples.format.name if examples.format else None,
        rows=good,
        problems=problems,
        sha256=_sha256(path),
        mean_chars=round(chars / good, 1) if good else 0.0,
        examples=shown,
    )


def _line(kind: str, **data: Any) -> dict[str, Any]:
    return {"v": VERSION, "kind": kind, **data}


def _shown(example: Example) -> dict[str, Any]:
    if not isinstance(example, Conversation):
        return {"row": example.row, "text": example.content[:EXAMPLE_CHARS]}
    turns = [
        {"role": turn.role, "content": turn.content[:EXAMPLE_CHARS], "trained": turn.trained}
        for turn in example.turns
    ]
    return {"row": example.row, "turns": turns}


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
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
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", type=_declared, default="auto", metavar="NAME|JSON")
    parser.add_argument("--rows", type=int, metavar="N", help="read the first N rows only")
    options = parser.parse_args(arguments)
    for line in check(options.file, options.format, options.rows):
        print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main(sys.argv[1:])
