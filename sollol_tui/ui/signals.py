"""Who hears the terminal's signals. The toolkit's driver takes them and never gives them back: when
the screen is gone, whoever continues the program would resume what has no loop any more."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TAKEN: Final = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU)


@contextmanager
def lent_signals() -> Iterator[None]:
    """What a screen takes is back afterwards, however it ended. Only for the main thread."""
    before = {number: signal.getsignal(number) for number in _TAKEN}
    try:
        yield
    finally:
        for number, heard in before.items():
            signal.signal(number, signal.SIG_DFL if heard is None else heard)
