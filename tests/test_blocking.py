"""Work that blocks its caller: Ctrl+C cancels it once, waits until it has let go, and then is
raised, however often it is pressed meanwhile."""

import asyncio
import os
import signal
import time

import pytest

from sollol_tui.blocking import run


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_however_often_it_is_pressed_what_lets_go_comes_to_its_end() -> None:
    let_go = []

    async def work() -> None:
        try:
            await asyncio.to_thread(press)
            await asyncio.Event().wait()
        finally:
            for _ in range(20):
                await asyncio.to_thread(press)
                await asyncio.sleep(0)
            let_go.append(True)

    with pytest.raises(KeyboardInterrupt):
        run(work())
    assert let_go == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_presses_while_the_loop_is_busy_end_it_too() -> None:
    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(time.sleep, 0.2))
            for _ in range(5):
                press()
            await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        run(work())


def test_what_is_cancelled_without_it_says_so() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(work())


async def test_where_a_loop_runs_already_the_work_has_its_own() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 3

    assert run(work()) == 3
