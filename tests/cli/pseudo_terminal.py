"""`sollol` in a process of its own at a terminal of its own: what it shows, what is typed there."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 45.0
CTRL_C = "\x03"
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")


class PseudoTerminal:
    """Both ends of one terminal and the process that sits there."""

    def __init__(self, command: list[str], *, columns: int = 100) -> None:
        self.raw = ""
        pid, self._keyboard = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
            os.execve(command[0], command, {**os.environ, "TERM": "xterm-256color"})
        self.pid = pid
        self._status: int | None = None

    @property
    def text(self) -> str:
        """All that was shown, without the codes that steer the terminal."""
        return _ESCAPE.sub("", self.raw).replace("\r", "")

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def until(self, is_met: Callable[[], bool]) -> None:
        """Reads what is shown until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_met():
            assert time.monotonic() < deadline, self.text
            if not self._read() and not is_met():
                raise AssertionError(f"it ended before that was so:\n{self.text}")

    def sees(self, words: str) -> None:
        self.until(lambda: words in self.text)

    def asks(self, words: str) -> None:
        """Sees the question, and that its answer is waited for: Python misses a Ctrl+C that comes
        between the two until the next key."""
        self.sees(words)
        stat = Path(f"/proc/{self.pid}/stat")
        self.until(lambda: stat.read_text().rpartition(") ")[2].startswith("S"))

    def exit_code(self) -> int:
        """Waits for the end."""
        deadline = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < deadline, self.text
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self._status)

    def close(self) -> None:
        if self._status is None:
            try:
                os.kill(self.pid, 9)
                self._status = os.waitpid(self.pid, 0)[1]
            except (ProcessLookupError, ChildProcessError):
                pass
        os.close(self._keyboard)

    def _read(self) -> bool:
        """Takes what comes within a moment; False once nobody is at the other end any more."""
        if select.select([self._keyboard], [], [], 0.2)[0]:
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:  # EIO: the last process has closed it
                return False
            self.raw += data.decode(errors="replace")
            return bool(data)
        return True


@contextmanager
def at_terminal(*arguments: str, columns: int = 100) -> Iterator[PseudoTerminal]:
    """`sollol` with these arguments."""
    command = [sys.executable, "-m", "sollol_tui", *arguments]
    terminal = PseudoTerminal(command, columns=columns)
    try:
        yield terminal
    finally:
        terminal.close()


def piped(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same where nobody watches."""
    return subprocess.run(
        [sys.executable, "-m", "sollol_tui", *arguments],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
