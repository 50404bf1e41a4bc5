"""Which ssh-agent this process asks. A supervisor outlives the login that began it, and with that
its ssh-agent; every command of the user lends it the one that it has. Starts none, stores no key.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Final

_VARIABLE: Final = "SSH_AUTH_SOCK"
_ANSWER_S: Final = 5.0
WAITS: Final = "waits for your ssh-agent: run `sollol status` where `ssh-add -l` shows the key"


class Renewal(Enum):
    """What became of the wish for another ssh-agent."""

    SAME = auto()  # there is no other, and this one holds keys
    NEW = auto()  # another one is asked from now on
    AWAY = auto()  # the one that let us in before is gone, or holds no key now


def lend(note: Path) -> None:
    """Notes where this process's ssh-agent listens, for those that have lost theirs."""
    listens = asked()
    if not listens or not Path(listens).is_socket() or listens == _lent(note):
        return
    part = note.with_name(f"{note.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_text(listens)
    part.replace(note)


def asked() -> str:
    """Where the ssh-agent listens that a login would ask now; "" for none."""
    return os.environ.get(_VARIABLE, "")


async def renew(note: Path, failed: str) -> Renewal:
    """Asks the ssh-agent that was lent last from now on, if it can let anybody in; `failed` is the
    one that could not. Logins at the same moment share the change."""
    listens = _lent(note)
    if listens is None:
        return Renewal.SAME
    if not await _holds_keys(listens):
        return Renewal.AWAY
    os.environ[_VARIABLE] = listens
    return Renewal.SAME if listens == failed else Renewal.NEW


def _lent(note: Path) -> str | None:
    with suppress(OSError, UnicodeError):
        return note.read_text()
    return None


async def _holds_keys(listens: str) -> bool:
    import asyncio  # not before it is asked: every command lends, and should start quickly

    import asyncssh

    keys: Sequence[object] = ()
    with suppress(OSError, ValueError, asyncssh.Error):
        async with asyncio.timeout(_ANSWER_S), await asyncssh.connect_agent(listens) as agent:
            keys = await agent.get_keys()
    return len(keys) > 0
