"""How a rank ended and why, from its exit status, its last event and the tail of its log. Guesses
nothing that none of them says."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TAIL_BYTES = 65536
TRACEBACK_LIMIT = 8192
_BEGINS = "Traceback (most recent call last):"
_CHAINS = ("During handling of the above exception", "The above exception was the direct cause")
_PREFIX = re.compile(r"^\[?(?:rank|default)\d+\]?: ?", re.MULTILINE)
_STACK = re.compile(
    r"^(?:Current thread|Thread) 0x.* \(most recent call first\):\n(?:(?:  .*|Current thread .*|"
    r"Thread .*|)\n)*",
    re.MULTILINE,
)
_SUMMARY_CODE = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)", re.MULTILINE)
_DIED_WITH = re.compile(r"died with <Signals\.SIG\w+: (\d+)>")
_IN_USE = re.compile("EADDRINUSE|address already in use|another process is utilizing", re.I)
# The launcher's own complaint that its child failed says nothing about why.
_LAUNCHER = ("ChildFailedError", "CalledProcessError", "SignalException")


def tail(path: Path) -> str:
    """The last TAIL_BYTES of a file; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def last_event(path: Path, *kinds: str) -> dict[str, Any] | None:
    """The newest complete event of one of these kinds near the end of an events file."""
    *complete, _unfinished = tail(path).split("\n")
    for line in reversed(complete):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the first line of the tail may be cut
        if isinstance(event, dict) and event.get("kind") in kinds:
            return event
    return None


def out_of_memory(path: Path) -> Iterator[str]:
    """How ranks ended that reached the run's own limit of memory, as an agent told it."""
    for line in tail(path).split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("kind") == "rank_exited":
            reason = str(event.get("reason"))
            if event.get("problem") == "out_of_memory" and ": limit " in reason:
                yield reason


def rank_code(code: int, log: str) -> int:
    """The rank's own exit code: the launcher between us and it always exits with 1 and writes the
    real one into the log (negative: signal)."""
    if code != 1:
        return code
    if found := _SUMMARY_CODE.findall(log):
        return int(found[-1])
    if killed := _DIED_WITH.findall(log):
        return -int(killed[-1])
    return code


def last_traceback(log: str) -> str | None:
    """The last Python traceback that tells a cause, with those it is chained to. Bounded to
    TRACEBACK_LIMIT characters, the end kept."""
    blocks: list[list[str]] = []
    chained = False
    lines = iter(_PREFIX.sub("", log).splitlines())
    for line in lines:
        if line.startswith(_CHAINS) and blocks:
            chained = True
            blocks[-1] += ["", line, ""]
        elif line == _BEGINS:
            block = [line, *_rest_of_traceback(lines)]
            if chained:
                blocks[-1] += block
            else:
                blocks.append(block)
            chained = False
        elif line.strip():
            chained = False
    telling = [b for b in blocks if not b[-1].split(":")[0].endswith(_LAUNCHER)]
    if not telling:
        return None
    text = "\n".join(telling[-1])
    if len(text) <= TRACEBACK_LIMIT:
        return text
    return "...\n" + text[-(TRACEBACK_LIMIT - 4) :]


def dumped_stack(log: Path, begins_at: int) -> str | None:
    """What faulthandler has written into a log since it had `begins_at` bytes, bounded; None where
    it has written nothing, as a process that is stopped does not."""
    try:
        with log.open("rb") as file:
            file.seek(begins_at)
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None
    found = _STACK.search(_PREFIX.sub("", text))
    return found[0][:TRACEBACK_LIMIT].rstrip() if found else None


def port_is_taken(port: int, text: str) -> bool:
    """Whether one line of `text` says that somebody else listens on this port: the words of the
    kernel, or those of accelerate, which looks before it starts anything."""
    return any(
        _IN_USE.search(line) and re.search(rf"\b{port}\b", line) for line in text.splitlines()
    )


def _rest_of_traceback(lines: Iterator[str]) -> list[str]:
    taken = []
    for line in lines:
        taken.append(line)
        if not line.startswith((" ", "\t")):
            break  # the line of the exception itself ends it
    return taken


def describe_exit(code: int, traceback: str | None) -> str:
    """One sentence: how the rank ended."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        guess = "; maybe out of memory" if -code == signal.SIGKILL else ""
        return f"killed by signal {-code} ({name}{guess})"
    if code == 0:
        return "ended without an error"
    if traceback:
        return f"exited with code {code}: {traceback.splitlines()[-1]}"
    return f"exited with code {code} and left no traceback in its log"
