"""Builds a virtual environment on a host with uv, from the payload's lock, whole or not at all."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sollol_tui.hosts.disk import disk_error, is_full
from sollol_tui.hosts.environment import COMPLETE, IN_USE
from sollol_tui.hosts.shell import ENGLISH, assignments, quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.uv import uv_reason
from sollol_tui.model.errors import CommandError, HostError, UnsuitableError
from sollol_tui.model.inventory import Packages, TorchBackend
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_duration

BUILD_S: Final = 3600.0  # several GB over a slow line
_CPU_BUILDS: Final = ("x86_64", "aarch64")  # where a build of torch without CUDA has its own name

# uv inherits the lock: a build whose coordinator died goes on, and the next one waits for it, told
# by whom it is held and since when. A lock whose file was pruned meanwhile is taken anew. An
# environment gets its name after everything in it is on disk. Nobody calls its scripts, only
# `bin/python -m`, so a rename does no harm. A file altered in an environment is altered in uv's
# cache, from which it is linked: who wants the environment anew wants that looked through too; one
# that was built anew while somebody waited for it is what they want. A self-check is over soon.
_BUILD: Final = (
    ENGLISH
    + IN_USE
    + r"""
umask 077
env=$workdir/envs/$id; part=$env.part; log=$env.log
mkdir -p -- "$workdir/envs" || exit 1
built_when() { stat -c '%i %Y' "$env/$complete" 2>/dev/null; }
leave() { : >"$env.lock"; exit "$1"; }
# Or has no words any more: one that was found a moment ago and ends right now.
checks_itself() {
  words=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline")
  [ -z "$words" ] || [ "${words%"$env/bin/python -I - "}" != "$words" ]
}
take_lock() {
  exec 9>>"$env.lock" || exit 1
  command -v flock >/dev/null || return 0
  waited=0
  until flock -n 9; do
    if [ $((waited % 30)) = 0 ]; then
      pid=; since=; read -r pid since <"$env.lock"
      [ -n "$pid" ] && [ -d "/proc/$pid" ] || pid=-
      echo "waiting $(($(date +%s) - ${since:-$(date +%s)})) $pid" || exit 1
    fi
    sleep 1; waited=$((waited + 1))
  done
  [ "$env.lock" -ef "/proc/$$/fd/9" ] || [ ! -e "/proc/$$/fd/9" ]
}
before=$(built_when)
until take_lock; do :; done
echo "$$ $(date +%s)" >"$env.lock" || leave 1
if [ -e "$env/$complete" ] && { [ -z "$recreate" ] || [ "$(built_when)" != "$before" ]; }; then
  echo unchanged; leave 0
fi
waited=0
while [ -e "$env" ] && user=$(in_use "$env/"); do
  if [ "$waited" -ge 300 ] || ! checks_itself "$user"; then echo "used $user"; leave 0; fi
  sleep 1; waited=$((waited + 1))
done
echo working
export UV_CACHE_DIR="${UV_CACHE_DIR:-$workdir/uv-cache}" UV_NO_PROGRESS=1 NO_COLOR=1
[ -n "$UV_FIND_LINKS" ] || [ -z "$backend" ] || set -- "$@" "--torch-backend=$backend"
[ -z "$recreate" ] || [ -n "$UV_OFFLINE" ] || set -- "$@" --refresh
rm -rf -- "$part" "$env".old.*
fail() { tail -c 6000 "$log" >&2; rm -rf -- "$part" "$log"; leave "$1"; }
"$uv" venv --quiet --no-project --relocatable --python "$python" "$part" >"$log" 2>&1 || fail 3
if [ -n "$constraint" ]; then
  printf '%s\n' "$constraint" >"$part/constraint.txt" || fail 1
  set -- "$@" --constraint "$part/constraint.txt"
