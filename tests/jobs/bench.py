"""A small cluster on this machine for tests of whole jobs: embedded hosts, the real agent, ranks of
the standard library, and what a test may look at or break."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sollol_tui.client import SOLLOLClient
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.supervise import LOCK, is_supervised
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState

DEADLINE_S = 90.0
POLL_S = 0.02
TOKENIZER = '{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": []}'
COPIED = ("log.", "events.")  # what of a run directory comes to the coordinator


def until(claim: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """The claim's first true value; fails with `what` when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := claim()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(POLL_S)
    return value


def write_model(folder: Path) -> Path:
    """What passes for a model where no rank reads it."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text(TOKENIZER)
    (folder / "model.safetensors").write_bytes(b"stub")
    return folder


def write_teacher(folder: Path) -> Path:
    """A model with the student's tokens, whose scores no other test has."""
    write_model(folder)
    (folder / "README.md").write_text(str(folder))
    return folder


def write_rows(file: Path, rows: int = 40) -> Path:
    text = [json.dumps({"instruction": f"say {n}", "output": str(n)}) for n in range(rows)]
    file.write_text("\n".join(text) + "\n")
    return file


@dataclass
class Bench:
    """Two hosts, `one` and `two`, whose workdirs outlive the test with what is installed there."""

    workdirs: Path
    folder: Path
    home: Home
    client: SOLLOLClient

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    def lay_out(self, env: Mapping[str, str], per_host: Mapping[str, Mapping[str, str]]) -> None:
        """Writes the inventory; `env` steers the ranks of all hosts, `per_host` those of one."""
        cache = {"UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]}
        hosts = {
            name: {
                "connection": "local",
                "workdir": str(self.workdirs / name),
                "limits": {"gpu_ids": [], "cpu_cores": 1},
                "env": {**cache, **env, **per_host.get(name, {})},
            }
            for name in ("one", "two")
        }
        # Another suite on this machine chooses its ports at the same moment.
        first = 20_000 + os.getpid() % 180 * 50
        network = {"ports": f"{first}-{first + 49}"}
        self.inventory.write_text(json.dumps({"hosts": hosts, "network": network}))

    def submit(
        self,
        *,
        env: Mapping[str, str] | None = None,
        per_host: Mapping[str, Mapping[str, str]] | None = None,
        **settings: Any,
    ) -> str:
        """A job of both hosts; `env` steers the ranks, see tests/remote/stub/README."""
        self.lay_out({"SOLLOL_STUB_STEP_S": "0.02", **(env or {})}, per_host or {})
        return self.client.submit_job(self.spec(**settings)).id

    def spec(self, **settings: Any) -> dict[str, Any]:
        return {
            "model": str(self.folder / "model"),
            "dataset": str(self.folder / "rows.jsonl"),
            "workers": "one,two",
            # More steps than any rank takes before it is stopped: they do not read the rows.
            "epochs": 10_000,
            "global_batch": 16,
            "engine": "static",  # of an elastic rank the standard library knows nothing
            "output_dir": str(self.folder / "out" / "{id}"),
            **settings,
        }

    @property
    def release(self) -> Path:
        """Whoever stands still goes on once it is there."""
        return self.folder / "release"

    def until_released(self, step: int) -> dict[str, str]:
        """Has ranks stand still before a step."""
        return {"SOLLOL_STUB_HOLDS": f"train:{step}={self.release}"}

    def view(self, job: str) -> JobView:
        return self.client.get_job_status(job)

    def reaches(self, job: str, *states: JobState, timeout_s: float = DEADLINE_S) -> JobView:
        """The job as it is once it is in one of the states; fails when it ends otherwise."""

        def there() -> JobView | None:
            view = self.view(job)
            assert view.state in states or not view.state.is_terminal, (
                f"{view.state}: {view.reason}\n{view.traceback}\n{self.supervisor_log(job)}"
            )
            return view if view.state in states else None

        found: JobView = until(there, f"{job} is {' or '.join(states)}", timeout_s)
        return found

    def takes_steps(self, job: str) -> JobView:
        self.reaches(job, JobState.RUNNING)
        until(lambda: self.view(job).step > 0, "a first step")
        return self.view(job)

    def supervisor_log(self, job: str) -> str:
        return (self.home.job(job) / "supervisor.log").read_text()

    def supervisor(self, job: str) -> psutil.Process:
        """The process that holds the job's lock."""

        def holder() -> psutil.Process | None:
            lock = self.home.job(job) / LOCK
            for process in supervisors(self.home):
                if job in process.cmdline() and any(
                    file.path == str(lock) for file in process.open_files()
                ):
                    return process
            return None

        found: psutil.Process = until(holder, f"a supervisor of {job}")
        return found

    def kill_supervisor(self, job: str) -> None:
        """Kills the job's supervisor, if it has one; returns once its lock is free."""
        for process in supervisors(self.home):
            if job in process.cmdline():
                process.kill()
        # A dying process has lost its command line before it lets go of its locks.
        until(lambda: not is_supervised(self.home, job), "the supervisor is dead")

    def run_dir(self, job: str, host: str) -> Path:
        return self.workdirs / host / "runs" / job / host

    def agent(self, job: str, host: str) -> int:
        """The pid of the agent that was started there last."""
        lines = (self.run_dir(job, host) / "pids").read_text().splitlines()
        return int([one["pid"] for one in map(json.loads, lines) if one["role"] == "agent"][-1])

    def started_agents(self, job: str) -> list[str]:
        """The log of each agent that was ever started for the job."""
        return sorted(
            f"{host}/{path.name}"
            for host in ("one", "two")
            for path in self.run_dir(job, host).glob("log.agent.*")
        )

    def left(self, job: str) -> list[str]:
        """What still runs of the job on its hosts."""
        return [
            f"{process.pid} {' '.join(process.cmdline())}"
            for process, run in runs(self.workdirs)
            if f"/{job}/" in run
        ]

    def copies_are_equal(self, job: str) -> bool:
        """Whether the coordinator has every log and event file of the workers, byte for byte."""
        for host in ("one", "two"):
            there = [path for path in self.run_dir(job, host).iterdir() if path.stat().st_size]
            written = {p.name: p for p in there if p.name.startswith(COPIED)}
            here = self.home.copies(job, host).iterdir()
            copied = {p.name: p for p in here if p.name.startswith(COPIED)}
            assert written.keys() == copied.keys()
            for name in written:
                assert written[name].read_bytes() == copied[name].read_bytes(), name
        return True

    def clear(self) -> None:
        """Ends what the test has left, by id and never by name."""
        for process in supervisors(self.home):
            process.kill()
        for process, _ in runs(self.workdirs):
            process.kill()
        until(lambda: not [*runs(self.workdirs)], "nothing runs on the hosts")


def supervisors(home: Home) -> list[psutil.Process]:
    """The supervisors of this state folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if "sollol_tui.jobs.supervise" in process.cmdline() and (
                process.environ().get("SOLLOL_HOME") == str(home.root)
            ):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if is_alive(process)]


def runs(workdirs: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Each living process of a run under `workdirs`, with its run directory."""
    for process in psutil.process_iter():
        try:
            command, environment = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        said = [environment.get("SOLLOL_RUN", ""), *command]
        # The interpreter lies under the workdir too: only a run directory names a run.
        inside = (word for word in said if word.startswith(f"{workdirs}/"))
        run = next((word for word in inside if "/runs/" in word), "")
        if run and is_alive(process):
            yield process, run


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
