"""A uv that runs on a host, and a Python for its environments: found there, or brought.

Each way is really tried; when none works, the reasons of all stand in one sentence.
"""

import asyncio
import platform
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import uv

from sollol_tui.hosts.environment import DIGEST
from sollol_tui.hosts.shell import assignments, quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import file_sha256, send_file
from sollol_tui.hosts.wheelhouse import Wheel, Wheelhouse, extract_uv
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import Packages
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_bytes

OLDEST_UV: Final = (0, 9)  # knows the builds of torch by the names that we use
OFFERED_PYTHON: Final = "3.12"
_SHORT_S: Final = 60.0
_PIP_S: Final = 300.0
_PYTHON_S: Final = 600.0  # uv fetches a Python

# Its program is all that is kept: it needs neither the Python nor the folder it came with.
_INSTALL_BY_PIP: Final = r"""
umask 077
mkdir -p -- "$workdir/bin" || exit 1
part=$(mktemp -d "$workdir/bin/uv.XXXXXX") || exit 1
trap 'rm -rf -- "$part"' EXIT
trap 'exit 1' HUP INT TERM
"$python" -m venv "$part" >"$part/log" 2>&1 || { cat "$part/log" >&2; exit 1; }
"$part/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
  --timeout 15 --retries 1 --only-binary :all: "$@" "uv>=$oldest" >"$part/log" 2>&1 ||
  { cat "$part/log" >&2; exit 1; }
"$part/bin/uv" --version && mv -f -- "$part/bin/uv" "$workdir/bin/uv"
"""