fi
"$uv" pip install --python "$part/bin/python" --requirement "$payload/remote/worker.in" \
  --constraint "$payload/remote/worker.lock" "$@" >"$log" 2>&1 || fail 1
{ : >"$part/$complete" && { sync -f "$part" 2>/dev/null || sync; }; } 2>"$log" || fail 1
[ ! -e "$env" ] || mv -- "$env" "$env.old.$$"
mv -- "$part" "$env" && rm -rf -- "$log" "$env".old.* && : >"$env.lock" && echo built
"""
)
_NO_PYTHON: Final = 3  # how the script ends when uv makes nothing of the interpreter


def install_options(
    packages: Packages, *, build: str, arch: str, lock: str, wheels: Sequence[str] = ()
) -> tuple[list[str], str, str]:
    """uv's options for where packages come from, the constraint that keeps other builds of torch
    off the host, and the torch backend to choose unless the host itself has find-links. `wheels`
    are folders there which hold all that is needed."""
    options: list[str] = []
    if wheels:
        options.append("--no-index")
    elif packages.index_url is not None:
        options += ["--index-url", packages.index_url]
    links = wheels or ([] if packages.find_links is None else [packages.find_links])
    for folder in links:
        options += ["--find-links", folder]
    pinned = re.search(r"^torch==([^\s;+]+)", lock, re.MULTILINE)
    if pinned is None:
        return options, "", ""
    is_asked_for = packages.torch_backend not in (TorchBackend.AUTO, TorchBackend.NONE)
    is_named = (build == "cpu" and arch in _CPU_BUILDS) or (
        build != "cpu" and build == packages.torch_backend and is_asked_for
    )
    constraint = f"torch=={pinned[1]}+{build}" if is_named and not wheels else ""
    is_given = bool(links) or packages.torch_backend is TorchBackend.NONE
    return options, constraint, "" if is_given else build


async def build_environment(
    connection: HostConnection,
    *,
    variables: Mapping[str, str],
    options: Sequence[str],
    env: Mapping[str, str],
    on_wait: Callable[[str], None],
) -> bool:
    """Builds the environment that `variables` describe: workdir, id, payload, uv, python,
    constraint, backend, recreate. False when another provisioning built it meanwhile; until then
    `on_wait` hears now and then who that is. Raises BuildError with uv's reason, UnsuitableError
    when an environment that is to be built anew is in use."""
    host = connection.host.name
    exports = "".join(f"export {assignments({name: value})}\n" for name, value in env.items())
    head = f"{assignments({**variables, 'complete': COMPLETE})}\nset -- {quote(*options)}\n"
    process = await connection.open(exports + head + _BUILD)
    answer: list[str] = []
    try:
        async with asyncio.timeout(BUILD_S):
            while line := await process.readline():
                answer = clean(line, limit=200).split()
                if answer[:1] == ["waiting"]:
                    on_wait(_holder(answer))
            status = await process.wait()
    except TimeoutError:
        raise CommandError(
            host,
            f"its environment was not built within {format_duration(BUILD_S)}"
            + (f"; {_holder(answer)}" if answer[:1] == ["waiting"] else ""),
            remedy="the build there goes on; try again later, or end it with kill",
        ) from None
    finally:
        await process.close()
    if answer[:1] == ["used"]:
        raise UnsuitableError(
            host,
            f"its environment is in use by process {' '.join(answer[1:2])} and is not built anew",
            remedy="wait for the job there, or cancel it",
        )
    if status != 0 or answer not in (["built"], ["unchanged"]):
        raise build_error(
            host, variables["workdir"], process.error_output, no_python=status == _NO_PYTHON
        )
    return answer == ["built"]


def _holder(answer: Sequence[str]) -> str:
    """Who holds the lock, out of `waiting SECONDS PID`."""
    seconds = int(answer[1]) if len(answer) > 1 and re.fullmatch(r"\d{1,9}", answer[1]) else 0
    pid = answer[2] if len(answer) > 2 and answer[2].isdecimal() else ""
    who = f"process {pid} there" if pid else "a process that a build left behind"
    since = f" for {format_duration(seconds)}" if seconds else ""
    return f"{who} has been building the same environment{since}"


class BuildError(UnsuitableError):
    """uv could not build; `another_python_may_do` when it was for this Python that it could not."""

    def __init__(
        self, host: str, message: str, *, remedy: str, another_python_may_do: bool
    ) -> None:
        super().__init__(host, message, remedy=remedy)
        self.another_python_may_do = another_python_may_do


def build_error(host: str, workdir: str, output: bytes, *, no_python: bool = False) -> HostError:
    """uv's complaint in one sentence."""
    reason = uv_reason(output)
    text = output.decode("utf-8", "replace").lower()
    if is_full(text) or "read-only file" in text:
        return disk_error(host, "the environment", workdir, output)
    unreached = ("dns error", "error sending request", "timed out", "failed to fetch")
    offline = any(word in text for word in unreached)
    return BuildError(
        host,
        f"its environment cannot be built: {reason}",
        remedy="can it reach the package index? packages.index_url and find_links name another, "
        "and packages.wheelhouse needs none"
        if offline
        else "see packages in the inventory: index_url, find_links, wheelhouse, torch_backend",
        another_python_may_do=no_python or "no solution found" in text or "unsatisfiable" in text,
    )
