"""One fixed world: the ranks that `accelerate launch` started, adding over gloo or NCCL.

A lost member ends the launch; whoever started it starts the next generation from a checkpoint.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from remote.engine import Members, State, Tally, WorldError
from remote.engine.shares import Shares
from remote.engine.words import row_of, word_of
from remote.run import Rank, Run

# A collective may wait for the slowest rank's step, so it waits this many times the start.
WAIT_STARTS = 5
BEAT_TIMEOUT_S = 5.0
LOOK_S = 0.1


class StaticEngine:
    heals = False

    def __init__(self, run: Run, own: Rank) -> None:
        """Compares the world that the launcher made with the plan's: two launches that did not find
        each other look like two healthy runs of one rank. Waits for nobody yet."""
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if launched != len(run.world):
            raise WorldError(
                f"accelerate launch made a world of {launched} where the plan has {len(run.world)} "
                "ranks: the ranks would train apart; check num_machines in accelerate."
                f"{own.slot}.yaml and that a CPU rank has ACCELERATE_USE_CPU=true"
            )
        if int(os.environ.get("RANK", "0")) != own.rank:
            raise WorldError(
                f"accelerate launch numbered slot {own.slot} as rank {os.environ['RANK']} where "
                f"the plan says {own.rank}; check machine_rank in accelerate.{own.slot}.yaml"
            )
        self._run = run
        ordered = tuple(sorted(run.world, key=lambda rank: rank.rank))
        self._ranks = ordered
        self._own = own
        self._shares = Shares(run.train.global_batch, [0.0] * len(ordered))
        self._gradients: Any = None
        self._beats: dist.Store | None = None  # a connection of the thread that beats
        self._beat = 0

    def say_alive(self) -> None:
        try:
            if self._beats is None:
                self._beats = dist.PrefixStore(self._key("alive"), self._store(BEAT_TIMEOUT_S))
            self._beat += 1
            self._beats.set(str(self._own.slot), str(self._beat))
        except (WorldError, dist.DistError):
            self._beats = None  # not there yet, or gone: `join` names who is missing

    def join(self) -> None:
        """Waits for all ranks as long as they beat; names those who were silent for
        start_timeout_s."""
        wait_s = self._run.start_timeout_s
        own = self._own
        store = self._store(wait_s)
        arrivals = dist.PrefixStore(self._key("arrived"), store)
        arrivals.set(str(own.slot), "")
        beats = dist.PrefixStore(self._key("alive"), store)
        silent = [
            f"{rank.host} (slot {rank.slot}, {rank.address})"
            for rank in self._ranks
            if not arrives(str(rank.slot), arrivals, beats, wait_s)
        ]
        if silent:
            raise WorldError(
                f"{len(silent)} of {len(self._ranks)} ranks were silent for {wait_s:g} s "
                f"before they were ready: {', '.join(silent)}; see their logs, or raise "
                "start_timeout"
            )
        dist.init_process_group(
            "gloo",
            store=dist.PrefixStore(self._key("world"), store),
            rank=own.rank,
            world_size=len(self._ranks),
            timeout=timedelta(seconds=WAIT_STARTS * wait_s),
        )
        if all(rank.gpu is not None for rank in self._ranks):
            self._gradients = dist.new_group(backend="nccl")

    def leave(self) -> None:
        """Nothing: this world goes on with all of its ranks, or ends."""

    def settle(self, state: State) -> Members:
        self._shares.begin_step()
        return self.members()

    def members(self) -> Members:
        return Members(ranks=self._ranks, own=self._own, weights=self._shares.weights)

    def reduce(self, flat: torch.Tensor, tally: Tally) -> Tally:
        tally = self._shares.with_speed(tally, self.members().place)
        with self._naming_the_others():
            if self._gradients is not None or flat.device.type == "cpu":
                dist.all_reduce(flat, group=self._gradients)
            else:
                on_host = flat.cpu()
                dist.all_reduce(on_host)
                flat.copy_(on_host)
            vector = tally.vector()
            dist.all_reduce(vector)
        total = Tally.of_vector(vector)
        self._shares.deal_by(total.speeds)
        return total

    def exchange(self, word: str) -> dict[int, str]:
        own = row_of(word)
        words = [torch.empty_like(own) for _ in self._ranks]
        with self._naming_the_others():
            dist.all_gather(words, own)
        return {rank.slot: word_of(row) for rank, row in zip(self._ranks, words, strict=True)}

    def copy_from_first(self, flat: torch.Tensor) -> None:
        with self._naming_the_others():
            dist.broadcast(flat, src=0)

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def _key(self, topic: str) -> str:
        return f"{topic}/{self._run.meeting}"

    def _store(self, wait_s: float) -> dist.Store:
        """The store that the launcher's first agent holds; without a launcher, that of rank 0."""
        if "RANK" not in os.environ:
            return dist.HashStore()
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        with_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        try:
            return dist.TCPStore(
                address,
                port,
                is_master=self._own.rank == 0 and not with_agent,
                timeout=timedelta(seconds=wait_s),
                wait_for_workers=False,  # whom we wait for is counted, and named, in join
                multi_tenant=True,  # the beats' connection and join's are one store in this process
            )
        except dist.DistError as error:
            first = self._ranks[0]
            raise WorldError(
                f"{first.host} (slot {first.slot}) did not answer on {address}:{port} within "
                f"{wait_s:g} s; see its log, and whether its firewall admits this host"
            ) from error

    @contextmanager
    def _naming_the_others(self) -> Iterator[None]:
        """Turns what a collective raises into a sentence that says who was waited for."""
        try:
            yield
        except RuntimeError as error:
            others = ", ".join(
                f"{rank.host} (slot {rank.slot})" for rank in self._ranks if rank != self._own
            )
            first = str(error).strip().splitlines()[0]
            raise WorldError(
                f"the sum with {others} broke off, so one of them has ended or cannot be reached; "
                f"their logs say why ({first})"
            ) from error


def arrives(slot: str, arrivals: dist.Store, beats: dist.Store, wait_s: float) -> bool:
    """Waits for one rank as long as its beats go on; False after `wait_s` without any."""
    last, heard_at = b"", time.monotonic()
    # Asked again and again: a `wait` that runs out prints a warning into the log of the job.
    while not arrivals.check([slot]):
        beat = beats.get(slot) if beats.check([slot]) else b""
        if beat != last:
            last, heard_at = beat, time.monotonic()
        elif time.monotonic() - heard_at >= wait_s:
            return False
        time.sleep(LOOK_S)
    return True
