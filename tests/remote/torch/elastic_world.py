"""Ranks of the elastic engine as processes, with a training that one process can repeat exactly.

What is learnt is a vector; a step adds, for each of its samples, numbers that fp32 holds exactly,
so that every order of summation gives the same bits.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from remote.control import Action, read_control, write_control
from remote.data.order import deal, samples_of_step
from remote.engine import DismissedError, MemberLostError, StepLost, Tally
from remote.engine.elastic import ElasticEngine
from remote.engine.heal import pack, unpack
from remote.run import Lighthouse, Rank, Run, Train

DEADLINE_S = 90
ROOT = Path(__file__).parents[3]
SIZE = 64
ROWS, GLOBAL_BATCH, SEED = 60, 12, 7
STEP_S = 0.03


class Training:
    """The state of the made-up training: a vector, its "moments", and how far it came."""

    numerics = "cpu"

    def __init__(self, rows: str = "60") -> None:
        self.weights = torch.zeros(SIZE)
        self.moments = torch.zeros(SIZE)
        self.step = 0
        self.terms = {"rows": rows}

    def digest(self) -> str:
        return hashlib.sha256(self.weights.numpy().tobytes()).hexdigest()

    def flatten(self) -> torch.Tensor:
        return pack([self.weights, self.moments], {"step": self.step})

    def load(self, flat: torch.Tensor) -> None:
        numbers, note = unpack(flat)
        self.weights, self.moments = numbers.clone().split(SIZE)
        self.step = note["step"]

    def gradient(self, samples: Any) -> torch.Tensor:
        grid = torch.arange(SIZE, dtype=torch.float32)
        total = torch.zeros(SIZE)
        for sample in samples.tolist():
            total += (grid * (sample + 1) + self.step) % 17
        return total

    def commit(self, summed: torch.Tensor) -> None:
        self.moments += summed % 5
        self.weights = (self.weights + summed + self.moments) % 4096
        self.step += 1


def samples(step: int) -> Any:
    return samples_of_step(SEED, ROWS, GLOBAL_BATCH, 10**6, step)


def alone(steps: int) -> list[str]:
    """The digests after each step when one process computes everything: the oracle."""
    training = Training()
    digests = []
    for step in range(steps):
        training.commit(training.gradient(samples(step)))
        digests.append(training.digest())
    return digests


def run_of(slots: int, start_timeout_s: float = 30, generation: int = 1) -> Run:
    world = tuple(
        Rank(slot=slot, rank=slot, host=f"w{slot + 1}", address="127.0.0.1", gpu=None)
        for slot in range(slots)
    )
    return Run(
        job="j-test",
        host="w1",
        generation=generation,
        engine="elastic",
        world=world,
        main_port=0,
        start_timeout_s=start_timeout_s,
        model="",
        dataset="",
        train=Train(global_batch=GLOBAL_BATCH),
    )


def compare(engine: ElasticEngine, training: Training) -> None:
    """What a checkpoint does: words from all, then the first one's weights."""
    words = engine.exchange(training.digest())
    assert set(words) == {rank.slot for rank in engine.members().ranks}
    assert len(set(words.values())) == 1, words
    copied = torch.zeros(SIZE) if training.step % 2 else training.weights.clone()
    if engine.members().is_first:
        copied = training.weights.clone()
    engine.copy_from_first(copied)
    assert torch.equal(copied, training.weights)


