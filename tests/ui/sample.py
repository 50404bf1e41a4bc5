"""A cluster in the middle of its day, and a client object that shows it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.steps import Step, StepState
from sollol_tui.model.diagnosis import Check, Diagnosis, Examination
from sollol_tui.model.evidence import Evidence
from sollol_tui.model.happenings import Happening
from sollol_tui.model.inventory import Host, Inventory
from sollol_tui.model.metrics import StepPoint
from sollol_tui.model.ranking import Ranked
from sollol_tui.model.snapshot import (
    CoordinatorView,
    EvaluationView,
    GpuReading,
    HostState,
    HostView,
    JobView,
    JobWorkerView,
    Snapshot,
)
from sollol_tui.model.states import JobState

NOW = 1_800_000_000.0
GIB = 1024**3


def gpu(
    name: str, *, util: float, used: float, total: float, temp: float, index: int = 0
) -> GpuReading:
    return GpuReading(
        index=index, name=name, util_percent=util, vram_used_bytes=int(used * GIB),
        vram_total_bytes=int(total * GIB), temp_c=temp,
    )  # fmt: skip


def host(name: str, *, ram: float = 12, total: float = 32, **more: Any) -> HostView:
    values: dict[str, Any] = {
        "state": HostState.UP, "at": NOW - 2, "cpu_percent": 22.0, "cpu_cores": 8,
        "ram_used_bytes": int(ram * GIB), "ram_total_bytes": int(total * GIB),
    }  # fmt: skip
    return HostView(name=name, **{**values, **more})


RUNNING = JobView(
    id="j-7f3a", name="tools-621k", state=JobState.RUNNING, step=2187, max_steps=4852,
    samples_done=280_000, samples_total=621_000, loss=1.214, first_loss=2.31, samples_per_s=14.9,
    eta_s=22_860, world_size=4, created_at=NOW - 19_000, started_at=NOW - 18_800,
    workers=(JobWorkerView(host="hydra", state="training"),
             JobWorkerView(host="desktop", state="training"),
             JobWorkerView(host="attic", state="training")),
)  # fmt: skip
QUEUED = JobView(
    id="j-81c0", name="magicoder-r16", state=JobState.QUEUED, reason="#1: waits for 2 GPU hosts",
    created_at=NOW - 600,
)  # fmt: skip
FAILED = JobView(
    id="j-3b02", name="code-alpaca", state=JobState.FAILED, created_at=NOW - 9000,
    reason="attic/2 died at import: ModuleNotFoundError: No module named 'peft'",
    started_at=NOW - 8000, ended_at=NOW - 7900,
    traceback='Traceback (most recent call last):\n  File "remote/train.py", line 12, in <module>\n'
    "    import peft\nModuleNotFoundError: No module named 'peft'",
)  # fmt: skip
DONE = JobView(
    id="j-1c55", name="code-alpaca-tiny", state=JobState.DONE, samples_done=2000,
    samples_total=2000, loss=0.871, created_at=NOW - 90_000, started_at=NOW - 89_000,
    ended_at=NOW - 86_000, workers=(JobWorkerView(host="hydra", state="gone"),),
    output_dir="work/distributed_training/code-alpaca-tiny-j-1c55",
)  # fmt: skip
HOSTS = (
    host("hydra", ram=28, total=64, cpu_percent=31.0, job="j-7f3a", share=0.62, gpus=(
        gpu("NVIDIA GeForce RTX 3090", util=98, used=21.4, total=24, temp=71),
        gpu("NVIDIA GeForce RTX 3090", util=96, used=20.9, total=24, temp=68, index=1),
    )),
    host("desktop", cpu_percent=12.0, job="j-7f3a", share=0.23, gpus=(
        gpu("NVIDIA GeForce RTX 3060", util=99, used=10.2, total=12, temp=66),)),
    host("attic", job="j-7f3a", share=0.15, gpus=(
        gpu("NVIDIA GeForce RTX 2080 Ti", util=95, used=9.8, total=11, temp=74),)),
    host("old-xeon", ram=3.2, total=128, cpu_percent=1.0),
    host("pi01", state=HostState.DOWN, reason="no route to host", since=NOW - 250),
)  # fmt: skip


def snapshot(
    *, jobs: Iterable[JobView] = (QUEUED, RUNNING, FAILED, DONE),
    hosts: Iterable[HostView] = HOSTS, at: float = NOW,
) -> Snapshot:  # fmt: skip
    return Snapshot(
        at=at, inventory="lab/inventory.yaml", hosts=tuple(hosts), jobs=tuple(jobs),
        coordinator=CoordinatorView(cpu_percent=5, ram_percent=20),
    )  # fmt: skip


def happening(sentence: str, *, job: str = "j-7f3a", number: int = 0, **more: Any) -> Happening:
    values = {"kind": "notice", "host": "hydra", "slot": None, "data": {}, **more}
    at = NOW - 1000 + number
    return Happening(key=f"{job}.{number}", job=job, seen_at=at, at=at, sentence=sentence, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    host: str
    slot: int | None
    text: str
    at: float | None = None


@dataclass
class Reader:
    lines: list[Line]
    read_so_far: int = 0

    def read(self, max_lines: int = 2000) -> list[Line]:
        batch = self.lines[self.read_so_far : self.read_so_far + max_lines]
        self.read_so_far += len(batch)
        return batch


@dataclass
class PointReader:
    points: dict[str, list[StepPoint]]
    job: str
    read_so_far: int = 0

    def read(self) -> list[StepPoint]:
        found = self.points.get(self.job, [])[self.read_so_far :]
        self.read_so_far += len(found)
        return found


@dataclass
class SampleClient:
    """What the application asks of a client, answered from memory."""

    shown: Snapshot = field(default_factory=snapshot)
    logs: dict[str, list[Line]] = field(default_factory=dict)
    version: int = 1
    cancelled: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    happened: list[Happening] = field(default_factory=list)
    points: dict[str, list[StepPoint]] = field(default_factory=dict)
    held_out: tuple[EvaluationView, ...] = ()
    proven: Evidence = field(default_factory=Evidence)
    ranked: tuple[Ranked, ...] = ()
    checks: list[Check] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    probes: int = 0
    failure: Exception | None = None

    def state_version(self) -> int:
        if self.failure is not None:
            raise self.failure
        return self.version

    def snapshot(self) -> Snapshot:
        return self.shown

    async def probe_hosts(self) -> None:
        self.probes += 1

    def cancel_job(self, job_id: str, *, now: bool = False) -> None:
        (self.killed if now else self.cancelled).append(job_id)

    def pause_job(self, job_id: str) -> None:
        self.paused.append(job_id)

    def resume_job(self, job_id: str, *, workers: str | None = None) -> None:
        self.resumed.append(job_id)

    def join_job(self, job_id: str, host: str | None = None) -> None:
        self.asked.append(("join", job_id, host))

    def leave_job(self, job_id: str, host: str | None = None) -> None:
        self.asked.append(("leave", job_id, host))

    def inventory(self) -> Inventory:
        hosts = tuple(Host(name=host.name) for host in self.shown.hosts)
        return Inventory(file="lab/inventory.yaml", hosts=hosts)

    async def examine_hosts(
        self, hosts: Sequence[Host], report: Callable[[str, Check], None]
    ) -> Examination:
        for check in self.checks:
            report(hosts[0].name, check)
            await self.may_go_on.wait()
        diagnosis = Diagnosis(host=hosts[0].name, checks=tuple(self.checks))
        return Examination(diagnoses=(diagnosis,))

    async def provision_host(self, host: Host, report: Callable[[Step], None]) -> Environment:
        report(Step(name="workdir", state=StepState.UNCHANGED, detail="~/.sollol"))
        report(Step(name="environment", state=StepState.WORKING, detail="building"))
        await self.may_go_on.wait()
        if self.failure is not None:
            raise self.failure
        return Environment(
            python="", payload="", env_id="", payload_hash="", changed=True, fingerprint={}
        )

    def timeline(self, job_id: str | None = None) -> list[Happening]:
        return [each for each in self.happened if job_id in (None, each.job)]

    def open_metrics(self, job_id: str) -> PointReader:
        return PointReader(self.points, job_id)

    def evaluations(self, job_id: str) -> tuple[EvaluationView, ...]:
        return self.held_out

    def evidence(self, job_id: str) -> Evidence:
        return self.proven

    def ranking(self, job_id: str) -> tuple[Ranked, ...]:
        return self.ranked

    def open_logs(self, job_id: str, *, tail_bytes: int | None = None) -> Reader:
        return Reader(self.logs.setdefault(job_id, []))

    def show(self, shown: Snapshot) -> None:
        """The state of the cluster changes."""
        self.shown = shown
        self.version += 1

    def change_job(self, job_id: str, **changes: Any) -> None:
        jobs = (replace(j, **changes) if j.id == job_id else j for j in self.shown.jobs)
        self.show(replace(self.shown, jobs=tuple(jobs)))

    def say(
        self, job_id: str, *texts: str, host: str = "hydra", slot: int | None = 0,
        at: float | None = None,
    ) -> None:  # fmt: skip
        """A rank writes lines."""
        lines = self.logs.setdefault(job_id, [])
        lines.extend(Line(host=host, slot=slot, text=text, at=at) for text in texts)
