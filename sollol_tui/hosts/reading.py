"""How busy an idle host is, asked by a short script that ends with its answer. The parser is pure.

While a job runs there, the job's agent tells it and nobody asks.
"""

from collections.abc import Sequence
from typing import Final

from sollol_tui.hosts.facts import answers, disk_free_bytes, memory_sizes
from sollol_tui.hosts.shell import script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.inventory import Host
from sollol_tui.model.snapshot import GpuReading, Reading
from sollol_tui.model.text import clean

_MAX_GPUS: Final = 64
SCRIPT: Final = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
case $workdir in
  '~'*) folder=$HOME${workdir#'~'} ;;
  *) folder=$workdir ;;
esac
while [ ! -d "$folder" ] && [ "$folder" != / ] && [ -n "$folder" ]; do
  parent=${folder%/*}; folder=${parent:-/}
done
say begin reading
IFS= read -r line </proc/stat; say cpu "$line"
say df "$(df -Pk "$folder" 2>/dev/null | tail -n 1)"
say cores "$(nproc 2>/dev/null)"
grep -E '^(MemTotal|MemAvailable):' /proc/meminfo |
  while IFS= read -r line; do say meminfo "$line"; done
smi=$(command -v nvidia-smi || echo /usr/bin/nvidia-smi)
if [ -x "$smi" ]; then
  limit=; command -v timeout >/dev/null 2>&1 && limit='timeout 3'
  $limit "$smi" --format=csv,noheader,nounits \
    --query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu \
    2>/dev/null </dev/null | while IFS= read -r line; do say gpu "$line"; done
fi
sleep 0.2 2>/dev/null || sleep 1
IFS= read -r line </proc/stat; say cpu "$line"
say end reading
"""


async def take_reading(connection: HostConnection, *, timeout_s: float = 20.0) -> Reading:
    """Asks the host. Raises CommandError when its answer makes no sense."""
    host = connection.host
    done = await connection.run(
        "sh -s", input=script(SCRIPT, workdir=host.workdir), timeout_s=timeout_s
    )
    return parse_reading(done.stdout.decode("utf-8", "replace"), host)


def parse_reading(text: str, host: Host) -> Reading:
    """The figures in the script's output; one that cannot be read is None."""
    said = answers(text, "reading", host)
    memory = dict(memory_sizes(said["meminfo"]))
    total, free = memory.get("MemTotal"), memory.get("MemAvailable")
    cores = (said["cores"] or [""])[0]
    disk = disk_free_bytes((said["df"] or [""])[0])
    return Reading(
        cpu_percent=_busy_percent(said["cpu"]),
        cpu_cores=int(cores[:6]) if cores.isdecimal() else None,
        ram_used_bytes=total - free if total and free is not None else None,
        ram_total_bytes=total,
        disk_free_bytes=disk or None,
        gpus=tuple(_gpus(said["gpu"])),
    )


def _busy_percent(lines: Sequence[str]) -> float | None:
    """The busy share between the first lines of /proc/stat, read twice (man 5 proc_stat)."""
    counts = [[int(n[:18]) for n in line.split()[1:9] if n.isdecimal()] for line in lines]
    if len(counts) != 2 or any(len(count) < 5 for count in counts):
        return None
    spent = [after - before for before, after in zip(*counts, strict=False)]
    idle = spent[3] + spent[4]
    return round(100 * (1 - idle / sum(spent)), 1) if sum(spent) > 0 else None


def _gpus(lines: Sequence[str]) -> list[GpuReading]:
    gpus = []
    for line in lines[:_MAX_GPUS]:
        fields = [clean(field, limit=120).strip() for field in line.split(",")]
        if len(fields) != 6 or not fields[0].isdecimal():
            continue
        index, name, util, used, total, temperature = fields
        gpus.append(
            GpuReading(
                index=int(index[:4]),
                name=name,
                util_percent=_number(util),
                vram_used_bytes=_mebibytes(used),
                vram_total_bytes=_mebibytes(total),
                temp_c=_number(temperature),
            )
        )
    return gpus


def _number(text: str) -> float | None:
    return float(text[:9]) if text.isdecimal() else None


def _mebibytes(text: str) -> int | None:
    return int(text[:9]) * 1024**2 if text.isdecimal() else None