# Says of the uv in $workdir what `ThereUv` parses: a file that a broken disk or a stranger altered
# has the size that it had.
LOOK_FOR_UV: Final = (
    DIGEST
    + r"""
uv=$workdir/bin/uv
[ -f "$uv" ] && [ -x "$uv" ] && say uv "$(($(wc -c <"$uv"))) $(digest <"$uv")"
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThereUv:
    """The uv that lies in a workdir, by what its host says of it; no sum where there is none."""

    size: int = 0
    sha256: str = ""

    @classmethod
    def parse(cls, text: str) -> "ThereUv":
        match = re.fullmatch(r"(\d{1,15}) ([0-9a-f]{64})", text)
        return cls(size=int(match[1]), sha256=match[2]) if match else NO_UV

    def equals(self, source: Path) -> bool:
        return bool(self.sha256) and self.sha256 == _sum_of(source)

    def is_damaged(self, facts: HostFacts) -> bool:
        """Whether it was ours and is no longer. One of another size may be that of another version
        of sollol, which needs no mending while nobody builds with it."""
        if not self.sha256 or not ours_fits(facts):
            return False
        return self.size in (0, ours().stat().st_size) and not self.equals(ours())


NO_UV: Final = ThereUv()


def _sum_of(source: Path) -> str:
    told = source.stat()
    return _sum_at(source, told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=4)
def _sum_at(source: Path, size: int, mtime_ns: int) -> str:
    """Counted once for all hosts; `size` and `mtime_ns` tell a file that was replaced."""
    return file_sha256(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """`path` is absolute on the host; `detail` says what was done, "" when it was there."""

    path: str
    detail: str = ""


def ours() -> Path:
    return Path(uv.find_uv_bin())


def ours_fits(facts: HostFacts) -> bool:
    """Whether the uv of this machine is made for a machine like the host."""
    alike = (platform.system(), platform.machine()) == (facts.system, facts.arch)
    # A uv for musl carries its libc with it.
    return alike and (platform.libc_ver()[0] != "glibc" or facts.libc == "glibc")


def kind_of(facts: HostFacts) -> str:
    return f"{facts.system} {facts.arch} ({facts.libc})"


async def find_uv(
    connection: HostConnection,
    facts: HostFacts,
    packages: Packages,
    wheelhouse: Wheelhouse | None,
    *,
    there: ThereUv,
    env: Mapping[str, str],
    say: Callable[[str], None],
) -> Uv:
    """Ours or the wheelhouse's, pushed; else the host's own; else one that pip installs there.
    `there` is the one that lies in the workdir. Raises UnsuitableError with the reason of each
    refusal."""
    search = _Search(connection, f"{facts.workdir}/bin/uv", [])
    if ours_fits(facts):
        if found := await search.pushed(ours(), there, "sending ours", say):
            return found
    else:
        search.reasons.append(f"ours is for {platform.system()} {platform.machine()}")
        wheel = wheelhouse.uv(facts) if wheelhouse is not None else None
        if wheel is not None:
            if found := await search.from_wheel(wheel, there, say):
                return found
        elif there.sha256 and await search.runs(search.target):
            return Uv(path=search.target)
        elif wheelhouse is not None:
            search.reasons.append("the wheelhouse has none that fits")
    if not facts.uv:
        search.reasons.append("it has none of its own")
    elif await search.runs(facts.uv):
        return Uv(path=facts.uv)
    if wheelhouse is None:
        python = facts.pythons[0].path if facts.pythons else "python3"
        if found := await search.by_pip(python, packages, env, say):
            return found
    raise UnsuitableError(
        connection.host.name,
        f"no uv runs on {kind_of(facts)}: {'; '.join(search.reasons)}",
        remedy="install uv there for this account; it needs no root",
    )


@dataclass(slots=True)
class _Search:
    connection: HostConnection
    target: str
    reasons: list[str]

    async def pushed(
        self, source: Path, there: ThereUv, doing: str, say: Callable[[str], None]
    ) -> Uv | None:
        sha256 = await asyncio.to_thread(_sum_of, source)
        if there.sha256 == sha256:
            return Uv(path=self.target)
        say(f"{doing}, {format_bytes(source.stat().st_size)}")
        await send_file(self.connection, source, self.target, sha256, mode=0o700)
        version = await self.runs(self.target)
        return Uv(path=self.target, detail=version) if version else None

    async def from_wheel(
        self, wheel: Wheel, there: ThereUv, say: Callable[[str], None]
    ) -> Uv | None:
        with tempfile.TemporaryDirectory() as folder:
            program = await asyncio.to_thread(extract_uv, wheel, Path(folder))
            return await self.pushed(program, there, "sending the wheelhouse's", say)

    async def by_pip(
        self,
        python: str,
        packages: Packages,
        env: Mapping[str, str],
        say: Callable[[str], None],
    ) -> Uv | None:
        say(f"installing by pip with {clean(python, limit=100)}")
        options = []
        if packages.index_url is not None:
            options += ["--index-url", packages.index_url]
        if packages.find_links is not None:
            options += ["--find-links", packages.find_links]
        variables = {
            "workdir": self.target.removesuffix("/bin/uv"),
            "python": python,
            "oldest": ".".join(map(str, OLDEST_UV)),
        }
        exports = f"export {assignments(env)}\n" if env else ""
        done = await self.connection.run(
            f"{exports}{assignments(variables)}\nset -- {quote(*options)}\n{_INSTALL_BY_PIP}",
            timeout_s=_PIP_S,
            check=False,
        )
        if done.exit_status == 0:
            return Uv(path=self.target, detail=f"{clean(done.stdout, limit=60)} by pip")
        self.reasons.append(f"{clean(python, limit=100)} -m venv: {pip_reason(done.stderr)}")
        return None

    async def runs(self, path: str) -> str:
        """What it says its version is; "" after a reason was noted why it will not do."""
        done = await self.connection.run(quote(path, "--version"), timeout_s=_SHORT_S, check=False)
        said = clean(done.stdout, limit=60).strip()
        number = re.search(r"(\d{1,6})\.(\d{1,6})", said)
        if done.exit_status != 0 or number is None:
            complaint = done.complaint or f"exit status {done.exit_status}"
            self.reasons.append(f"{clean(path, limit=100)} does not run ({complaint})")
        elif (int(number[1]), int(number[2])) < OLDEST_UV:
            oldest = ".".join(map(str, OLDEST_UV))
            self.reasons.append(f"{clean(path, limit=100)} is {said}, older than {oldest}")
        else:
            return said
        return ""


def pip_reason(output: bytes) -> str:
    """The line of venv's or pip's complaint that says most."""
    lines = [line.strip() for line in clean_lines(output, limit=200) if line.strip()]
    telling = [
        line for line in lines if re.search(r"^ERROR:|ensurepip is not|not found|Error:", line)
    ]
    chosen = telling or lines[-1:]
    return chosen[-1].removeprefix("ERROR: ").rstrip(".") if chosen else "it gave no reason"


async def fetch_python(
    connection: HostConnection,
    facts: HostFacts,
    packages: Packages,
    uv_path: str,
    env: Mapping[str, str],
) -> str:
    """A Python of uv's own inside the workdir, for a host that has none we can use; its path.
    Raises UnsuitableError with uv's reason."""
    mirror = ["--mirror", packages.python_mirror] if packages.python_mirror else []
    exports = {**env, "UV_PYTHON_INSTALL_DIR": f"{facts.workdir}/python", "NO_COLOR": "1"}
    fetch = quote(uv_path, "python", "install", "--no-bin", "--no-progress", *mirror)
    find = quote(uv_path, "python", "find", "--managed-python", "--no-project")
    done = await connection.run(
        f"export {assignments(exports)}; {fetch} {OFFERED_PYTHON} >&2 && {find} {OFFERED_PYTHON}",
        timeout_s=_PYTHON_S,
        check=False,
    )
    path = clean(done.stdout).strip()
    if done.exit_status != 0 or not path.startswith("/"):
        where = "from packages.python_mirror " if packages.python_mirror else ""
        raise UnsuitableError(
            connection.host.name,
            f"has no Python 3.11 to 3.13, and fetching {OFFERED_PYTHON} {where}failed: "
            f"{uv_reason(done.stderr)}",
            remedy="install python3.12 there, or let packages.python_mirror name another source",
        )
    return path


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
