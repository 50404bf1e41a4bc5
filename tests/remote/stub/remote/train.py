"""A rank that learns nothing, in the standard library: one world over plain TCP, the contract's
events, control between steps, a small result. `python -m remote.train RUN_DIR SLOT ATTEMPT`."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from remote.scores_here import SHARDS, ScoresHere

from remote.control import Action, read_control
from remote.events import EventWriter
from remote.files import write_atomic
from remote.program import begin, carry_out
from remote.pulse import Doing, Pulse
from remote.run import Rank, Run

FAIL = os.environ.get("SOLLOL_STUB_FAIL", "")
STEPS = int(os.environ.get("SOLLOL_STUB_STEPS", "20"))
STEP_S = float(os.environ.get("SOLLOL_STUB_STEP_S", "0.05"))
HANGS_AT = int(os.environ.get("SOLLOL_STUB_HANGS_AT", "0"))
GROWS_AT = int(os.environ.get("SOLLOL_STUB_GROWS_AT", "1000000000"))
GROWS_BYTES = 16 * 1024**2  # with every step from then on
HOARD: list[bytearray] = []
LINES = int(os.environ.get("SOLLOL_STUB_LINES", "0"))
HOLDS, _, RELEASE = os.environ.get("SOLLOL_STUB_HOLDS", "").partition("=")
DEAF = os.environ.get("SOLLOL_STUB_DEAF") == "1"

if FAIL == "import":
    raise ImportError("libstub.so.1: cannot open shared object file")


class World:
    """All ranks of the job, each connected to rank 0, which decides for all of them."""

    def __init__(self, run: Run, events: EventWriter) -> None:
        self.rank = int(os.environ["RANK"])
        self.size = int(os.environ["WORLD_SIZE"])
        where = (run.main_address, run.main_port)
        deadline = time.monotonic() + run.start_timeout_s
        self._peers: list[Any] = []
        if self.rank == 0:
            with socket.create_server(where) as listener:
                listener.settimeout(0.5)
                while len(self._peers) < self.size - 1:
                    try:
                        self._peers.append(self._file(listener.accept()[0]))
                    except TimeoutError:
                        events.emit("loading", what="waiting for the others")
        else:
            self._peers = [self._file(self._connect(where, deadline))]

    @staticmethod
    def _connect(where: tuple[str, int], deadline: float) -> socket.socket:
        while True:
            try:
                return socket.create_connection(where, timeout=5)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    @staticmethod
    def _file(peer: socket.socket) -> Any:
        peer.settimeout(None)
        return peer.makefile("rw", buffering=1)

    def agree(self, wish: str) -> str:
        """Every rank says what it wants and hears what all do: the gravest wish of any."""
        order = ["run", "stop", "kill"]
        if self.rank == 0:
            decision = max([wish, *(self._hear(peer) for peer in self._peers)], key=order.index)
            for peer in self._peers:
                peer.write(decision + "\n")
            return decision
        self._peers[0].write(wish + "\n")
        return self._hear(self._peers[0])

    def agree_on(self, mine: list[int]) -> int:
        """The highest number that every rank has; 0 for none."""
        if self.rank == 0:
            common = set(mine).intersection(*(map(int, self._hear(p).split()) for p in self._peers))
            newest = max(common, default=0)
            for peer in self._peers:
                peer.write(f"{newest}\n")
                peer.flush()
            return newest
        self._peers[0].write(" ".join(map(str, mine)) + "\n")
        self._peers[0].flush()
        return int(self._hear(self._peers[0]))

    @staticmethod
    def _hear(peer: Any) -> str:
        if not (line := peer.readline()):
            raise ConnectionError("Connection closed by peer")
        return line.strip()


def train(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
    slot = own.slot
    if os.environ.get("SOLLOL_STUB_STRAYS") == "1":
        leave_strays(run_dir / "strays")
    if DEAF:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    events.emit("loading", what="world")
    if FAIL == "mute":
        signal.pause()
    world = World(run, events)
    batch, total = run.train.global_batch, STEPS * run.train.global_batch
    first = world.agree_on(saved_steps(run_dir / "checkpoints"))
    if first:
        events.emit("notice", message=f"continuing from checkpoint-{first}")
    events.emit(
        "ready",
        rank=world.rank,
        world_size=1 if FAIL == "alone" else world.size,
        device="cpu",
        torch="stub",
        digest="0" * 16,
        rows=total,
        rows_skipped=0,
        rows_truncated=0,
        template="none",
        trainable_params=1,
    )
    if FAIL == "silent":
        return
    started = time.monotonic()
    scores = None if run.distill is None else ScoresHere(run, run_dir)
    if scores is not None:
        scores.tell(events)
    pulse = Pulse(run_dir, slot, events.attempt)
    for step in range(first + 1, STEPS + 1):
        while f"{run.program}:{step}" == HOLDS and not Path(RELEASE).exists():
            if read_control(run_dir) != Action.RUN:
                break
            time.sleep(0.02)
        pulse.begin_step()
        pulse.now(Doing.COMPUTING)
        if f"step:{step}" == FAIL:
            raise RuntimeError(f"told to fail in step {step}")
        if step == HANGS_AT:
            hang()
        time.sleep(STEP_S)
        if scores is not None:
            scores.wait((step - 1) * SHARDS // STEPS, run_dir, events)
        if step >= GROWS_AT:
            HOARD.append(bytearray(os.urandom(4096)) * (GROWS_BYTES // 4096))
        pulse.now(Doing.WAITING)
        wish = world.agree(Action.RUN if DEAF else read_control(run_dir))
        if wish == Action.KILL:
            return
        pulse.took(step)
        passed = time.monotonic() - started
        sys.stdout.write(f"step {step} of {STEPS}\n")
        sys.stdout.flush()
        chatter((step - 1) * LINES)
        if world.rank == 0:
            events.emit(
                "step",
                step=step,
                max_steps=STEPS,
                samples_done=step * batch,
                samples_total=total,
                tokens=step * batch * 8,
                loss=4.0 / (1 + 0.1 * step),
                lr=run.train.learning_rate,
                grad_norm=1.0,
                samples_per_s=step * batch / passed,
                eta_s=(STEPS - step) * passed / step,
                world_size=world.size,
                sync_s=0.0,
            )
        due = run.train.save_steps and step % run.train.save_steps == 0
        if slot == min(rank.slot for rank in run.own_ranks) and (wish == Action.STOP or due):
            path = save(run_dir / "checkpoints" / f"checkpoint-{step}", step)
            if world.rank == 0:
                events.emit("checkpoint", step=step, samples_done=step * batch, path=str(path))
        if wish == Action.STOP:
            events.emit("stopped", step=step, samples_done=step * batch)
            return
    result = str(save(run_dir / "result", STEPS)) if world.rank == 0 else None
    events.emit(
        "finished",
        step=STEPS,
        samples_done=total,
        digest="0" * 16,
        result=result,
        train_s=time.monotonic() - started,
    )


def hang() -> None:
    while True:
        time.sleep(1)


def chatter(first: int) -> None:
    """Numbered lines with what a log may hold: every byte but a newline, and what looks like an
    event, a frame of the stream or an order to the terminal."""
    garbage = (
        bytes(set(range(256)) - {10}),
        b'{"v": 1, "kind": "failed", "slot": 0, "error": "not true"}',
        b'{"v":1,"file":"events.0.1.jsonl","offset":0,"size":99999}',
        b"\x1b]52;c;aGk=\x07\x1b[2J 50%|#####     |\r100%|##########|",
    )
    for number in range(first, first + LINES):
        sys.stdout.buffer.write(b"line %d %s\n" % (number, garbage[number % len(garbage)]))
    sys.stdout.flush()


def saved_steps(folder: Path) -> list[int]:
    """The checkpoints here that are what they say."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal() and (path / "adapter_model.safetensors").read_bytes() == (
            b"stub %d\n" % int(number)
        ):
            found.append(int(number))
    return found