def work(setting: Mapping[str, Any]) -> None:
    """One rank: trains until it is told to stop at a step, and writes down what it commits."""
    torch.set_num_threads(1)
    run, slot = setting["run"], setting["slot"]
    address = setting.get("address", "127.0.0.1")
    own = Rank(slot=slot, rank=slot, host=f"w{slot + 1}", address=address, gpu=None)
    folder: Path = setting["folder"]
    path = folder / f"told.{slot}.{setting['launch']}.jsonl"
    told = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(kind: str, **more: Any) -> None:
        line = {"kind": kind, "slot": slot, "t": time.monotonic(), **more}
        os.write(told, json.dumps(line).encode() + b"\n")

    engine = ElasticEngine(
        run,
        own,
        run_dir=folder / f"w{slot + 1}",
        launch=setting["launch"],
        lighthouses=setting["lighthouses"],
        say=lambda message: tell("notice", message=message),
        wanted=partial(read_control, folder / f"w{slot + 1}"),
    )
    training = Training(setting["rows"])
    tell("begun", pid=os.getpid())
    ready = folder / f"ready.{slot}"
    while setting.get("loads") and not ready.exists():
        engine.say_alive()
        time.sleep(setting["loads"])
    spoil = folder / f"spoil.{slot}"
    last = folder / "last"
    try:
        engine.join()
        while True:
            members = engine.settle(training)
            tell(
                "settled",
                step=training.step,
                digest=training.digest(),
                slots=[rank.slot for rank in members.ranks],
            )
            if last.exists() and training.step >= int(last.read_text()):
                break
            if read_control(folder / f"w{slot + 1}") is Action.LEAVE:
                engine.leave()
            due = samples(training.step)
            share = due[deal(len(due), members.weights)[members.place]]
            gradient = training.gradient(share)
            time.sleep(setting["step_s"] * len(share) / len(due) * len(members.ranks))
            outcome = engine.reduce(gradient, Tally(samples=len(share), tokens=len(share)))
            if isinstance(outcome, StepLost):
                tell("lost", step=training.step, reason=outcome.reason)
                continue
            if outcome.samples != len(due):
                raise AssertionError(f"{outcome.samples} samples of {len(due)}")
            training.commit(gradient)
            tell("committed", step=training.step, digest=training.digest(), samples=due.tolist())
            if training.step % 5 == 0:
                with contextlib.suppress(MemberLostError):
                    compare(engine, training)
            if spoil.exists():
                spoil.unlink()
                training.weights[0] += 1
    except DismissedError as dismissed:
        tell(dismissed.action, step=training.step, digest=training.digest())
        return
    except Exception as error:
        tell("failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        engine.close()
    tell("finished", step=training.step, digest=training.digest())


def _enter(setting: Mapping[str, Any]) -> None:
    log = os.open(
        setting["folder"] / f"log.{setting['slot']}.{setting['launch']}",
        os.O_WRONLY | os.O_CREAT,
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        work(setting)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class ElasticWorld:
    """Lighthouses and ranks; everything it started is dead when the `with` ends."""

    def __init__(self, folder: Path, slots: int, lighthouses: int = 1, **settings: Any) -> None:
        self.folder = folder
        self.slots = slots
        self._settings = {"step_s": STEP_S, "rows": "60", **settings}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.remote.torch.elastic_world"])
        self.ranks: dict[int, Any] = {}
        self.launches: dict[int, int] = {}
        self.lights: list[subprocess.Popen[str]] = []
        self.lighthouses: list[Lighthouse] = []
        self._light_count = lighthouses
        self._dark = contextlib.ExitStack()
        self._start_timeout_s = self._settings.pop("start_timeout_s", 30)

    def __enter__(self) -> "ElasticWorld":
        for number in range(self._light_count):
            light = subprocess.Popen(
                [sys.executable, "-m", "remote.engine.lighthouse", "127.0.0.1", "0"],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            self.lights.append(light)
            assert light.stdout is not None
            port = json.loads(light.stdout.readline())["port"]
            self.lighthouses.append(
                Lighthouse(host=f"w{number + 1}", address="127.0.0.1", port=port)
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._dark.close()
        for rank in self.ranks.values():
            with contextlib.suppress(ProcessLookupError, ValueError):
                rank.kill()
                rank.join()
        for light in self.lights:
            light.kill()
            light.wait()
            assert light.stdout is not None
            light.stdout.close()

    def start(self, *slots: int, **settings: Any) -> None:
        for slot in slots:
            self.launches[slot] = self.launches.get(slot, 0) + 1
            (self.folder / f"w{slot + 1}").mkdir(exist_ok=True)
            setting = {
                "run": run_of(self.slots, self._start_timeout_s),
                "slot": slot,
                "launch": self.launches[slot],
                "folder": self.folder,
                "lighthouses": self.lighthouses,
                **self._settings,
                **settings,
            }
            self.ranks[slot] = self._context.Process(target=_enter, args=(setting,))
            self.ranks[slot].start()

    def order(self, slot: int, action: Action) -> None:
        """The coordinator's word to the host of a slot."""
        write_control(self.folder / f"w{slot + 1}", action)

    def darken(self, number: int) -> None:
        """The host of a lighthouse loses its power: who calls there hears nothing, not even no."""
        light, port = self.lights[number], self.lighthouses[number].port
        light.kill()
        light.wait()
        listener = self._dark.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(2):  # nobody accepts, so the kernel drops what comes after these
            caller = self._dark.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))

    def signal(self, slot: int, number: int) -> None:
        os.kill(self.ranks[slot].pid, number)

    def kill(self, slot: int) -> None:
        self.signal(slot, signal.SIGKILL)
        self.ranks[slot].join()

    def told(self, slot: int, kind: str | None = None) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        for launch in range(1, self.launches[slot] + 1):
            path = self.folder / f"told.{slot}.{launch}.jsonl"
            if path.exists():
                content = path.read_text()
                lines += map(json.loads, content[: content.rfind("\n") + 1].splitlines())
        return [line for line in lines if kind in (None, line["kind"])]

    def until(self, what: str, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        pause = threading.Event()
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {DEADLINE_S} s: {what}\n{self.story()}")
            pause.wait(0.02)
        return value

    def step_of(self, slot: int) -> int:
        lines = self.told(slot, "committed") + self.told(slot, "settled")
        return max((line["step"] for line in lines), default=-1)

    def reach(self, step: int, *slots: int) -> None:
        self.until(
            f"step {step} on slots {slots}",
            lambda: all(self.step_of(slot) >= step for slot in slots),
        )

    def finish(self, *slots: int, more: int = 5) -> int:
        """Lets the ranks stop at the same step; returns it."""
        last = max(self.step_of(slot) for slot in slots) + more
        (self.folder / "last.tmp").write_text(str(last))
        (self.folder / "last.tmp").rename(self.folder / "last")
        self.until("all finish", lambda: all(self.told(slot, "finished") for slot in slots))
        return max(self.told(slot, "finished")[-1]["step"] for slot in slots)

    def check(self, *slots: int) -> None:
        """Against one process that computes everything: every state that a rank committed or came
        to is that of its step, and what it committed follows without a hole or a repeat."""
        furthest = max(self.step_of(slot) for slot in slots)
        oracle = [Training().digest(), *alone(furthest)]
        for slot in slots:
            for line in self.told(slot, "committed") + self.told(slot, "settled"):
                assert line["digest"] == oracle[line["step"]], line
            for line in self.told(slot, "committed"):
                assert line["samples"] == samples(line["step"] - 1).tolist()
            steps = [line["step"] for line in self.told(slot, "committed")]
            assert steps == sorted(set(steps)), steps

    def gap(self, slot: int, since: float) -> float:
        """Seconds from a fault to the next commit of a rank."""
        after = self.until(
            f"a commit of slot {slot}",
            lambda: [line for line in self.told(slot, "committed") if line["t"] > since],
        )
        return after[0]["t"] - since

    def story(self) -> str:
        lines = sorted(
            (line for slot in self.launches for line in self.told(slot)), key=lambda line: line["t"]
        )
        logs = [
            path.read_text()[-1500:] for path in self.folder.glob("log.*") if path.stat().st_size
        ]
        return "\n".join([*(json.dumps(line)[:300] for line in lines[-40:]), *logs])


@contextlib.contextmanager
def frozen(world: ElasticWorld, slot: int) -> Iterator[None]:
    world.signal(slot, signal.SIGSTOP)
    try:
        yield
    finally:
        world.signal(slot, signal.SIGCONT)
