"""Coroutines and asynchronous iterators for callers that block: a script, a thread, a notebook.

A notebook's own event loop is never used: where one runs already, the work gets a loop of its own
in another thread. Ctrl+C cancels the work and waits until it has let go.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also from inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(work)
    with _LoopThread() as thread:
        return thread.run(work)


def iterate(source: AsyncIterator[list[T]]) -> Iterator[T]:
    """What the asynchronous iterator yields in batches, one by one. Whoever stops early closes it:
    nothing goes on in the background."""
    with _LoopThread() as thread:
        while True:
            try:
                batch = thread.run(_next(source))
            except StopAsyncIteration:
                return
            yield from batch


def _run_here(work: Coroutine[Any, Any, T]) -> T:
    """Ctrl+C cancels the work, and is raised once that has let go. Until then another one does
    nothing: asyncio's own runner would raise it inside of the loop, which may then wait for ever
    for what was lost there."""
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or not default:
        return asyncio.run(work)
    task: asyncio.Task[T] | None = None
    interrupted = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupted
        if not interrupted and task is not None:
            runner.get_loop().call_soon_threadsafe(task.cancel)
        interrupted = True

    async def begin() -> T:
        nonlocal task
        task = asyncio.ensure_future(work)
        if interrupted:
            task.cancel()
        return await task

    signal.signal(signal.SIGINT, interrupt)
    try:
        with asyncio.Runner() as runner:
            return runner.run(begin())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


class _LoopThread:
    """An event loop in a thread, for the time of a `with`; what is left in it then is cancelled."""

    def __enter__(self) -> "_LoopThread":
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=_serve, args=(started,), daemon=True)
        self._thread.start()
        self._loop = started.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _serve(started: "Future[asyncio.AbstractEventLoop]") -> None:
    with asyncio.Runner() as runner:
        started.set_result(runner.get_loop())
        runner.get_loop().run_forever()
