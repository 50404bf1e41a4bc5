"""What a host is, asked in one script that starts next to nothing: sh, /proc and absolute paths.

A Python on PATH may be a shim that costs half a second, so interpreters are found by where they lie
and not by running them. The parser is pure; its answers are data from a stranger.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from sollol_tui.hosts.shell import script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.errors import CommandError
from sollol_tui.model.facts import Gpu, HostFacts, Python
from sollol_tui.model.inventory import ConnectionKind, Host
from sollol_tui.model.text import clean

MIN_MINOR: Final = 11
MAX_MINOR: Final = 13
_LOCAL_ADDRESS: Final = "127.0.0.1"
_MAX_GPUS: Final = 64
_SMI_TIMED_OUT: Final = 124

SCRIPT: Final = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
case $workdir in
  '~') workdir=$HOME ;;
  '~/'*) workdir=$HOME/${workdir#'~/'} ;;
  /*) ;;
  *) workdir=$HOME/$workdir ;;
esac
say begin facts
say home "$HOME"
say workdir "$workdir"
say user "$(id -un)"
say system "$(uname -s)"
say arch "$(uname -m)"
say hostname "$(uname -n)"
set -- $SSH_CONNECTION
say address "$3"
libc=glibc
for file in /lib/ld-musl-*; do [ -e "$file" ] && libc=musl; done
say libc "$libc"
say usable_cpus "$(nproc 2>/dev/null)"
if [ -r /proc/cpuinfo ]; then
  grep -E '^(processor|model name|Model|physical id|core id)' /proc/cpuinfo |
    while IFS= read -r line; do say cpuinfo "$line"; done
fi
if [ -r /proc/meminfo ]; then
  grep -E '^(MemTotal|MemAvailable):' /proc/meminfo |
    while IFS= read -r line; do say meminfo "$line"; done
fi
folder=$workdir
while [ ! -d "$folder" ] && [ "$folder" != / ] && [ -n "$folder" ]; do
  parent=${folder%/*}; folder=${parent:-/}
done
say df "$(df -Pk "$folder" 2>/dev/null | tail -n 1)"
for file in /usr/bin/python3.1[123] /usr/local/bin/python3.1[123] /opt/conda/bin/python3.1[123] \
    "$HOME"/miniconda3/bin/python3.1[123] "$HOME"/.pyenv/versions/*/bin/python3.1[123] \
    "$HOME"/.local/share/uv/python/cpython-3*/bin/python3.1[123] \
    "$workdir"/python/cpython-3*/bin/python3.1[123]; do
  [ -x "$file" ] && say python "$file"
done
on_path=$(command -v python3)
case $on_path in
  */shims/*) ;;
  /*) real=$(readlink -f "$on_path" 2>/dev/null)
      case $real in
        */python3.[0-9]*) say python "$real" ;;
        /*) say python_version "$("$real" --version 2>/dev/null) $real" ;;
      esac ;;
esac
for file in "$(command -v uv)" "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
  case $file in
    */shims/*) ;;
    /*) [ -x "$file" ] && say uv "$file" ;;
  esac
done
smi=$(command -v nvidia-smi || echo /usr/bin/nvidia-smi)
if [ -x "$smi" ]; then
  limit=; command -v timeout >/dev/null 2>&1 && limit='timeout 5'
  answer=$($limit "$smi" --query-gpu=index,name,memory.total,uuid,driver_version \
    --format=csv,noheader,nounits 2>&1 </dev/null)
  say smi_status "$?"
  printf '%s\n' "$answer" | while IFS= read -r line; do say gpu "$line"; done
elif [ -e /dev/nvidiactl ]; then
  say smi_status missing
fi
say end facts
"""


async def gather_facts(connection: HostConnection, *, timeout_s: float = 20.0) -> HostFacts:
    """Asks the host. Raises CommandError when its answer makes no sense."""
    host = connection.host
    done = await connection.run(
        "sh -s", input=script(SCRIPT, workdir=host.workdir), timeout_s=timeout_s
    )
    return parse_facts(done.stdout.decode("utf-8", "replace"), host)


