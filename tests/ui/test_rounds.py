"""When the state is asked for, and what makes the next question come sooner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from textual.message import Message

from sollol_tui.ui import rounds
from sollol_tui.ui.rounds import Rounds
from tests.ui.sample import SampleClient

NEVER_S = 3600.0


class Listener:
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Message] = asyncio.Queue()

    def post_message(self, message: Message) -> bool:
        self.told.put_nowait(message)
        return True


class CountingClient(SampleClient):
    """Counts how often it is asked whether anything changed."""

    polls = 0

    def state_version(self) -> int:
        self.polls += 1
        return super().state_version()


@asynccontextmanager
async def polling(client: CountingClient) -> AsyncIterator[tuple[Rounds, Listener]]:
    listener = Listener()
    shown = Rounds(client, listener, lambda: False)  # type: ignore[arg-type]
    task = asyncio.create_task(shown.poll())
    try:
        yield shown, listener
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_after_a_while_without_news_the_state_is_asked_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "_CALM_POLL_S", NEVER_S)
    monkeypatch.setattr(rounds, "_CALM_AFTER_S", 0.3)
    client = CountingClient()
    async with polling(client) as (shown, listener):
        assert isinstance(await listener.told.get(), Rounds.SnapshotTaken)
        await asyncio.sleep(0.6)  # longer than the calm takes to begin
        before = client.polls
        assert before > 1
        await asyncio.sleep(0.4)
        assert client.polls == before
        shown.look_now()
        assert isinstance(await asyncio.wait_for(listener.told.get(), 10), Rounds.SnapshotTaken)


async def test_who_looks_now_does_not_wait_for_the_rest_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "_AGES_S", NEVER_S)
    client = CountingClient(failure=OSError("the disk is away"))
    async with polling(client) as (shown, listener):
        failed = await listener.told.get()
        assert isinstance(failed, Rounds.PollFailed)
        assert "the disk is away" in failed.reason
        client.failure = None
        shown.look_now()
        assert isinstance(await asyncio.wait_for(listener.told.get(), 10), Rounds.SnapshotTaken)
