"""A whole elastic job on a lab's hosts, and the records of its ranks: who computed what, in which
group, and who committed it. Says what the records prove; breaks nothing."""

import contextlib
import json
import shutil
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sollol_tui.jobs import checkpoints
from sollol_tui.jobs.home import open_home
from sollol_tui.model.snapshot import JobView
from sollol_tui.model.states import JobState
from tests.cluster.conftest import CHECKOUT, UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine
from tests.cluster.training.environment import tiny_model, worker_python
from tests.jobs.bench import supervisors, until

RECORDING = Path(__file__).parent / "recording"
ROWS, GLOBAL_BATCH = 90, 12
EVERYBODY = (0, 1, 2)  # the slots of a job on w1, w2 and w3
SETTINGS = {
    "engine": "elastic", "max_length": 64, "batch_size": 8, "global_batch": GLOBAL_BATCH,
    "lr": 2e-4, "lora.r": 4, "schedule": "constant", "warmup_ratio": 0, "wire": "fp32",
    "epochs": 10_000, "save_steps": 50,
}  # fmt: skip

# Takes the same steps alone, and stops after the last of them.
ALONE = """
import itertools, os, sys
os.environ["OMP_NUM_THREADS"] = "1"  # as on the hosts
from remote import train
from remote.control import Action
calls, last = itertools.count(1), int(sys.argv[2])
train.read_control = lambda run_dir: Action.STOP if next(calls) >= last else Action.RUN
sys.exit(train.main([sys.argv[1], "0", "1"]))
"""
FURTHEST = """
import sys
from safetensors.numpy import load_file
one, other = (load_file(f"{folder}/adapter_model.safetensors") for folder in sys.argv[1:])
assert one.keys() == other.keys()
print(max(abs(one[k] - other[k]).max() / abs(other[k]).max() for k in one))
"""


