"""What a host is, asked in one script that starts next to nothing: sh, /proc and absolute paths.

A Python on PATH may be a shim that costs half a second, so interpreters are found by where they lie
and not by running them. The parser is pure; its answers are data from a stranger.
"""

import re
import time
from dataclasses import replace
from typing import Final

from sollol_tui.hosts import gpus, interfaces
from sollol_tui.hosts.answers import (
    FOLDER,
    PRELUDE,
    Said,
    allowed_cpus,
    answers,
    disk_free_bytes,
    first,
    memory_sizes,
)
from sollol_tui.hosts.shell import script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.errors import CommandError
from sollol_tui.model.facts import HostFacts, Python, RamLimit
from sollol_tui.model.inventory import ConnectionKind, Host
from sollol_tui.model.text import clean

MIN_MINOR: Final = 11
MAX_MINOR: Final = 13
_LOCAL_ADDRESS: Final = "127.0.0.1"

SCRIPT: Final = (
    PRELUDE
    + "echo begin=facts\n"
    + gpus.SCRIPT  # first: its tools answer while the rest is asked
    + r"""
set -- $(uname -snrm)
say system "$1"; say hostname "$2"; say kernel "$3"; say arch "$4"
user=$(id -un)
say user "$user"
say home "$HOME"
set -- $SSH_CONNECTION
say address "$3"
libc=glibc
for file in /lib/ld-musl-*; do [ -e "$file" ] && libc=musl; done
say libc "$libc"
sed -n -E -e 's/^(processor|model name|Model|physical id|core id)[[:space:]]*:/cpuinfo=&/p' \
  -e 's/^(MemTotal|MemAvailable):/meminfo=&/p' -e 's/^PRETTY_NAME=/distribution=/p' \
  -e 's/^Cpus_allowed_list:[[:space:]]*/cpus_allowed=/p' \
  /proc/cpuinfo /proc/meminfo /proc/self/status /etc/os-release 2>/dev/null
peek /proc/device-tree/model; say board "$value"
"""
    + FOLDER
    + r"""
say workdir "$workdir"
looked=:
for file in /usr/bin/python3.1[123] /usr/local/bin/python3.1[123] /opt/conda/bin/python3.1[123] \
    "$HOME"/miniconda3/bin/python3.1[123] "$HOME"/.pyenv/versions/*/bin/python3.1[123] \
    "$HOME"/.local/share/uv/python/cpython-3*/bin/python3.1[123] \
    "$workdir"/python/cpython-3*/bin/python3.1[123]; do
  [ -x "$file" ] && say python "$file" && looked=$looked${file%/*}:
done
on_path=$(command -v python3)
case $looked$on_path in
  */shims/*|*:|*:"${on_path%/*}":*) ;;
  *) real=$(readlink -f "$on_path" 2>/dev/null)
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
for bus in "$XDG_RUNTIME_DIR/bus" /run/user/*/bus; do
  [ -S "$bus" ] && [ -O "$bus" ] && say systemd_user yes && break
done
[ -e "/var/lib/systemd/linger/$user" ] && say lingers yes
has_memory() { peek "$1"; case " $value " in *" memory "*) return 0 ;; esac; return 1; }
groups=/sys/fs/cgroup; uid=$(id -u); ram_limit=
if command -v busctl >/dev/null; then
  if [ "$uid" = 0 ]; then [ -d /run/systemd/system ] && ram_limit=scope
  elif [ -S "/run/user/$uid/bus" ]; then
    has_memory "$groups/user.slice/user-$uid.slice/user@$uid.service/cgroup.controllers" &&
      ram_limit=scope
  fi
fi
while [ -z "$ram_limit" ] && IFS=: read -r number controllers group; do
  case $number:,$controllers, in
    *,memory,*) [ -w "$groups/memory$group" ] && ram_limit=group ;;
    0:,,)
      group=$groups${group%/}
      while case $group in "$groups"*) ;; *) false ;; esac; do
        has_memory "$group/cgroup.subtree_control" && [ -w "$group" ] &&
          [ -w "$group/cgroup.procs" ] && ram_limit=group && break
        group=${group%/*}
      done ;;
  esac
done </proc/self/cgroup
say ram_limit "$ram_limit"
"""
    + interfaces.SCRIPT
    + r"""
wait
say clock "$(date +%s.%N)"
say end facts
tell
"""
)