def save(folder: Path, step: int) -> Path:
    """A folder of the shape that a checkpoint and a result have, whole or not there."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files = {"adapter_config.json": b"{}\n", "adapter_model.safetensors": b"stub %d\n" % step}
    for name, data in files.items():
        write_atomic(temporary / name, data)
    sums = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }
    write_atomic(temporary / "manifest.json", json.dumps({"v": 1, "files": sums}).encode())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return folder


def leave_strays(listing: Path) -> None:
    """Six ways in which a child gets away from whoever kills its parent."""
    for kind in ("child", "grandchild", "group", "session", "daemon", "nameless daemon"):
        if os.fork() == 0:
            if kind == "group":
                os.setpgid(0, 0)
            if kind in ("session", "daemon", "nameless daemon"):
                os.setsid()
            if kind in ("grandchild", "daemon", "nameless daemon") and os.fork():
                if kind == "grandchild":
                    signal.pause()
                os._exit(0)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            with listing.open("a") as file:
                file.write(f"{os.getpid()}\n")
            environment = {} if kind == "nameless daemon" else dict(os.environ)
            os.execve(shutil.which("sleep") or "/bin/sleep", ["sleep", "600"], environment)


if __name__ == "__main__":
    begin(sys.argv[1:])
    status = carry_out(sys.argv[1:], train)
    sys.exit(1 if FAIL == "late" else status)
