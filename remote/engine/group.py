"""A gloo group of some ranks, and collectives that nobody waits for longer than they should take.

What was abandoned is never used again: gloo may still write into it.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

CONNECT_TIMEOUT_S = 5.0  # of ranks that have just asked the same lighthouse; 2-30 ms is usual
SLACK_S = 2.0
FIRST_BYTES_PER_S = 6e6  # before anything was measured: 50 Mbit/s
WEIGHTY_BYTES = 1 << 16  # below it is latency that is measured, not bandwidth
MOST_PATIENCE = 32.0
POLL_S = 0.0002


class GroupLostError(RuntimeError):
    """A collective did not come to its end, or the group could not be made. Says what gloo said;
    `gave_up` is whether it was we who did not wait any longer."""

    def __init__(self, message: str, *, gave_up: bool = False) -> None:
        super().__init__(message)
        self.gave_up = gave_up


def listening_socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(128)
    return listener


class OwnStore:
    """The store that this rank offers to groups in which it has the lowest slot."""

    def __init__(self, address: str) -> None:
        listener = listening_socket(address)
        self.port: int = listener.getsockname()[1]
        # Given a socket, torch listens on that address alone instead of on all.
        self._store = dist.TCPStore(
            address,
            self.port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=CONNECT_TIMEOUT_S),
            master_listen_fd=listener.detach(),
        )


class Pace:
    """How long a collective may take: twice what its bytes should take by the moving average, and
    some slack. Whoever gave up too early waits longer the next time, or nothing would ever be
    committed over a link that became slow."""

    def __init__(self) -> None:
        self._seconds_per_byte = 1 / FIRST_BYTES_PER_S
        self._measured = False
        self._patience = 1.0

    def limit_s(self, size: int) -> float:
        return self._patience * (2 * size * self._seconds_per_byte + SLACK_S)

    @property
    def meeting_s(self) -> float:
        """How long members may take until they are a group."""
        return self._patience * CONNECT_TIMEOUT_S

    def add(self, size: int, took_s: float) -> None:
        """A sum of `size` bytes came together in this time."""
        self._patience = 1.0
        if size >= WEIGHTY_BYTES:
            newest = took_s / size
            old = self._seconds_per_byte if self._measured else newest
            self._seconds_per_byte, self._measured = 0.7 * old + 0.3 * newest, True

    def gave_up(self) -> None:
        self._patience = min(2 * self._patience, MOST_PATIENCE)


class Group:
    """Ranks 0..size-1 that met under `key` in the store of rank 0, within `limit_s`."""

    def __init__(
        self,
        key: str,
        store_address: str,
        store_port: int,
        own_address: str,
        rank: int,
        size: int,
        limit_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.key = key
        self.rank = rank
        self.size = size
        self._works: list[Any] = []
        self._buffers: Any = None  # what gloo may still write into
        self._where = (store_address, store_port, own_address)
        self._limit_s = limit_s
        # Kept beside gloo's group, which meets in it.
        self._store, self._gloo = _in_time(limit_s, self._meet)

    def _meet(self) -> tuple[Any, Any]:
        address, port, own_address = self._where
        timeout = _gloos_own(self._limit_s)
        store = dist.TCPStore(
            address, port, is_master=False, wait_for_workers=False, timeout=timeout
        )
        options = dist.ProcessGroupGloo._Options()
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=own_address)]
        options._timeout = timeout
        prefixed = dist.PrefixStore(self.key, store)
        return store, dist.ProcessGroupGloo(prefixed, self.rank, self.size, options)

    def within(self, name: str, ranks: Sequence[int]) -> "Group":
        """A group of some of us, which all of them make at the same time."""
        return Group(
            f"{self.key}/{name}",
            *self._where,
            rank=ranks.index(self.rank),
            size=len(ranks),
            limit_s=self._limit_s,
        )

    def sum(self, *buffers: torch.Tensor, limit_s: float) -> None:
        """Sums all of them at the same time."""
        options = dist.AllreduceOptions()
        options.timeout = _gloos_own(limit_s)
        self._finish(
            lambda: [self._gloo.allreduce([buffer], options) for buffer in buffers],
            buffers,
            limit_s,
        )

    def copy(self, buffer: torch.Tensor, limit_s: float) -> None:
        """Overwrites `buffer` by rank 0's."""
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        options.timeout = _gloos_own(limit_s)
        self._finish(lambda: [self._gloo.broadcast([buffer], options)], buffer, limit_s)

    def collect(self, own: torch.Tensor, limit_s: float) -> torch.Tensor:
        """Everybody's row, by rank: the sum of matrices that each hold one."""
        rows = torch.zeros((self.size, *own.shape), dtype=own.dtype)
        rows[self.rank] = own
        self.sum(rows, limit_s=limit_s)
        return rows

    def is_over(self) -> bool:
        """Whether gloo is done with what was begun, so that letting go of it does not block."""
        return all(work.is_completed() for work in self._works)

    def _finish(self, begin: Callable[[], list[Any]], buffers: Any, limit_s: float) -> None:
        """Polls: `wait` would sit out gloo's own timeout when a peer falls silent."""
        try:
            self._buffers, self._works = buffers, begin()
            began = time.monotonic()
            while not self.is_over():
                waited = time.monotonic() - began
                if waited > limit_s:
                    raise GroupLostError(f"no end after {limit_s:.1f} s", gave_up=True)
                time.sleep(min(POLL_S + waited / 50, 100 * POLL_S))
            for work in self._works:
                work.wait()
        except GroupLostError:
            raise
        except RuntimeError as error:
            raise GroupLostError(_first_line(error)) from error
        self._works, self._buffers = [], None


class Abandoned:
    """Groups given up in the middle of a collective. Kept, with their buffers, until gloo is done
    with them: it writes into the buffers, and its destructor would wait."""

    def __init__(self) -> None:
        self._groups: list[Group] = []

    def take(self, group: Group) -> None:
        self._groups = [kept for kept in self._groups if not kept.is_over()]
        self._groups.append(group)


def _in_time(limit_s: float, meet: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """What `meet` returns. A thread of its own waits for members that went silent meanwhile, which
    gloo does far beyond the limit that it was given, and lets go of what comes of it."""
    met: Future[tuple[Any, Any]] = Future()

    def try_to_meet() -> None:
        try:
            met.set_result(meet())
        except Exception as error:
            met.set_exception(error)

    threading.Thread(target=try_to_meet, name="meet", daemon=True).start()
    try:
        return met.result(limit_s)
    except TimeoutError:
        raise GroupLostError(f"no meeting within {limit_s:.1f} s", gave_up=True) from None
    except RuntimeError as error:
        raise GroupLostError(_first_line(error)) from error


def _gloos_own(limit_s: float) -> timedelta:
    """Longer than we wait: that we gave up has to be known as that, so that we wait longer next."""
    return timedelta(seconds=limit_s + SLACK_S)


def _first_line(error: RuntimeError) -> str:
    with suppress(IndexError):
        return str(error).strip().splitlines()[0]
    return type(error).__name__