def parse_facts(text: str, host: Host) -> HostFacts:
    """The facts in the script's output; what stands outside its first and last line is ignored."""
    said = answers(text, "facts", host)
    gpus, gpu_problem = _gpus(said)
    cores, model = _processors(said)
    memory = dict(memory_sizes(said["meminfo"]))
    address = host.internal_ip or _first(said, "address")
    if host.connection is ConnectionKind.LOCAL:
        address = host.internal_ip or _LOCAL_ADDRESS
    return HostFacts(
        hostname=_first(said, "hostname"),
        user=_first(said, "user"),
        home=_path(said, "home", host),
        workdir=_path(said, "workdir", host),
        system=_first(said, "system"),
        arch=_first(said, "arch"),
        libc="musl" if _first(said, "libc") == "musl" else "glibc",
        cpu_model=model,
        cpu_cores=cores,
        ram_bytes=memory.get("MemTotal", 0),
        ram_available_bytes=memory.get("MemAvailable", 0),
        disk_free_bytes=disk_free_bytes(_first(said, "df")),
        pythons=_pythons(said),
        gpus=gpus,
        address=address,
        uv=_first(said, "uv"),
        gpu_problem=gpu_problem,
    )


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


def _first(said: Mapping[str, Sequence[str]], key: str) -> str:
    values = said.get(key)
    return clean(values[0], limit=300).strip() if values else ""


def _path(said: Mapping[str, Sequence[str]], key: str, host: Host) -> str:
    value = (said.get(key) or [""])[0]
    if not value.startswith("/") or clean(value) != value:
        raise CommandError(
            host.name,
            f"says that its {key} is {clean(value, limit=120)!r}, which is no path to work with",
            remedy="set workdir to an absolute path in the inventory",
        )
    return value if value == "/" else value.rstrip("/")


def _processors(said: Mapping[str, Sequence[str]]) -> tuple[int, str]:
    """Physical cores as far as the kernel tells them, never more than a process may use."""
    cores: set[tuple[str, str]] = set()
    processors, model, package = 0, "", ""
    for line in said.get("cpuinfo", ()):
        key, _, value = (part.strip() for part in line.partition(":"))
        match key:
            case "processor":
                processors += 1
            case "model name" | "Model":
                model = model or clean(value, limit=120)
            case "physical id":
                package = value
            case "core id":
                cores.add((package, value))
    usable = _number(_first(said, "usable_cpus")) or processors or 1
    return max(1, min(len(cores) or processors or usable, usable)), model


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


def _pythons(said: Mapping[str, Sequence[str]]) -> tuple[Python, ...]:
    """The interpreters that can carry an environment, the newest first, each version once."""
    found: dict[int, str] = {}
    entries = [
        (match[1], path)
        for path in said.get("python", ())
        if (match := re.search(r"/python3\.(\d+)$", path))
    ]
    entries += [
        (match[1], match[2])
        for line in said.get("python_version", ())
        if (match := re.fullmatch(r"Python 3\.(\d+)\S* (/.*)", line))
    ]
    for minor, path in entries:
        if MIN_MINOR <= int(minor) <= MAX_MINOR and clean(path) == path:
            found.setdefault(int(minor), path)
    return tuple(
        Python(path=found[minor], version=f"3.{minor}") for minor in sorted(found, reverse=True)
    )


def _gpus(said: Mapping[str, Sequence[str]]) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that answer, and what is wrong when some do not."""
    status = _first(said, "smi_status")
    if not status:
        return (), ""
    if status == "missing":
        return (), "there is an NVIDIA device but no nvidia-smi; install the driver's tools"
    gpus: list[Gpu] = []
    complaint = ""
    for line in list(said.get("gpu", ()))[:_MAX_GPUS]:
        fields = [clean(field, limit=120).strip() for field in line.split(",")]
        if len(fields) == 5 and fields[0].isdecimal() and fields[2].isdecimal():
            index, name, mebibytes, uuid, driver = fields
            gpus.append(
                Gpu(
                    index=int(index[:4]),
                    name=name,
                    vram_bytes=int(mebibytes[:9]) * 1024**2,
                    uuid=uuid,
                    driver=driver,
                )
            )
        elif line.strip():
            complaint = complaint or clean(line, limit=200).strip()
    if status == str(_SMI_TIMED_OUT):
        complaint = "nvidia-smi gave no answer within 5 s"
    elif status != "0" and not complaint:
        complaint = f"nvidia-smi ended with status {status}"
    return tuple(gpus), complaint


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 0
