"""A tiny model, a dataset, and worlds of real ranks, forked from a server that holds torch."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from remote import tiny
from remote import train as train_module
from remote.engine import Tally
from remote.events import EventWriter
from remote.run import Run, read_run
from remote.session import Session
from remote.start import start
from remote.step import Step
from remote.train import main
from tests.ports import unused_port

ROOT = Path(__file__).parents[3]
DEADLINE_S = 90
TRAIN = {
    "global_batch": 9,  # shares of two ranks are never equal
    "batch_size": 3,
    "max_length": 96,
    "learning_rate": 3e-3,
    "lora": {"r": 4, "alpha": 8, "modules_to_save": ["embed_tokens", "lm_head"]},
    "save_steps": 0,
}
WORDS = ("red", "green", "a somewhat longer colour", "blue", "ultramarine")


@pytest.fixture(autouse=True)
def no_group_left() -> Iterator[None]:
    """A rank that fails ends with its process; one that ran in this process leaves its group."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.main([str(folder)])
    return folder


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """47 rows of unequal length: the last of six steps is short."""
    path = tmp_path / "rows.jsonl"
    rows = [
        {"instruction": f"colour {n}?", "output": " ".join([WORDS[n % 5]] * (n % 4 + 1))}
        for n in range(47)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fork_server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.remote.torch.fixtures"])
    return context


class World:
    """The ranks of one job, each with a run directory of its own, as on hosts w1, w2, ..."""

    def __init__(self, folder: Path, context: Any) -> None:
        self.folder = folder
        self._context = context
        self.hosts: list[str] = []
        self._launches = 0

    def plan(self, model: Path, dataset: Path, ranks: int, **train: Any) -> "World":
        self.hosts = [f"w{number + 1}" for number in range(ranks)]
        world = [
            {"slot": rank, "rank": rank, "host": host, "address": "127.0.0.1", "gpu": None}
            for rank, host in enumerate(self.hosts)
        ]
        for host in self.hosts:
            run = {
                "v": 1,
                "job": "j-test",
                "host": host,
                "generation": 1,
                "engine": "static",
                "world": world,
                "main_port": unused_port(),
                "start_timeout_s": 60,
                "cpu_cores": 1,
                "model": str(model),
                "model_name": "somebody/tiny",
                "dataset": str(dataset),
                "train": {**TRAIN, **train},
            }
            self.run_dir(host).mkdir(parents=True, exist_ok=True)
            (self.run_dir(host) / "run.json").write_text(json.dumps(run))
        return self

    def run_dir(self, host: str = "w1") -> Path:
        return self.folder / host

    def run(self, host: str = "w1") -> Run:
        return read_run(self.run_dir(host))

    def start(self, doom: "Doom | None" = None, of: int = -1) -> list[Any]:
        """Starts every rank as a process; the last one, or that `of` another slot, meets its
        `doom`."""
        port = unused_port()
        self._launches += 1
        ranks = [
            self._context.Process(
                target=_rank,
                args=(
                    *(self.run_dir(host), rank, len(self.hosts), port),
                    *(self.folder / f"log.{rank}", self.folder / f"committed.{self._launches}"),
                    doom if host == self.hosts[of] else None,
                ),
            )
            for rank, host in enumerate(self.hosts)
        ]
        for rank in ranks:
            rank.start()
        return ranks

    def train(
        self, doom: "Doom | None" = None, deadline_s: float = DEADLINE_S, of: int = -1
    ) -> list[int]:
        """Runs every rank to its end; returns their exit codes."""
        ranks = self.start(doom, of)
        for rank in ranks:
            rank.join(deadline_s)
            if rank.is_alive():
                rank.kill()
                pytest.fail(f"{rank} did not end within {deadline_s:g} s")
        return [rank.exitcode for rank in ranks]

    def events(self, kind: str, host: str = "w1") -> list[dict[str, Any]]:
        paths = self.run_dir(host).glob("events.*.jsonl")
        lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]

    def committed_steps(self) -> int:
        """How many steps the newest launch has committed so far, counted for each rank."""
        path = self.folder / f"committed.{self._launches}"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def trained_rows(self) -> list[int]:
        """The rows of every step that counts, as the ranks of its last launch computed them."""
        steps: dict[int, list[int]] = {}
        for launch in range(1, self._launches + 1):
            again: dict[int, list[int]] = {}
            path = self.folder / f"committed.{launch}"
            for line in path.read_text().splitlines() if path.exists() else ():
                step, rows = json.loads(line)
                again.setdefault(step, []).extend(rows)
            steps |= again
        return [row for step in sorted(steps) for row in steps[step]]

    def losses(self) -> dict[int, float]:
        """The loss of every step; events do not tell all steps of a fast loop."""
        state = json.loads((self.run_dir() / "result" / "trainer_state.json").read_text())
        return {entry["step"]: entry["loss"] for entry in state["log_history"] if "loss" in entry}


@pytest.fixture
def lighthouse() -> Iterator[dict[str, Any]]:
    """One entry of run.json's `lighthouses`, and the program behind it."""
    command = [sys.executable, "-P", "-m", "remote.engine.lighthouse", "127.0.0.1", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}, text=True
    ) as program:
        assert program.stdout is not None
        port = json.loads(program.stdout.readline())["port"]
        yield {"host": "w1", "address": "127.0.0.1", "port": port}
        program.kill()


def elastic(world: World, lighthouse: dict[str, Any]) -> World:
    for host in world.hosts:
        path = world.run_dir(host) / "run.json"
        run = json.loads(path.read_text()) | {"engine": "elastic", "lighthouses": [lighthouse]}
        path.write_text(json.dumps(run))
    return world


@pytest.fixture
def make_world(tmp_path: Path, fork_server: Any) -> Any:
    return lambda name: World(tmp_path / name, fork_server)


@pytest.fixture
def session(make_world: Any, tiny_model: Path, dataset: Path) -> Iterator[Session]:
    """One rank before its first step."""
    yield from started(make_world("alone").plan(tiny_model, dataset, 1))


def started(world: World) -> Iterator[Session]:
    """The first rank of a world of one, before its first step."""
    run = world.run()
    events = EventWriter.of_run(run, world.run_dir(), 0, 1)
    session, *_ = start(run, run.rank_of_slot(0), world.run_dir(), events)
    try:
        yield session
    finally:
        session.engine.close()
        events.close()


@contextmanager
def files_below(most_bytes: int) -> Iterator[None]:
    """No file of this process and its children gets longer than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doom:
    """A rank is killed, as by kill -9, when it calls `function` of `module` the `call`-th time."""

    module: str
    function: str
    call: int

    def await_in_this_process(self) -> None:
        module = import_module(self.module)
        function = getattr(module, self.function)
        calls = 0

        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        setattr(module, self.function, counted)


def _record_commits(path: Path) -> None:
    """Notes which rows this rank computed of each step that it committed."""
    commit = train_module.commit

    def noted(session: Session, step: Step, tally: Tally) -> float:
        norm = commit(session, step, tally)
        with path.open("a") as file:
            file.write(json.dumps([step.number, step.share.tolist()]) + "\n")
        return norm

    train_module.commit = noted


def _rank(
    run_dir: Path,
    rank: int,
    world_size: int,
    port: int,
    log: Path,
    committed: Path,
    doom: Doom | None,
) -> None:
    _record_commits(committed)
    if doom is not None:
        doom.await_in_this_process()
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os._exit(main([str(run_dir), str(rank), "1"]))
