"""The plan: which hosts take part, with which ranks. Decided before anything starts."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sollol_tui.model.prediction import Prediction
from sollol_tui.model.teacher import PlannedTeacher
from sollol_tui.model.weights import Memory

BYTES_PER_TOKEN: Final = 3.6  # about, of English text, before a tokenizer has seen it
MOST_LIGHTHOUSES: Final = 5  # so that hosts may come and go before new ones have to be lit


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """What checking the dataset found. `path` is a file, a folder with `files` below it, or the
    dataset's place on the hub (`hub:...`, not hashed). `mean_chars` is per row. No rows: only a
    worker can read it."""

    path: str
    format: str
    rows: int
    sha256: str
    size_bytes: int
    mean_chars: float
    files: tuple[str, ...] = ()

    @property
    def is_on_hub(self) -> bool:
        return self.path.startswith("hub:")

    @property
    def sentence(self) -> str:
        """What is known of it before a worker has read it."""
        if not self.rows:
            return f"{self.path}: read and checked on a worker"
        several = f" in {len(self.files)} files" if self.files else ""
        return (
            f"{self.path}: {self.rows:,} rows{several} ({self.format}), "
            f"~{self.mean_chars / BYTES_PER_TOKEN:.0f} tokens each "
            f"(~{BYTES_PER_TOKEN} bytes per token)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRank:
    slot: int
    gpu: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWorker:
    """A host of the job. `address` is where the other workers reach it; `share` of 1."""

    host: str
    address: str
    accelerator: str
    ranks: tuple[PlannedRank, ...]
    share: float
    cpu_cores: int | None = None
    ram_gb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLighthouse:
    """Where the ranks of an elastic job learn who is there, kept by the agent of `host`."""

    host: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`left_out` maps hosts that could have taken part to the reason why they do not; `notices` are
    automatic choices with their reasons; `lit` are the lighthouses with which a generation was
    launched, which stay while workers come and go; `apart` says that each worker has a student of
    its own; `prediction` and `memory` are None where too
    little is known."""

    workers: tuple[PlannedWorker, ...]
    engine: str
    global_batch: int
    max_steps: int
    rows: int
    dataset: DatasetFacts
    ports: tuple[int, int]
    left_out: dict[str, str]
    notices: tuple[str, ...] = ()
    lit: tuple[PlannedLighthouse, ...] = ()
    prediction: Prediction | None = None
    memory: Memory | None = None
    teacher: PlannedTeacher | None = None
    apart: bool = False

    @property
    def world_size(self) -> int:
        return sum(len(worker.ranks) for worker in self.workers)

    @property
    def first_slot(self) -> int:
        """The slot of rank 0, which speaks for the job."""
        return self.workers[0].ranks[0].slot

    @property
    def is_elastic(self) -> bool:
        """Whether the others go on when a worker is lost."""
        return self.engine == "elastic"

    def meeting_port(self, host: str, main_port: int) -> int:
        """Where the ranks of a host meet the others of their world. Who learns apart is alone in
        its own: on the next port where workers share an address."""
        if not self.apart:
            return main_port
        number = [worker.host for worker in self.workers].index(host)
        addresses = [worker.address for worker in self.workers]
        return main_port + addresses[:number].count(addresses[number])

    def lighthouses(self, port: int) -> tuple[PlannedLighthouse, ...]:
        """The lighthouses of an elastic job, on the hosts with the lowest slots, in the order in
        which ranks ask them. All listen on `port`, or on the next ones where hosts share an
        address."""
        if self.lit or not self.is_elastic:
            return self.lit
        order = sorted(self.workers, key=lambda worker: min(rank.slot for rank in worker.ranks))
        addresses = [worker.address for worker in order[:MOST_LIGHTHOUSES]]
        return tuple(
            PlannedLighthouse(
                host=worker.host,
                address=worker.address,
                port=port + addresses[:number].count(worker.address),
            )
            for number, worker in enumerate(order[:MOST_LIGHTHOUSES])
        )

    def without(self, host: str, reason: str) -> "Plan":
        """The plan when a host does not take part after all; who is left keeps its slots."""
        return replace(
            self,
            workers=tuple(worker for worker in self.workers if worker.host != host),
            left_out=self.left_out | {host: reason},
            prediction=self.prediction and self.prediction.without(host),
        )

    def worker(self, host: str) -> PlannedWorker:
        return next(worker for worker in self.workers if worker.host == host)

    def as_data(self) -> dict[str, Any]:
        """The object behind `sollol train --dry-run --json`."""
        predicted = self.prediction.as_data() if self.prediction else None
        return {"schema": "sollol.plan/1", **asdict(self), "prediction": predicted}

    def lines(self, model: str, lora_r: int, epochs: int) -> list[str]:
        """The plan as a person reads it. What was not measured carries `~` and its source."""
        data = self.dataset
        workers = "  ".join(
            f"{worker.host} ~{worker.share:.0%} ({_ranks(worker)})" for worker in self.workers
        )
        steps = f"{self.max_steps:,} steps of" if self.max_steps else "steps of"
        steps = "1 step of" if self.max_steps == 1 else steps
        steps = f"{steps} {self.global_batch} samples"
        lines = [
            f"{model} + LoRA r={lora_r} on {data.sentence}",
            f"{workers}   world size {self.world_size}, {self.engine} engine",
            f"{epochs} epoch{'s' if epochs != 1 else ''}, {steps}",
        ]
        if self.prediction is not None:
            lines += self.prediction.lines()
        lines += [f"without {host}: {reason}" for host, reason in self.left_out.items()]
        return [*lines, *self.notices]


def _ranks(worker: PlannedWorker) -> str:
    gpus = [rank.gpu for rank in worker.ranks if rank.gpu is not None]
    if gpus:
        return f"{len(gpus)} GPU{'s' if len(gpus) != 1 else ''}"
    if worker.cpu_cores is None:
        return "CPU"
    return f"CPU, {worker.cpu_cores} core{'s' if worker.cpu_cores != 1 else ''}"
