"""What screens, `sollol status` and the Python client see: a frozen picture of the cluster."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sollol_tui.model.states import JobState


class Keyed:
    """What also answers `view["field"]`, as a dict would. A wrong key is a KeyError."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str) or key.startswith("_") or not hasattr(self, key):
            raise KeyError(key)
        return getattr(self, key)


class HostState(StrEnum):
    UP = "up"
    DOWN = "down"
    REFUSED = "refused"  # it answers, but its host key or our key is not accepted
    DISABLED = "disabled"
    UNKNOWN = "unknown"  # nobody has asked it yet


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading(Keyed):
    index: int
    name: str
    util_percent: float | None = None
    vram_used_bytes: int | None = None
    vram_total_bytes: int | None = None
    temp_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Keyed):
    """How busy a host is. None is what it did not tell."""

    cpu_percent: float | None
    cpu_cores: int | None
    ram_used_bytes: int | None
    ram_total_bytes: int | None
    disk_free_bytes: int | None
    gpus: tuple[GpuReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView(Keyed):
    """One row of the hosts table. `at` is when the figures were read, on the coordinator's clock;
    `since` when it got its state. `errand` is what is done there besides training, as a teacher or
    for an adapter, in words."""

    name: str
    state: HostState
    reason: str = ""
    since: float | None = None
    at: float | None = None
    gpus: tuple[GpuReading, ...] = ()
    cpu_percent: float | None = None
    cpu_cores: int | None = None
    ram_used_bytes: int | None = None
    ram_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    job: str | None = None
    share: float | None = None
    errand: str | None = None
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWorkerView(Keyed):
    """One worker of a job. `unseen_since` is set while the coordinator cannot see it."""

    host: str
    state: str
    reason: str = ""
    slots: tuple[int, ...] = ()
    share: float | None = None
    unseen_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherView(Keyed):
    """One host on which a job's teacher computes. `done` of `total` are tokens that it has scored,
    or questions that it has answered; `hits` of them were found in a cache."""

    host: str
    state: str
    reason: str = ""
    done: int = 0
    total: int = 0
    hits: int = 0
    tokens_per_s: float | None = None
    eta_s: float | None = None

    @property
    def duty(self) -> str:
        """ "teaches, 52% scored"; "has taught" where the job keeps a host that is done with it."""
        if self.state == "done":
            return "has taught"
        share = f", {int(100 * self.done / self.total)}% scored" if self.total else ""
        return f"teaches{share}"

    @property
    def progress(self) -> str:
        """ "1,200 of 2,294 scored, 300 of them found in a cache"."""
        if not self.total:
            return ""
        found = f", {self.hits:,} of them found in a cache" if self.hits else ""
        return f"{self.done:,} of {self.total:,} scored{found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView(Keyed):
    """One row of the jobs table and the head of a job's page. Times are seconds since the epoch on
    the coordinator's clock."""

    id: str
    name: str
    state: JobState
    reason: str = ""
    step: int = 0
    max_steps: int = 0
    samples_done: int = 0
    samples_total: int = 0
    loss: float | None = None
    first_loss: float | None = None
    samples_per_s: float | None = None
    eta_s: float | None = None
    world_size: int | None = None
    workers: tuple[JobWorkerView, ...] = ()
    teachers: tuple[TeacherView, ...] = ()
    model: str = ""
    dataset: str = ""
    output_dir: str = ""
    traceback: str = ""
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    updated_at: float | None = None
    stage: str = ""
    queue_place: int | None = None  # of a queued job, from 1

    @property
    def progress(self) -> float:
        """0 to 1."""
        return min(1.0, self.samples_done / self.samples_total) if self.samples_total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationView(Keyed):
    """What the held-out rows said after a step; `loss` is per token."""

    step: int
    loss: float
    perplexity: float | None
    rows: int | None

    @property
    def sentence(self) -> str:
        perplexity = "" if self.perplexity is None else f" (perplexity {self.perplexity:.2f})"
        rows = "" if self.rows is None else f" on {self.rows:,} rows"
        return f"held-out loss {self.loss:.3f}{perplexity}{rows} after step {self.step:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorView(Keyed):
    cpu_percent: float
    ram_percent: float
    takes_part: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Keyed):
    """Hosts in the inventory's order, jobs newest first. `inventory_problem` says why the hosts are
    those of an older inventory file, and is empty when they are not."""

    at: float
    inventory: str
    coordinator: CoordinatorView
    hosts: tuple[HostView, ...]
    jobs: tuple[JobView, ...]
    inventory_problem: str = ""

    def as_data(self) -> dict[str, Any]:
        """The object behind `sollol status --json`."""
        return {"schema": "sollol.status/1", **asdict(self)}
