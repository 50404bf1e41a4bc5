"""A worker for tests: one run directory and the real agent over a stub payload, no SSH."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote import processes, remains
from remote.ending import tail
from remote.lease import is_locked
from tests.ports import unused_port

DEADLINE_S = 60.0
SECRET = "canary-7c1e"


def wait_until(claim: Callable[[], Any], what: str) -> Any:
    """The claim's first true value; fails with `what` when it does not come true in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := claim()):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S:.0f} s"
        time.sleep(0.02)
    return value


class Worker:
    """One host's part of a job. `ranks` of them run here, all in one world."""

    def __init__(self, payload: Path, workdir: Path, *, ranks: int = 1, **env: str) -> None:
        self.payload = payload
        self.run_dir = workdir / "runs" / "j-1" / "w1"
        place = {"host": "w1", "address": "127.0.0.1", "gpu": None}
        self.within: list[str] = []  # a command that runs the others, as `unshare` does
        self._strays: list[processes.Identity] = []
        self.run: dict[str, Any] = {
            "v": 1,
            "job": "j-1",
            "host": "w1",
            "generation": 1,
            "engine": "static",
            "world": [{"slot": n, "rank": n, **place} for n in range(ranks)],
            "main_port": unused_port(),
            "cpu_cores": 1,
            "env": {"SOLLOL_STUB_STEPS": "10000", "SOLLOL_STUB_STEP_S": "0.02", **env},
            "model": "tiny",
            "dataset": "rows.jsonl",
            "train": {},
        }

    def add_module(self, name: str, source: str) -> None:
        """Puts a module where this worker's programs find it first."""
        (self._own_payload() / f"{name}.py").write_text(source)

    def shorten(self, module: str, constant: str, usual: float, short: float) -> None:
        """Gives this worker's payload a shorter time to wait."""
        path = self._own_payload() / "remote" / f"{module}.py"
        line = f"\n{constant} = {usual}"
        assert line in path.read_text()
        path.write_text(path.read_text().replace(line, f"\n{constant} = {short}"))

    def _own_payload(self) -> Path:
        own = self.run_dir.parents[2] / "payload"
        if self.payload != own:
            shutil.copytree(self.payload, own)
            self.payload = own
        return own

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.within, sys.executable, "-P", "-m", *arguments],
            env=os.environ | {"PYTHONPATH": str(self.payload)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def agent(self, command: str, *arguments: str, stdin: str = "") -> dict[str, Any]:
        """One command's answer. Returns when all its output channels are closed, as SSH would."""
        process = self.begin("remote.agent", command, str(self.run_dir), *arguments)
        output, errors = process.communicate(stdin, timeout=DEADLINE_S)
        assert errors == ""
        answer = json.loads(output)
        assert process.returncode == (3 if answer.get("outcome") == "refused" else 0)
        return answer

    @property
    def request(self) -> str:
        return json.dumps({"run": self.run, "secrets": {"HF_TOKEN": SECRET}})

    def start(self) -> dict[str, Any]:
        answer = self.agent("start", stdin=self.request)
        assert answer["outcome"] != "refused", answer["reason"]
        return answer

    def refused(self) -> str:
        """Why the agent does not start here."""
        answer = self.agent("start", stdin=self.request)
        assert answer["outcome"] == "refused"
        return answer["reason"]

    def events(self, writer: str = "agent") -> list[dict[str, Any]]:
        paths = sorted(self.run_dir.glob(f"events.{writer}.*.jsonl"))
        lines = [line for path in paths for line in path.read_text().splitlines(True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_for(self, kind: str, writer: str = "agent", count: int = 1) -> dict[str, Any]:
        def newest() -> dict[str, Any] | None:
            found = [event for event in self.events(writer) if event["kind"] == kind]
            return found[-1] if len(found) >= count else None

        # Once the agent has left nothing more will come.
        wait_until(lambda: newest() or not is_locked(self.run_dir), f"event {kind} of {writer}")
        found = newest()
        assert found, f"event {kind} of {writer}: the run is over. {self.last_words()}"
        return found

    def last_words(self) -> str:
        """What a run said at its end, for whoever expected something else."""
        said = [f"{event['kind']}: {event.get('reason')}" for event in self.events()[-3:]]
        logs = [f"{log.name}: {tail(log)}" for log in sorted(self.run_dir.glob("log.*"))]
        return "\n".join([*said, *logs])

    def strays(self) -> list[processes.Identity]:
        """The identities of the six children that the stub leaves, once all of them are there."""

        def six() -> list[str] | None:
            listing = self.run_dir / "strays"
            pids = listing.read_text().split() if listing.exists() else []
            return pids if len(pids) == 6 else None

        found = [processes.identify(int(pid)) for pid in wait_until(six, "six strays")]
        self._strays = [identity for identity in found if identity]
        return self._strays

    def remnants(self) -> list[remains.Remnant]:
        return remains.living(self.run_dir)

    def end(self) -> None:
        """Ends whatever a failed test has left; only what belongs to this run directory."""
        for identity in [*self._strays, *(known for known, _ in remains.recorded(self.run_dir))]:
            processes.send_signal(identity, signal.SIGKILL)
        remains.remove(self.remnants, term_grace_s=0, reap=lambda: None)
