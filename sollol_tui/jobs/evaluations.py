"""The evaluations of a job that are kept beside it: a JSON file each, whole or not there. Makes
none."""

import json
import os
from pathlib import Path
from typing import Final

from sollol_tui.jobs.home import Home
from sollol_tui.model.evaluation import Evaluation, Example

FOLDER: Final = "evaluations"  # below the job's


def keep(home: Home, job: str, evaluation: Evaluation) -> None:
    """Adds one."""
    folder = home.job(job) / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = folder / f"{evaluation.at:017.6f}.json"
    part = folder / f".{place.name}.{os.getpid()}"
    with part.open("x", encoding="utf-8") as opened:
        json.dump(evaluation.as_data(), opened)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(place)


def read_kept(home: Home, job: str) -> tuple[Evaluation, ...]:
    """Those of a job's adapter and checkpoints, oldest first. One that cannot be read any more is
    left out."""
    kept = filter(None, map(_read, sorted((home.job(job) / FOLDER).glob("*.json"))))
    return tuple(sorted(kept, key=lambda each: each.at))


def _read(file: Path) -> Evaluation | None:
    try:
        data = json.loads(file.read_bytes())
        del data["schema"]
        examples = tuple(Example(**each) for each in data.pop("examples"))
        return Evaluation(**data, examples=examples)
    except (OSError, ValueError, KeyError, TypeError):
        return None
