"""The user's folder of wheels: which of them a host needs, whether one is missing, and their way
there, each under the hash of its content and only once.

Refuses to fetch anything: it is for hosts that have no way out.
"""

import asyncio
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import Report, file_sha256, send_file, silent
from sollol_tui.model.errors import InputError, UnsuitableError
from sollol_tui.model.facts import HostFacts

_NEWEST_GLIBC: Final = 60  # 2.60: a host that is older than a wheel says so when it is installed
_NEWEST_MUSL: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel file of the wheelhouse."""

    path: Path
    name: str
    version: Version
    tags: frozenset[Tag]
    size: int

    @property
    def place(self) -> str:
        """Where it lies below a workdir. Reads the file."""
        return f"wheels/{_sha256(self.path, *_mark(self.path))[:16]}/{self.path.name}"

    @property
    def sha256(self) -> str:
        return _sha256(self.path, *_mark(self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheelhouse:
    folder: Path
    wheels: tuple[Wheel, ...]

    @classmethod
    def read(cls, folder: str) -> "Wheelhouse":
        """Raises InputError when there is no such folder, or no wheel in it."""
        path = Path(folder).expanduser().resolve()
        try:
            found = sorted(path.glob("*.whl")) if path.is_dir() else []
            wheels = tuple(_wheels(found))
        except OSError as error:
            raise InputError.single(folder, f"cannot be read: {error.strerror}") from None
        if not wheels:
            what = "holds no wheels" if path.is_dir() else "is no folder"
            raise InputError.single(folder, f"{what}; packages.wheelhouse names a folder of them")
        return cls(folder=path, wheels=wheels)

    def chosen(
        self, host: str, facts: HostFacts, python: str, build: str, lock: str
    ) -> tuple[Wheel, ...]:
        """The wheels from which an environment for `python` ("3.12") with this build of torch can
        be made on the host. Raises MissingWheelsError with those that are not there."""
        pins, missing = _pins(lock, facts, python), []
        fitting = defaultdict(list)
        tags = _tags(facts, python)
        for wheel in self.wheels:
            if not wheel.tags.isdisjoint(tags):
                fitting[wheel.name].append(wheel)
        kept: list[Wheel] = []
        for name, version in pins.items():
            candidates = [w for w in fitting[name] if w.version.public == version]
            if name == "torch":
                candidates = _built(candidates, build)
            if candidates:
                kept.append(max(candidates, key=lambda wheel: wheel.version))
            else:
                missing.append(f"{name} {version}")
        if missing:
            shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" * (len(missing) > 4))
            raise MissingWheelsError(
                host,
                f"the wheelhouse {self.folder} lacks {shown} for Python {python} on "
                f"{facts.arch}{f' ({build})' if build else ''}",
                remedy="fill it as the README says, for this kind of machine",
                missing=len(missing),
            )
        if build != "cpu":  # what torch itself pins for its GPUs stands in no lock of ours
            own = {Requirement(line).name for line in _requirements(lock)} | {"uv"}
            kept += [w for name, found in fitting.items() if name not in own for w in found]
        return tuple(kept)

    def uv(self, facts: HostFacts) -> Wheel | None:
        """The newest uv in it that fits the host."""
        tags = _tags(facts, "3.11")
        fitting = [w for w in self.wheels if w.name == "uv" and not w.tags.isdisjoint(tags)]
        return max(fitting, key=lambda wheel: wheel.version, default=None)


class MissingWheelsError(UnsuitableError):
    """The wheelhouse cannot serve this Python: `missing` of its packages are not there. Another
    Python it may serve."""

    def __init__(self, host: str, message: str, *, remedy: str, missing: int) -> None:
        super().__init__(host, message, remedy=remedy)
        self.missing = missing


def extract_uv(wheel: Wheel, folder: Path) -> Path:
    """Takes the program out of a wheel of uv. Raises InputError when there is none in it."""
    member = f"uv-{wheel.version}.data/scripts/uv"
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            (folder / "uv").write_bytes(archive.read(member))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError.single(str(wheel.path), f"holds no uv: {error}") from None
    return folder / "uv"


async def send_wheels(
    connection: HostConnection,
    workdir: str,
    wheels: Collection[Wheel],
    there: Collection[str],
    report: Report = silent,
) -> tuple[str, ...]:
    """Sends those whose place below the workdir is not `there` already. Returns the folders that
    hold all of them."""
    places = await asyncio.to_thread(_places, wheels)
    wanted = {place: wheel for place, wheel in places.items() if place not in there}
    total, before = sum(wheel.size for wheel in wanted.values()), 0
    for place, wheel in wanted.items():

        def advance(done: int, _size: int, before: int = before) -> None:
            report(before + done, total)

        await send_file(connection, wheel.path, f"{workdir}/{place}", wheel.sha256, report=advance)
        before += wheel.size
    return tuple(f"{workdir}/{place.rpartition('/')[0]}" for place in places)


def _places(wheels: Collection[Wheel]) -> dict[str, Wheel]:
    return {wheel.place: wheel for wheel in wheels}


def _wheels(files: list[Path]) -> Iterator[Wheel]:
    for file in files:
        try:
            name, version, _, tags = parse_wheel_filename(file.name)
        except InvalidWheelFilename:
            continue
        yield Wheel(path=file, name=name, version=version, tags=tags, size=file.stat().st_size)


def _requirements(lock: str) -> Iterator[str]:
    lines = (line.strip() for line in lock.splitlines())
    return (line for line in lines if line and not line.startswith("#"))


def _pins(lock: str, facts: HostFacts, python: str) -> dict[str, str]:
    """The lock's versions by name, as its markers select them on this host."""
    where = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": facts.arch,
        "python_version": python,
        "python_full_version": f"{python}.99",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    }
    pins = {}
    for line in _requirements(lock):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(where):
            pins[requirement.name] = str(requirement.specifier).removeprefix("==")
    return pins


def _built(torches: list[Wheel], build: str) -> list[Wheel]:
    """The wheels of torch of this build; one that does not say is the public index's: CUDA on
    machines that have it."""
    named = [wheel for wheel in torches if wheel.version.local == build]
    unnamed = [wheel for wheel in torches if wheel.version.local is None]
    if build in ("", "auto"):
        return [w for w in torches if w.version.local != "cpu"] or torches
    return named or ([] if build.startswith("rocm") else unnamed)


@lru_cache(maxsize=32)
def _tags_of(arch: str, libc: str, minor: int) -> frozenset[Tag]:
    if libc == "musl":
        platforms = [f"musllinux_1_{n}_{arch}" for n in range(_NEWEST_MUSL + 1)]
    else:
        platforms = [f"manylinux_2_{n}_{arch}" for n in range(5, _NEWEST_GLIBC)]
        platforms += [f"manylinux{old}_{arch}" for old in ("1", "2010", "2014")]
    platforms.append(f"linux_{arch}")
    abi = f"cp3{minor}"
    return frozenset(
        (
            *cpython_tags((3, minor), abis=[abi], platforms=platforms),
            *compatible_tags((3, minor), interpreter=abi, platforms=platforms),
        )
    )


def _tags(facts: HostFacts, python: str) -> frozenset[Tag]:
    return _tags_of(facts.arch, facts.libc, int(python.split(".")[1]))


def _mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=1024)
def _sha256(path: Path, _size: int, _changed_ns: int) -> str:
    return file_sha256(path)