async def gather_facts(connection: HostConnection, *, timeout_s: float = 20.0) -> HostFacts:
    """Asks the host. Raises CommandError when its answer makes no sense."""
    host = connection.host
    done = await connection.run(
        "sh -s", input=script(SCRIPT, workdir=host.workdir), timeout_s=timeout_s
    )
    arrived = time.time()
    text = done.stdout.decode("utf-8", "replace")
    # The clock is the last thing that the host says: before it come shells and drivers that may
    # take seconds, after it only the way back.
    clock_s = _clock_s(answers(text, "facts", host))
    skew_s = None if clock_s is None else round(clock_s - arrived, 1)
    return replace(parse_facts(text, host), clock_skew_s=skew_s)


def parse_facts(text: str, host: Host) -> HostFacts:
    """The facts in the script's output; what stands outside its first and last line is ignored."""
    said = answers(text, "facts", host)
    cores, model = _processors(said)
    memory = dict(memory_sizes(said["meminfo"]))
    ram_bytes = memory.get("MemTotal", 0)
    user, board = first(said, "user"), first(said, "board")
    found = gpus.parse_gpus(said, ram_bytes=ram_bytes, user=user, board=board)
    found_interfaces = interfaces.parse_interfaces(said)
    is_local = host.connection is ConnectionKind.LOCAL
    reached = _LOCAL_ADDRESS if is_local else first(said, "address")
    address = host.internal_ip or interfaces.address_in(found_interfaces, host.cidr, reached)
    return HostFacts(
        hostname=first(said, "hostname"),
        user=user,
        home=_path(said, "home", host),
        workdir=_path(said, "workdir", host),
        system=first(said, "system"),
        arch=first(said, "arch"),
        libc="musl" if first(said, "libc") == "musl" else "glibc",
        cpu_model=model or board,
        cpu_cores=cores,
        ram_bytes=ram_bytes,
        ram_available_bytes=memory.get("MemAvailable", 0),
        disk_free_bytes=disk_free_bytes(first(said, "df")),
        pythons=_pythons(said),
        gpus=found.gpus,
        address=address,
        uv=first(said, "uv"),
        gpu_problem=found.problem,
        distribution=first(said, "distribution").strip("\"'"),
        kernel=first(said, "kernel"),
        compute_version=found.compute_version,
        gpu_processes=found.processes,
        interfaces=found_interfaces,
        systemd_user=first(said, "systemd_user") == "yes",
        lingers=first(said, "lingers") == "yes",
        ram_limit=_ram_limit(first(said, "ram_limit")),
    )


def _clock_s(said: Said) -> float | None:
    """The host's wall clock; a `date` that knows no fractions is half a second late on average."""
    match = re.fullmatch(r"(\d{1,12})(?:[.,](\d{1,9}))?\D*", first(said, "clock"))
    if match is None:
        return None
    return float(f"{match[1]}.{match[2] or 5}")


def _ram_limit(told: str) -> RamLimit:
    return RamLimit(told) if told in set(RamLimit) else RamLimit.WATCH


def _path(said: Said, key: str, host: Host) -> str:
    value = (said.get(key) or [""])[0]
    if not value.startswith("/") or clean(value) != value:
        raise CommandError(
            host.name,
            f"says that its {key} is {clean(value, limit=120)!r}, which is no path to work with",
            remedy="set workdir to an absolute path in the inventory",
        )
    return value if value == "/" else value.rstrip("/")


def _processors(said: Said) -> tuple[int, str]:
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
    usable = allowed_cpus(first(said, "cpus_allowed")) or processors or 1
    return max(1, min(len(cores) or processors or usable, usable)), model


def _pythons(said: Said) -> tuple[Python, ...]:
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
