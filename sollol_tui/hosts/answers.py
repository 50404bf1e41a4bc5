"""What a script of ours said on a host: `key=value` lines between its first and its last one.

Pure; every value is data from a stranger. Refuses an answer that is not whole.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sollol_tui.hosts.shell import ENGLISH
from sollol_tui.model.errors import CommandError
from sollol_tui.model.inventory import Host
from sollol_tui.model.text import clean

Said = Mapping[str, Sequence[str]]

# What every script begins with: plain numbers and messages in any language; `say`, which keeps
# a line until `tell`, because each write is a packet; and a file's first line as $value without a
# process.
PRELUDE = (
    ENGLISH
    + r"""
nl='
'
said=
say() { said=$said$1=$2$nl; }
tell() { printf %s "$said"; }
peek() { value=; IFS= read -r value <"$1"; } 2>/dev/null
"""
)
# $workdir as an absolute path, and the first folder above it that exists as $folder.
FOLDER = r"""
case $workdir in
  '~') workdir=$HOME ;;
  '~/'*) workdir=$HOME/${workdir#'~/'} ;;
  /*) ;;
  *) workdir=$HOME/$workdir ;;
esac
folder=$workdir
while [ ! -d "$folder" ] && [ "$folder" != / ] && [ -n "$folder" ]; do
  parent=${folder%/*}; folder=${parent:-/}
done
df=$(df -Pk "$folder" 2>/dev/null)
say df "${df##*"$nl"}"
"""
# $smi is the NVIDIA tool where there is one, $limit what ends a program that hangs.
NVIDIA_SMI = r"""
smi=; set -f; IFS=:
for place in $PATH:/usr/bin:/usr/lib/wsl/lib; do
  case $place in
    */shims) ;;
    /*) [ -x "$place/nvidia-smi" ] && smi=$place/nvidia-smi && break ;;
  esac
done
unset IFS; set +f
limit=; command -v timeout >/dev/null 2>&1 && limit="timeout $patience"
"""


def answers(text: str, topic: str, host: Host) -> dict[str, list[str]]:
    """What a script said between its first and its last line, by key. Raises CommandError when one
    of these is missing."""
    _, begun, rest = text.partition(f"begin={topic}\n")
    answer, ended, _ = rest.rpartition(f"end={topic}\n")
    if not begun or not ended:
        raise CommandError(
            host.name,
            "did not say what it is: the answer of its shell is incomplete",
            remedy="is /bin/sh there a POSIX shell?",
        )
    said: dict[str, list[str]] = defaultdict(list)
    for line in answer.split("\n"):
        key, separator, value = line.partition("=")
        if separator:
            said[key].append(value)
    return said


def first(said: Said, key: str) -> str:
    """The first value, safe to show; empty when there is none."""
    values = said.get(key)
    return clean(values[0], limit=300).strip() if values else ""


def number(text: str) -> int:
    """A count of at most nine digits; 0 for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


def allowed_cpus(text: str) -> int:
    """How many processors a list such as `0-3,8` names; 0 when it is none."""
    count = 0
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip())
        if match is None:
            return 0
        count += max(0, int(match[2] or match[1]) - int(match[1]) + 1)
    return count


def memory_sizes(lines: Sequence[str]) -> list[tuple[str, int]]:
    """Bytes by name, of lines of /proc/meminfo."""
    found = []
    for line in lines:
        match = re.fullmatch(r"(\w+):\s+(\d{1,15}) kB\s*", line)
        if match:
            found.append((match[1], int(match[2]) * 1024))
    return found


def disk_free_bytes(line: str) -> int:
    """Bytes free in the last line of `df -Pk`; the device's name may hold blanks."""
    match = re.search(r"\s(\d{1,18})\s+-?\d+\s+(-?\d{1,18})\s+\d+%\s", line + " ")
    return max(0, int(match[2])) * 1024 if match else 0
