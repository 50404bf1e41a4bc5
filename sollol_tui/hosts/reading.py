"""How busy an idle host is, asked by a short script that ends with its answer. The parser is pure.

While a job runs there, the job's agent tells it and nobody asks.
"""

from collections.abc import Sequence
from typing import Final

from sollol_tui.hosts.answers import (
    FOLDER,
    NVIDIA_SMI,
    PRELUDE,
    allowed_cpus,
    answers,
    disk_free_bytes,
    first,
    memory_sizes,
)
from sollol_tui.hosts.gpus import KFD, LEAST_AMD_BYTES
from sollol_tui.hosts.shell import script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.inventory import Host
from sollol_tui.model.snapshot import GpuReading, Reading
from sollol_tui.model.text import clean

_MAX_GPUS: Final = 64
# The processors are watched for 0.2 s, and all else is asked in that time.
SCRIPT: Final = (
    PRELUDE
    + r"""
echo begin=reading
peek /proc/stat; say cpu "$value"
sleep 0.2 2>/dev/null & nap=$!
patience=3
"""
    + NVIDIA_SMI
    + r"""
if [ -n "$smi" ]; then
  answer=$($limit "$smi" --format=csv,noheader,nounits \
    --query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu \
    2>/dev/null </dev/null)
  set -f; IFS=$nl; printf 'gpu=%s\n' $answer; unset IFS; set +f
fi
amd_gpu() {
  set --
  for file in gpu_busy_percent mem_info_vram_used mem_info_vram_total; do
    peek "$device/$file"; set -- "$@" "$value"
  done
  for file in "$device"/hwmon/hwmon*/temp1_input; do peek "$file"; done
  set -- "$@" "$value"
  amd_name
  say amd "$1|$2|$3|$4|$name"
}
"""
    + KFD
    + FOLDER
    + r"""
while read -r key value _; do
  case $key in
    MemTotal:) say meminfo "$key $value kB" ;;
    MemAvailable:) say meminfo "$key $value kB"; break ;;
  esac
done </proc/meminfo
while read -r key value; do
  [ "$key" = Cpus_allowed_list: ] && say cpus_allowed "$value" && break
done </proc/self/status
wait "$nap" || sleep 1
peek /proc/stat; say cpu "$value"
say end reading
tell
"""
)


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
    disk = disk_free_bytes(first(said, "df"))
    return Reading(
        cpu_percent=_busy_percent(said["cpu"]),
        cpu_cores=allowed_cpus(first(said, "cpus_allowed")) or None,
        ram_used_bytes=total - free if total and free is not None else None,
        ram_total_bytes=total,
        disk_free_bytes=disk or None,
        gpus=(*_nvidia(said["gpu"]), *_amd(said["amd"])),
    )


def _busy_percent(lines: Sequence[str]) -> float | None:
    """The busy share between the first lines of /proc/stat, read twice (man 5 proc_stat)."""
    counts = [[int(n[:18]) for n in line.split()[1:9] if n.isdecimal()] for line in lines]
    if len(counts) != 2 or any(len(count) < 5 for count in counts):
        return None
    spent = [after - before for before, after in zip(*counts, strict=False)]
    idle = spent[3] + spent[4]
    return round(100 * (1 - idle / sum(spent)), 1) if sum(spent) > 0 else None


def _nvidia(lines: Sequence[str]) -> list[GpuReading]:
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


def _amd(lines: Sequence[str]) -> list[GpuReading]:
    gpus = []
    for index, line in enumerate(lines[:_MAX_GPUS]):
        fields = [clean(field, limit=120).strip() for field in line.split("|", 4)]
        if len(fields) != 5:
            continue
        util, used, total, millidegrees, name = fields
        vram = _number(total)
        if vram is None or vram < LEAST_AMD_BYTES:
            continue
        degrees, filled = _number(millidegrees), _number(used)
        gpus.append(
            GpuReading(
                index=index,
                name=name,
                util_percent=_number(util),
                vram_used_bytes=None if filled is None else int(filled),
                vram_total_bytes=int(vram),
                temp_c=None if degrees is None else degrees / 1000,
            )
        )
    return gpus


def _number(text: str) -> float | None:
    return float(text[:15]) if text.isdecimal() else None


def _mebibytes(text: str) -> int | None:
    return int(text[:9]) * 1024**2 if text.isdecimal() else None
