"""Reads anew what takes too long for the screen's own thread, whenever a view has news for it."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from sollol_tui.ui.rounds import sentence
from sollol_tui.ui.screens.view import View

T = TypeVar("T")
_REST_S: Final = 1.0  # between two readings while news keeps coming


class Reading(Generic[T]):
    """`show` gets what `read` returned, `fail` the sentence when it could not."""

    def __init__(
        self,
        view: View,
        read: Callable[[], T],
        show: Callable[[T], None],
        fail: Callable[[str], None],
    ) -> None:
        self._read, self._show, self._fail = read, show, fail
        self._wanted = asyncio.Event()
        view.run_worker(self._forever(), group="reading", exit_on_error=False)

    def want(self) -> None:
        """Something may have changed."""
        self._wanted.set()

    async def _forever(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                found = await asyncio.to_thread(self._read)
            except Exception as error:  # the view says it, and the next news tries again
                self._fail(sentence(error))
            else:
                self._show(found)
            await asyncio.sleep(_REST_S)
