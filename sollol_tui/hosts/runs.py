"""Run directories of ended jobs on one host: how large they are, and their removal. Refuses one of
which anything lives, and one of another coordinator's job."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from sollol_tui.hosts.environment import IN_USE
from sollol_tui.hosts.shell import ENGLISH, quote, script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.text import clean

LIMIT_S: Final = 600.0  # many small files on a slow disk
_ANSWER: Final = re.compile(r"(gone|foreign|busy|failed|weighed|removed) (\d{1,15})")
_OBSTACLES: Final = {
    "foreign": "another coordinator's job of that id lies there",
    "busy": "something of it still runs there",
    "failed": "it could not be removed",
}
# Each line of the input is a nonce and a path. Without run.json nothing was ever launched there.
_SCRIPT: Final = (
    ENGLISH
    + IN_USE
    + r"""
while IFS= read -r line; do
  nonce=${line%% *}; run=${line#* }
  if [ ! -d "$run" ] || [ -L "$run" ]; then echo "gone 0"; continue; fi
  size=$(du -sk -- "$run" 2>/dev/null | sed 's/[^0-9].*//'); size=${size:-0}
  if [ -e "$run/run.json" ] && ! grep -qF "\"$nonce\"" "$run/run.json"; then echo "foreign $size"
  elif in_use "$run" >/dev/null; then echo "busy $size"
  elif [ -z "$remove" ]; then echo "weighed $size"
  elif rm -rf -- "$run" 2>/dev/null; then
    rmdir -- "${run%/*}" 2>/dev/null
    echo "removed $size"
  else echo "failed $size"
  fi
done
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A job's run directory; `nonce` tells it from that of another job of the same id."""

    job: str
    nonce: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a run directory takes; `obstacle` says why it stays, "" when it does not."""

    size_bytes: int
    obstacle: str = ""


async def weigh_runs(
    runs: Sequence[Run], connection: HostConnection, *, remove: bool = False
) -> dict[str, Weight]:
    """The run directories by job; removed, where that is wanted and nothing hinders it."""
    done = await connection.run(
        f"sh -c {quote(script(_SCRIPT, remove='yes' if remove else '').decode())}",
        input="".join(f"{run.nonce} {run.path}\n" for run in runs).encode(),
        timeout_s=LIMIT_S,
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    return {run.job: _weight(line) for run, line in zip_longest(runs, lines[: len(runs)])}


def _weight(line: str | None) -> Weight:
    """What the host said of one run; of one on which it said nothing nobody knows that it is
    gone."""
    if line is None:
        return Weight(size_bytes=0, obstacle="the host said nothing of it")
    if (answer := _ANSWER.fullmatch(line)) is None:
        return Weight(size_bytes=0, obstacle=f"the host says {clean(line, limit=60)}")
    return Weight(size_bytes=int(answer[2]) * 1024, obstacle=_OBSTACLES.get(answer[1], ""))
