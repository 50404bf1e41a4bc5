"""Scorers of a tiny teacher, run in this process, and students that have a workdir each."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from remote import tiny
from remote.base import load_tokenizer
from remote.distill.cache import Cache
from remote.distill.score import score
from remote.errand import carry_out
from remote.run import read_run
from remote.start import tokens_of
from tests.remote.torch.fixtures import World

TEACHER = {"teacher_name": "the-teacher", "teacher_hash": "f00d", "top_k": 32}


@pytest.fixture(scope="session")
def teacher_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "teacher"
    tiny.main([str(folder), "--seed", "1"])
    return folder


class Scoring:
    """Scorers of one workdir, or teachers that answer, each with a run directory of its own."""

    def __init__(
        self,
        workdir: Path,
        teacher: Path,
        student: Path,
        dataset: Path,
        program: str = "distill.score",
    ) -> None:
        self._program = program
        self.workdir = workdir
        self._models = teacher, student
        self._dataset = dataset

    def plan(self, name: str = "w1.teacher", **distill: Any) -> Path:
        teacher, student = self._models
        run_dir = self.workdir / "runs" / "j-test" / name
        run_dir.mkdir(parents=True)
        run = {
            "v": 1,
            "job": "j-test",
            "host": "w1",
            "generation": 1,
            "program": self._program,
            "engine": "static",
            "world": [{"slot": 9, "rank": 0, "host": "w1", "address": "127.0.0.1", "gpu": None}],
            "main_port": 0,
            "cpu_cores": 1,
            "model": str(student),
            "dataset": str(self._dataset),
            "train": {"max_length": 96},
            "distill": {**TEACHER, "teacher": str(teacher), **distill},
        }
        (run_dir / "run.json").write_text(json.dumps(run))
        return run_dir

    def score(self, run_dir: Path, attempt: int = 1) -> int:
        return carry_out([str(run_dir), "9", str(attempt)], score)

    def cache(self, run_dir: Path) -> Cache:
        run = read_run(run_dir)
        rows = tokens_of(run, run_dir, load_tokenizer(run.model), print).training
        assert run.distill is not None
        return Cache(self.workdir, run.distill, rows)


@pytest.fixture
def scorers(tmp_path: Path, teacher_model: Path, tiny_model: Path, dataset: Path) -> Scoring:
    return Scoring(tmp_path, teacher_model, tiny_model, dataset)


def events(run_dir: Path, kind: str, attempt: int = 1, slot: int = 9) -> list[dict[str, Any]]:
    lines = (run_dir / f"events.{slot}.{attempt}.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


class Students(World):
    """Ranks that learn from a teacher, each on a host with a workdir of its own."""

    def run_dir(self, host: str = "w1") -> Path:
        return self.folder / host / "runs" / "j-test" / host

    def taught(self, **distill: Any) -> "Students":
        for host in self.hosts:
            path = self.run_dir(host) / "run.json"
            run = json.loads(path.read_text())
            path.write_text(json.dumps({**run, "distill": {**TEACHER, **distill}}))
        return self

    def give(self, cache: Cache, *shards: int) -> "Students":
        """What the coordinator does: a file under its name, whole or not there."""
        for host in self.hosts:
            self.give_to(host, cache, *shards)
        return self

    def give_to(self, host: str, cache: Cache, *shards: int) -> None:
        target = self.folder / host / "scores" / cache.key
        target.mkdir(parents=True, exist_ok=True)
        for shard in shards:
            part = target / "arriving.part"
            shutil.copyfile(cache.path(shard), part)
            part.rename(target / cache.path(shard).name)
