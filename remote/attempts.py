"""The files that each attempt of an agent or of a rank writes, and which attempt comes next. Never
gives out a number twice: a file has one writer."""

from pathlib import Path


def events_file(run_dir: Path, writer: str, attempt: int) -> Path:
    return run_dir / f"events.{writer}.{attempt}.jsonl"


def log_file(run_dir: Path, writer: str, attempt: int) -> Path:
    return run_dir / f"log.{writer}.{attempt}"


def highest_attempt(run_dir: Path, writer: str) -> int:
    """The newest attempt of "agent" or of a slot that left a file; 0 before the first."""
    numbers = [
        int(parts[2])
        for path in run_dir.iterdir()
        if len(parts := path.name.split(".")) >= 3
        and parts[0] in ("events", "log")
        and parts[1] == writer
        and parts[2].isdecimal()
    ]
    return max(numbers, default=0)


def next_attempt(run_dir: Path, writer: str) -> int:
    return highest_attempt(run_dir, writer) + 1
