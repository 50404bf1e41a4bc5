"""The demo's dataset: what the functions of Python's standard library say about themselves.

Reads the library's own sources; the same Python gives the same rows."""

import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SKIPPED: Final = frozenset({"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo"})
_LONGEST: Final = 160  # characters of an answer
_SHORTEST: Final = 12


def docstring_rows(limit: int) -> list[dict[str, str]]:
    """At most `limit` rows of instruction and output, spread evenly over the library."""
    rows = list(dict.fromkeys(_rows(Path(sysconfig.get_path("stdlib")))))
    step = max(1.0, len(rows) / limit)
    picked = [rows[int(number * step)] for number in range(min(limit, len(rows)))]
    return [{"instruction": question, "output": answer} for question, answer in picked]


def write_rows(rows: list[dict[str, str]], path: Path) -> None:
    """Writes rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(library: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(library.rglob("*.py")):
        place = path.relative_to(library)
        private = any(part.startswith("_") and part != "__init__.py" for part in place.parts)
        if _SKIPPED.isdisjoint(place.parts) and not private:
            module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
            yield from _documented(module, path)


def _documented(module: str, path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # the library holds a few files that are wrong on purpose
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node) or ""
        answer = " ".join(text.split("\n\n")[0].split())
        if node.name.startswith("_") or not _SHORTEST <= len(answer) <= _LONGEST:
            continue
        arguments = ", ".join(argument.arg for argument in node.args.args if argument.arg != "self")
        yield f"What does {module}.{node.name}({arguments}) do?", answer
