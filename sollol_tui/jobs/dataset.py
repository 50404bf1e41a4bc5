"""Checks dataset and model on the coordinator, before any host is asked for anything."""

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from sollol_tui.hosts.payload import payload_root
from sollol_tui.model.errors import InputError, NotFoundError, Problem
from sollol_tui.model.plan import DatasetFacts
from sollol_tui.model.text import clean

MAX_PROBLEMS = 20
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")


async def check_dataset(path: Path, fmt: str | dict[str, str]) -> DatasetFacts:
    """Reads every row in a child process that runs the workers' own check. Raises InputError with
    row and reason of the first problems."""
    if not path.exists():
        raise NotFoundError(f"no dataset {path}", remedy="give a .jsonl or .json file")
    command = [sys.executable, "-P", "-m", "remote.data.check", str(path), "--format"]
    process = await asyncio.create_subprocess_exec(
        *command,
        fmt if isinstance(fmt, str) else json.dumps(fmt),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(payload_root())},
    )
    out, err = await process.communicate()
    lines = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    summary = next((line for line in lines if line.get("kind") == "summary"), None)
    if process.returncode != 0 or summary is None:
        last = (err.splitlines() or [b"it ended without a word"])[-1]
        raise InputError.single(str(path), f"cannot be checked: {clean(last)}")
    problems = [_problem(path, line) for line in lines if line.get("kind") == "problem"]
    if problems:
        more = int(summary.get("problems", 0)) - MAX_PROBLEMS
        if more > 0:
            problems[MAX_PROBLEMS:] = [Problem(file=str(path), message=f"and {more} more problems")]
        raise InputError(problems)
    if not summary["rows"]:
        raise InputError.single(str(path), "holds no rows")
    return DatasetFacts(
        path=str(path),
        format=str(summary["format"]),
        rows=int(summary["rows"]),
        sha256=str(summary["sha256"]),
        size_bytes=path.stat().st_size,
        mean_chars=float(summary.get("mean_chars") or 0.0),
    )


def _problem(path: Path, line: dict[str, Any]) -> Problem:
    row, column = int(line.get("row") or 0), line.get("column")
    place = f"row {row}" + (f", column '{column}'" if column else "") if row else ""
    reason = clean(str(line.get("reason", "")))
    return Problem(file=str(path), message=f"{place}: {reason}" if place else reason)


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
    missing = [name for name in ("config.json",) if not (path / name).is_file()]
    if not any(path.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any(
        (path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        missing.append("tokenizer.json")
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
