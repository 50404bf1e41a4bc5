"""Builds a virtual environment on a host with uv, from the payload's lock, whole or not at all."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sollol_tui.hosts.environment import COMPLETE
from sollol_tui.hosts.shell import assignments, quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.errors import CommandError, HostError, UnsuitableError
from sollol_tui.model.inventory import Packages, TorchBackend
from sollol_tui.model.text import clean_lines
from sollol_tui.model.units import format_duration

BUILD_S: Final = 3600.0  # several GB over a slow line
_CPU_BUILDS: Final = ("x86_64", "aarch64")  # where a build of torch without CUDA has its own name

# uv inherits the lock: a build whose coordinator died goes on, and the next one waits for it. An
# environment gets its name after everything in it is on disk. Nobody calls its scripts, only
# `bin/python -m`, so a rename does no harm.
_BUILD: Final = r"""
umask 077
env=$workdir/envs/$id; part=$env.part; log=$env.log
mkdir -p -- "$workdir/envs" || exit 1
exec 9>>"$env.lock" || exit 1
if command -v flock >/dev/null && ! flock -n 9; then echo waiting; flock 9; fi
if [ -z "$recreate" ] && [ -e "$env/$complete" ]; then echo unchanged; exit 0; fi
echo working
export UV_CACHE_DIR="${UV_CACHE_DIR:-$workdir/uv-cache}" UV_NO_PROGRESS=1 NO_COLOR=1
[ -n "$UV_FIND_LINKS" ] || [ -z "$backend" ] || set -- "$@" "--torch-backend=$backend"
rm -rf -- "$part" "$env"
build() {
  "$uv" venv --quiet --no-project --relocatable --python "$python" "$part" || return 1
  if [ -n "$constraint" ]; then
    printf '%s\n' "$constraint" >"$part/constraint.txt" || return 1
    set -- "$@" --constraint "$part/constraint.txt"
  fi
  "$uv" pip install --python "$part/bin/python" \
    --requirement "$payload/remote/worker.in" --constraint "$payload/remote/worker.lock" "$@"
}
if ! build "$@" >"$log" 2>&1; then
  tail -c 6000 "$log" >&2; rm -rf -- "$part"; exit 1
fi
: >"$part/$complete" && { sync -f "$part" 2>/dev/null || sync; } && mv -- "$part" "$env" &&
  rm -f -- "$log" && echo built
"""


def install_options(
    packages: Packages, *, accelerator: str, arch: str, lock: str
) -> tuple[list[str], str, str]:
    """uv's options for where packages come from, the constraint that keeps CUDA off a CPU host, and
    the torch backend to choose unless the host itself has find-links."""
    options: list[str] = []
    if packages.index_url is not None:
        options += ["--index-url", packages.index_url]
    if packages.find_links is not None:
        options += ["--find-links", packages.find_links]
    is_cpu = accelerator == "cpu" or packages.torch_backend is TorchBackend.CPU
    pinned = re.search(r"^torch==([^\s;+]+)", lock, re.MULTILINE)
    constraint = f"torch=={pinned[1]}+cpu" if pinned and is_cpu and arch in _CPU_BUILDS else ""
    backend = "cpu" if is_cpu else "auto"
    if packages.find_links is not None or packages.torch_backend is TorchBackend.NONE:
        backend = ""
    return options, constraint, backend if pinned else ""


async def build_environment(
    connection: HostConnection,
    *,
    variables: Mapping[str, str],
    options: Sequence[str],
    env: Mapping[str, str],
    on_wait: Callable[[], None],
) -> bool:
    """Builds the environment that `variables` describe: workdir, id, payload, uv, python,
    constraint, backend, recreate. False when another provisioning built it meanwhile. Raises
    BuildError with uv's reason."""
    exports = "".join(f"export {assignments({name: value})}\n" for name, value in env.items())
    head = f"{assignments({**variables, 'complete': COMPLETE})}\nset -- {quote(*options)}\n"
    process = await connection.open(exports + head + _BUILD)
    answer = b""
    try:
        async with asyncio.timeout(BUILD_S):
            while line := await process.readline():
                answer = line.strip()
                if answer == b"waiting":
                    on_wait()
            status = await process.wait()
    except TimeoutError:
        raise CommandError(
            connection.host.name,
            f"its environment was not built within {format_duration(BUILD_S)}",
            remedy="the build there goes on; try again later",
        ) from None
    finally:
        await process.close()
    if status != 0 or answer not in (b"built", b"unchanged"):
        raise build_error(connection.host.name, process.error_output)
    return answer == b"built"


class BuildError(UnsuitableError):
    """uv could not build; `is_unsolvable` when no set of packages fits this Python."""

    def __init__(self, host: str, message: str, *, remedy: str, is_unsolvable: bool) -> None:
        super().__init__(host, message, remedy=remedy)
        self.is_unsolvable = is_unsolvable


def build_error(host: str, output: bytes) -> HostError:
    """uv's complaint in one sentence."""
    reason = uv_reason(output)
    text = output.decode("utf-8", "replace").lower()
    if "no space left" in text or "disk quota" in text:
        return UnsuitableError(
            host,
            f"no space left for the environment: {reason}",
            remedy="free some on the disk of its workdir, or set workdir to another one",
        )
    offline = any(word in text for word in ("dns error", "error sending request", "timed out"))
    return BuildError(
        host,
        f"its environment cannot be built: {reason}",
        remedy="can it reach the package index? packages.index_url and find_links name another"
        if offline
        else "see packages in the inventory: index_url, find_links, torch_backend",
        is_unsolvable="no solution found" in text or "unsatisfiable" in text,
    )


def uv_reason(output: bytes) -> str:
    """What uv gives as its reason, from its last error on, without the drawing around it."""
    lines = [
        text
        for line in clean_lines(output, limit=400)
        if (text := re.sub(r"[\u2500-\u257f\u25b6\u00d7]+", " ", line).strip())
    ]
    starts = [
        number
        for number, line in enumerate(lines)
        if re.match(r"error:|No solution found|Failed to|failed to", line)
    ]
    chosen = lines[starts[-1] :] if starts else lines[-2:]
    sentence = " ".join(line for line in chosen if not line.startswith("hint:"))
    sentence = re.sub(r"\s+", " ", sentence).removeprefix("error: ").rstrip(".")
    return (sentence[:397] + "…" if len(sentence) > 400 else sentence) or "uv gave no reason"
