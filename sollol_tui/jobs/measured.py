"""What earlier jobs and the doctor measured of hosts and of the network between them, kept in the
state for later plans. Predicts nothing.
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sollol_tui.jobs.store import Store
from sollol_tui.model.events import Event, finite, whole
from sollol_tui.model.inventory import Inventory
from sollol_tui.model.links import Link
from sollol_tui.model.plan import Plan
from sollol_tui.model.prediction import MeasuredSum

_CPU: Final = -1  # in the place of a GPU's index
_ALL_CORES: Final = 0
_LIKE: Final = 0.1  # models whose sizes differ by less than this part are of one size
_POSSIBLE: Final = (1e-3, 1e9)  # tokens/s; beyond it a worker says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that ranks compute on: a GPU, or the CPU with the cores that they may use."""

    host: str
    gpu: int | None
    cpu_cores: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpeed:
    """Of one rank, with a base model of `parameters` numbers."""

    model: str
    parameters: int
    tokens_per_s: float
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`links` by (origin, target): payload bytes per second and seconds of latency. `sums` of hosts
    that have worked together, newest first."""

    speeds: Mapping[Device, tuple[RankSpeed, ...]] = field(default_factory=dict)
    links: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    sums: tuple[MeasuredSum, ...] = ()

    def speed(self, device: Device, model: str, parameters: int | None) -> RankSpeed | None:
        """The newest with that model on the device, else with one of its size."""
        known = self.speeds.get(device, ())
        same = [speed for speed in known if speed.model == model]
        like = [
            speed
            for speed in known
            if parameters and abs(speed.parameters / parameters - 1) < _LIKE
        ]
        return next(iter([*same, *like]), None)

    def sum_of(self, hosts: Collection[str], ranks: int) -> MeasuredSum | None:
        """The newest of exactly these hosts, with as many ranks."""
        crew = set(hosts)
        fits = (each for each in self.sums if {*each.hosts} == crew and each.ranks == ranks)
        return next(fits, None)


def read_measured(store: Store, inventory: Inventory) -> Measured:
    """All that is known of the hosts of an inventory."""
    speeds: dict[Device, tuple[RankSpeed, ...]] = {}
    rows = store.connection.execute(
        "SELECT * FROM speeds WHERE inventory = ? ORDER BY at DESC", (inventory.file,)
    )
    for row in rows:
        device = Device(
            host=row["host"],
            gpu=None if row["gpu"] == _CPU else row["gpu"],
            cpu_cores=row["cpu_cores"] or None,
        )
        speed = RankSpeed(
            model=row["model"],
            parameters=row["parameters"],
            tokens_per_s=row["tokens_per_s"],
            job=row["job"],
        )
        speeds[device] = (*speeds.get(device, ()), speed)
    rows = store.connection.execute("SELECT * FROM links WHERE inventory = ?", (inventory.file,))
    links = {(row["origin"], row["target"]): (row["bytes_per_s"], row["latency_s"]) for row in rows}
    rows = store.connection.execute(
        "SELECT * FROM sums WHERE inventory = ? ORDER BY at DESC", (inventory.file,)
    )
    sums = tuple(
        MeasuredSum(
            hosts=tuple(json.loads(row["hosts"])),
            ranks=row["ranks"],
            sum_bytes=row["sum_bytes"],
            adding_s=row["adding_s"],
            rest_s=row["rest_s"],
            source=f"measured in {row['job']}",
        )
        for row in rows
    )
    return Measured(speeds=speeds, links=links, sums=sums)


def note_links(store: Store, inventory: Inventory, links: Iterable[Link]) -> None:
    """Keeps what the doctor measured."""
    now = time.time()
    with store.transaction():
        store.connection.executemany(
            "INSERT INTO links VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " bytes_per_s = excluded.bytes_per_s, latency_s = excluded.latency_s, at = excluded.at",
            [
                (
                    *(inventory.file, link.origin, link.target),
                    *(link.bytes_per_s, link.latency_s or 0.0, now),
                )
                for link in links
                if link.bytes_per_s
            ],
        )


def note_speeds(
    store: Store, inventory: str, job: str, plan: Plan, ready: Mapping[int, Event], speed: Event
) -> None:
    """Keeps the speeds of a job's ranks from a `speed` event, in tokens/s: `ready`, what ranks said
    before their first step, tells how many tokens a sample has."""
    told = speed.data.get("ranks")
    placed = {
        rank.slot: Device(host=worker.host, gpu=rank.gpu, cpu_cores=worker.cpu_cores)
        for worker in plan.workers
        for rank in worker.ranks
    }
    rows = []
    for entry in told if isinstance(told, list) else []:
        slot = whole(entry.get("slot")) if isinstance(entry, dict) else None
        rate = finite(entry.get("samples_per_s")) if isinstance(entry, dict) else None
        if slot is None or rate is None or slot not in placed or slot not in ready:
            continue
        rank = ready[slot]
        tokens, samples = rank.count("tokens"), rank.count("rows")
        parameters = rank.count("parameters")
        if not (tokens and samples and parameters):
            continue  # an older payload does not tell them
        tokens_per_s = rate * tokens / samples
        if _POSSIBLE[0] < tokens_per_s < _POSSIBLE[1]:
            rows.append((placed[slot], parameters, tokens_per_s))
    now, model = time.time(), store.job(job).model
    with store.transaction():
        store.connection.executemany(
            "INSERT INTO speeds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " parameters = excluded.parameters, tokens_per_s = excluded.tokens_per_s,"
            " job = excluded.job, at = excluded.at",
            [
                (
                    *(inventory, device.host, _CPU if device.gpu is None else device.gpu),
                    *(device.cpu_cores or _ALL_CORES, model, parameters, tokens_per_s, job, now),
                )
                for device, parameters, tokens_per_s in rows
            ],
        )


def note_sum(store: Store, inventory: str, job: str, plan: Plan, speed: Event) -> None:
    """Keeps from a `speed` event how long the sums of a job's hosts took."""
    made = MeasuredSum.told_by(speed.data, job)
    if made is None or not {*made.hosts} <= {worker.host for worker in plan.workers}:
        return
    crew, ring = json.dumps(sorted(made.hosts)), json.dumps(made.hosts)
    with store.transaction():
        store.connection.execute(
            "INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " hosts = excluded.hosts, sum_bytes = excluded.sum_bytes, job = excluded.job,"
            " adding_s = excluded.adding_s, rest_s = excluded.rest_s, at = excluded.at",
            (
                *(inventory, crew, ring, made.ranks, made.sum_bytes),
                *(made.adding_s, made.rest_s, job, time.time()),
            ),
        )