def recording_payload(target: Path) -> Path:
    """The real payload with a loop that writes down what it does."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "remote", target / "remote", ignore=ignored)
    (target / "remote" / "train.py").rename(target / "remote" / "loop.py")
    shutil.copytree(RECORDING, target, ignore=ignored, dirs_exist_ok=True)
    return target


def write_rows(path: Path) -> None:
    rows = [
        {"instruction": f"say {n}", "output": " ".join(str(n * k % 97) for k in range(n % 5 + 2))}
        for n in range(ROWS)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@contextlib.contextmanager
def recording_coordinator(lab: Lab, folder: Path, step_s: float) -> Iterator[Coordinator]:
    """A coordinator beside a lab whose hosts get the recording payload; a step takes so long."""
    payload = recording_payload(folder / "payload")
    fill_cache(payload, folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLLOL_PAYLOAD", str(payload))
        coordinator = Coordinator(
            lab=lab,
            home=open_home(folder / "home"),
            folder=folder,
            cache_on_hosts=UV_CACHE_ON_HOSTS,
        )
        coordinator.knows_hosts()
        environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        coordinator.lay_out({**environment, "SOLLOL_RECORDED_STEP_S": str(step_s)}, cpu_cores=None)
        tiny_model(folder / "model")
        write_rows(folder / "rows.jsonl")
        try:
            yield coordinator
        finally:
            for process in supervisors(coordinator.home):
                process.kill()


@dataclass
class ElasticJob:
    coordinator: Coordinator
    id: str
    lines: list[dict[str, Any]] = field(default_factory=list)  # of all ranks, in order of time
    _read: dict[Path, int] = field(default_factory=dict)

    @classmethod
    def submit(cls, coordinator: Coordinator, *workers: str, **settings: Any) -> "ElasticJob":
        merged = {**SETTINGS, **settings}
        flags = [word for key, value in merged.items() for word in ("--set", f"{key}={value}")]
        names = ",".join(workers)
        coordinator.sollol(*coordinator.train("--workers", names, "--detach", *flags))
        return cls(coordinator, coordinator.jobs()[0].id)

    @property
    def view(self) -> JobView:
        return next(job for job in self.coordinator.jobs() if job.id == self.id)

    def run_dir(self, host: Machine) -> Path:
        return self.coordinator.run_dir(self.id, host)

    def look(self) -> list[dict[str, Any]]:
        """Reads what the ranks wrote since the last look; returns all of it."""
        for host in self.coordinator.lab.hosts:
            for path in self.run_dir(host).glob("record.*"):
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    whole = file.read().rpartition(b"\n")[0]
                self._read[path] = self._read.get(path, 0) + len(whole) + bool(whole)
                self.lines += [json.loads(line) for line in whole.splitlines()]
        self.lines.sort(key=lambda line: line["t"])
        return self.lines

    def of(self, kind: str, since: float = 0.0) -> list[dict[str, Any]]:
        return [line for line in self.look() if line["kind"] == kind and line["t"] > since]

    def memberships(self, since: float) -> list[list[int]]:
        """The slots that committed steps together, each such set once."""
        told = {tuple(line["slots"]) for line in self.of("committed", since)}
        return [list(slots) for slots in sorted(told)]

    def shared_by(
        self, slots: Iterable[int], since: float, steps: int = 3, timeout_s: float = 120
    ) -> None:
        """Returns once exactly these slots have committed some steps together."""
        wanted = sorted(slots)

        def done() -> bool:
            told = [line for line in self.of("committed", since) if line["slots"] == wanted]
            by_slot = Counter(line["slot"] for line in told)
            return all(by_slot[slot] >= steps for slot in wanted)

        self.until(done, f"{steps} steps shared by the slots {wanted}", timeout_s)

    def until(self, claim: Callable[[], Any], what: str, timeout_s: float = 90) -> Any:
        try:
            return until(claim, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def events(self, host: Machine) -> list[dict[str, Any]]:
        """What the host's agent and ranks said."""
        return [
            json.loads(line)
            for path in self.run_dir(host).glob("events.*.jsonl")
            for line in path.read_text().rpartition("\n")[0].splitlines()
        ]

    def notices(self, host: Machine, since: float = 0.0) -> list[str]:
        """What of it is for people, from a moment of the records on."""
        since += time.time() - time.monotonic()  # events are for people, so they tell the time
        said = [event for event in self.events(host) if event["kind"] == "notice"]
        return [event["message"] for event in said if event["t"] > since]

    def waits(self, host: Machine, since: float) -> None:
        """Returns once the host has said that it may not commit without the others."""
        said = "not enough to commit"
        self.until(
            lambda: any(said in notice for notice in self.notices(host, since)),
            f"{host.name} waits for the others",
        )

    def lost_lighthouse(self, since: float) -> bool:
        """Whether somebody had to ask another lighthouse than before."""
        hosts = self.coordinator.lab.hosts
        said = [notice for host in hosts for notice in self.notices(host, since)]
        return any("is passed over" in notice for notice in said)

    def gap(self, since: float, slots: Sequence[int]) -> tuple[float, float]:
        """The longest time between two commits of these slots from a fault on, and the usual
        one, in seconds."""
        before = self._times(slots, until_t=since)[-30:]
        after = [before[-1], *self._times(slots, since=since)]
        return _longest(after), statistics.median(_differences(before) + _differences(after))

    def _times(
        self, slots: Sequence[int], since: float = 0.0, until_t: float = float("inf")
    ) -> list[float]:
        """When each step was first committed by one of the slots."""
        first: dict[int, float] = {}
        for line in self.of("committed", since):
            if line["slot"] in slots and line["t"] <= until_t:
                first.setdefault(line["step"], line["t"])
        return sorted(first.values())

    def check(self) -> int:
        """Whether every sample of the run so far counts exactly once, by the record of each step
        with the highest (generation, attempt), and whether all who hold a step hold the same.
        Returns the last step."""
        computed: dict[tuple[int, tuple[int, ...], int], list[int]] = {}
        committed: dict[int, dict[tuple[int, ...], list[dict[str, Any]]]] = defaultdict(dict)
        for line in self.look():
            group = tuple(line["group"])
            if line["kind"] == "computed":
                computed[line["step"], group, line["slot"]] = line["samples"]
            elif line["kind"] == "committed":
                committed[line["step"]].setdefault(group, []).append(line)
        assert sorted(committed) == list(range(1, max(committed) + 1)), "a step is missing"
        rows: list[int] = []
        voids: Counter[tuple[int, ...]] = Counter()
        for step in sorted(committed):
            groups = committed[step]
            stands = max(groups, key=lambda group: (group[0], group[2]))
            for group in groups:
                voids[group] += group != stands
            lines = groups[stands]
            assert len({line["digest"] for line in lines}) == 1, f"step {step}: {lines}"
            for slot in lines[0]["slots"]:
                rows += computed[step, stands, slot]
        # A group that is cut in two may have had one step in flight, and never a second one.
        assert max(voids.values(), default=0) <= 1, f"two sides committed: {voids}"
        last = max(committed)
        for epoch in range(last * GLOBAL_BATCH // ROWS):
            some = rows[epoch * ROWS : (epoch + 1) * ROWS]
            assert Counter(some) == dict.fromkeys(range(ROWS), 1), f"epoch {epoch}"
        assert len(rows) == last * GLOBAL_BATCH
        return last

    def story(self) -> str:
        """What the ranks and the supervisor said last."""
        told = [json.dumps(line)[:200] for line in self.look()[-12:]]
        for host in self.coordinator.lab.hosts:
            told += [f"{host.name}: {notice}" for notice in self.notices(host)[-6:]]
        return "\n".join([*told, self.coordinator.supervisor_log(self.id)[-2000:]])


def _differences(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def _longest(times: Sequence[float]) -> float:
    return max(_differences(times), default=0.0)


def pause_at(job: ElasticJob) -> int:
    """Pauses the job; returns the step at which it rests, whose checkpoint is here."""
    job.coordinator.sollol("pause", job.id, timeout_s=100)
    paused, last = job.coordinator.job_reaches(JobState.PAUSED), job.check()
    assert paused.step == checkpoints.kept(job.coordinator.home, job.id) == last
    said = [event for host in job.coordinator.lab.hosts for event in job.events(host)]
    ends = [event for event in said if event["kind"] == "stopped" and event["step"] == last]
    assert any(end["together"] for end in ends), ends
    return last


def alone_to(job: ElasticJob, last: int, folder: Path) -> Path:
    """The checkpoint of one rank that takes the same steps undisturbed, on this machine."""
    run = json.loads((job.run_dir(job.coordinator.lab.hosts[0]) / "run.json").read_text())
    run |= {
        "engine": "static",
        "host": "here",
        "world": [{"slot": 0, "rank": 0, "host": "here", "address": "127.0.0.1", "gpu": None}],
        "lighthouses": [],
        "model": str(job.coordinator.folder / "model"),
        "dataset": str(job.coordinator.folder / "rows.jsonl"),
    }
    (folder / "run.json").write_text(json.dumps(run))
    worker_python("-c", ALONE, str(folder), str(last))
    return folder / "checkpoints" / f"checkpoint-{last}"


def furthest(one: Path, other: Path) -> float:
    """How far two adapters are apart: the largest difference of a tensor against its largest
    number."""
    return float(worker_python("-c", FURTHEST, str(one), str(other)))


def stop_and_look_at_all(job: ElasticJob, folder: Path, by: set[int]) -> None:
    """Stops a job of which these slots are left: it has learnt what one machine learns, and nothing
    of it is left."""
    coordinator, last = job.coordinator, pause_at(job)
    ends = [line for line in job.of("committed") if line["step"] == last]
    assert {line["slot"] for line in ends} == by
    kept = coordinator.home.job(job.id) / "checkpoints" / f"checkpoint-{last}"
    assert furthest(kept, alone_to(job, last, folder)) < 1e-4
    coordinator.assert_clean()
