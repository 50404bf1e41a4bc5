"""Checks dataset and model on the coordinator, before any host is asked for anything."""

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sollol_tui.hosts.hub import lacks
from sollol_tui.hosts.payload import payload_root
from sollol_tui.model.errors import InputError, NotFoundError, Problem
from sollol_tui.model.plan import DatasetFacts
from sollol_tui.model.text import clean

MAX_PROBLEMS = 20
HUB = "hub:"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")
_HUB_DATASET = re.compile(rf"{HUB}{_HUB_ID.pattern}(@[\w./-]+)?(:[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the workers' own check says of a dataset. `problems` are the first of
    `problem_count`; `examples` are rows in pieces, learnt or not; `unanswered` rows have nothing
    to learn from and are none of the facts' rows; `thinking` counts rows that have some, and
    `unread_in`, by its name, rows with something in a column that the format does not know;
    `unread` means parquet, which only workers read."""

    facts: DatasetFacts
    problems: tuple[Problem, ...]
    problem_count: int
    examples: tuple[dict[str, Any], ...]
    longer: int
    unanswered: int
    thinking: int
    unread_in: tuple[tuple[str, int], ...]
    unread: bool


def locate_dataset(text: str, folder: Path) -> str:
    """A dataset's place as a person wrote it: an absolute path or pattern, or a name on the hub.
    Raises InputError."""
    if not text.startswith(HUB):
        return str(locate(text, folder))
    if _HUB_DATASET.fullmatch(text) is None:
        raise InputError.single(
            clean(text), "is not hub:NAME, hub:ORG/NAME, @REVISION:SPLIT behind"
        )
    return text


async def check_dataset(place: str | Path, fmt: str | dict[str, str]) -> DatasetFacts:
    """Reads every row. Raises InputError with row and reason of the first problems. What only a
    worker can read comes back without rows."""
    place = str(place)
    if place.startswith(HUB):
        return DatasetFacts(path=place, format="", rows=0, sha256="", size_bytes=0, mean_chars=0.0)
    checked = await inspect_dataset(place, fmt)
    if checked.problems:
        raise InputError(told(checked, place))
    if not checked.facts.rows and not checked.unread:
        raise InputError.single(place, "holds no row with anything to learn")
    return checked.facts


def told(checked: Checked, place: str) -> list[Problem]:
    """The problems as they are shown: the first ones, and how many more there are."""
    problems = list(checked.problems[:MAX_PROBLEMS])
    if more := checked.problem_count - len(problems):
        problems.append(Problem(file=place, message=f"and {more:,} more problems"))
    return problems


async def inspect_dataset(
    place: str, fmt: str | dict[str, str], *, rows: int | None = None, over: int = 0
) -> Checked:
    """Reads the rows (only the first, where `rows` is given) in a child process that runs the
    workers' own check. A row of more than `over` characters counts as long. Raises NotFoundError,
    and InputError where the check itself fails."""
    if not Path(place).exists() and not any(mark in place for mark in "*?["):
        raise NotFoundError(f"no dataset {place}", remedy="give a file, a folder or a pattern")
    command = [sys.executable, "-P", "-m", "remote.data.check", place, "--over", str(over)]
    command += ["--format", fmt if isinstance(fmt, str) else json.dumps(fmt)]
    process = await asyncio.create_subprocess_exec(
        *command,
        *(["--rows", str(rows)] if rows else []),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(payload_root())},
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()  # its pipes too have to end before the loop may
        raise
    lines = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    summary = next((line for line in lines if line.get("kind") == "summary"), None)
    if process.returncode != 0 or summary is None:
        last = (err.splitlines() or [b"it ended without a word"])[-1]
        raise InputError.single(place, f"cannot be checked: {clean(last)}")
    root, names = Path(summary.get("root") or place), tuple(summary.get("files") or ())
    path = root / names[0] if len(names) == 1 else root
    problems = [_problem(path, line) for line in lines if line.get("kind") == "problem"]
    return Checked(
        facts=DatasetFacts(
            path=str(path),
            format=str(summary["format"] or ""),
            rows=int(summary["rows"]),
            sha256=str(summary["sha256"] or ""),
            size_bytes=int(summary.get("size_bytes") or 0),
            mean_chars=float(summary.get("mean_chars") or 0.0),
            files=names if len(names) > 1 else (),
        ),
        problems=tuple(problems),
        problem_count=int(summary.get("problems", 0)),
        examples=tuple(summary["examples"]),
        longer=int(summary.get("longer") or 0),
        unanswered=int(summary.get("unanswered") or 0),
        thinking=int(summary.get("thinking") or 0),
        unread_in=tuple((clean(n), int(c)) for n, c in (summary.get("unread_in") or {}).items()),
        unread=bool(summary.get("unread")),
    )


def _problem(path: Path, line: dict[str, Any]) -> Problem:
    row, column = int(line.get("row") or 0), line.get("column")
    place = f"row {row}" + (f", column '{column}'" if column else "") if row else ""
    reason = clean(str(line.get("reason", "")))
    file = path / str(line["file"]) if line.get("file") else path
    return Problem(
        file=clean(str(file), limit=400), message=f"{place}: {reason}" if place else reason
    )


def locate(text: str, folder: Path) -> Path:
    """The path that a person wrote, made absolute from `folder`. Raises InputError for what no file
    system takes."""
    try:
        text.encode()
        path = (folder / Path(text).expanduser()).absolute()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError.single(clean(text, limit=80), f"cannot be a path: {reason}") from None
    return path


def resolve_model(model: str, folder: Path) -> str:
    """The model as an absolute folder, or as the Hub id that it is. `folder` is where a relative
    path starts. Raises InputError for a folder that holds no model."""
    path = locate(model, folder)
    looks_like_path = model.startswith((".", "/", "~")) or path.exists()
    if not looks_like_path:
        if _HUB_ID.fullmatch(model) is None:
            raise InputError.single(model, "is neither a folder nor a model id like ORG/NAME")
        return model
    if not path.is_dir():
        raise NotFoundError(f"no model folder {path}", remedy="give a folder or a model id")
    try:
        missing = lacks(path)
    except ValueError as error:
        raise InputError.single(str(path), str(error)) from None
    if missing:
        raise InputError.single(
            str(path),
            f"is not a model folder: it lacks {', '.join(missing)} (save_pretrained makes one)",
        )
    try:
        config = json.loads((path / "config.json").read_bytes())
    except ValueError:
        raise InputError.single(str(path / "config.json"), "is not JSON") from None
    if "auto_map" in config:
        raise InputError.single(
            str(path), "brings its own code (auto_map in config.json), which workers do not run"
        )
    return str(path.resolve())
