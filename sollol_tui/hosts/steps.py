"""What provisioning says while it works, and what stands fixed while it works on one host."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.installed import Installed, look
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.uv import OFFERED_PYTHON
from sollol_tui.hosts.wheelhouse import Wheelhouse
from sollol_tui.hosts.workdir import objection
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.facts import HostFacts, Python
from sollol_tui.model.folder import Folder
from sollol_tui.model.inventory import Packages
from sollol_tui.model.torch_build import torch_build


class StepState(StrEnum):
    CHECKING = "checking"
    UNCHANGED = "unchanged"
    WORKING = "working"
    DONE = "done"
    WOULD = "would"  # be done, if this were no dry run


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step is doing now; `name` is workdir, payload, uv, python, wheels, environment or
    selfcheck. `fraction` is how much of it is done, of 1, where that can be known."""

    name: str
    state: StepState
    detail: str = ""
    fraction: float | None = None

    @property
    def progress(self) -> str:
        """ "43%  180.0 MiB of 420.0 MiB"."""
        share = "" if self.fraction is None else f"{int(100 * self.fraction)}%"
        return "  ".join(filter(None, (share, self.detail)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`build` is the build of torch that the host gets."""

    connection: HostConnection
    facts: HostFacts
    packages: Packages
    build: str
    accelerator: str
    env: Mapping[str, str]
    root: Path
    payload_hash: str
    sums: str
    lock: str
    requirements: str

    @classmethod
    async def read(
        cls,
        connection: HostConnection,
        facts: HostFacts,
        packages: Packages,
        *,
        accelerator: str,
        env: Mapping[str, str],
    ) -> "Site":
        """`accelerator` is cpu, cuda or rocm, `env` applies to what provisioning runs there. Raises
        UnsuitableError when no build of torch fits the host."""
        host = connection.host.name
        if facts.system != "Linux":
            raise UnsuitableError(
                host,
                f"runs {facts.system or 'an unknown system'}; workers run Linux",
                remedy="leave it out of the job",
            )
        return await asyncio.to_thread(cls._read, connection, facts, packages, accelerator, env)

    @classmethod
    def _read(
        cls,
        connection: HostConnection,
        facts: HostFacts,
        packages: Packages,
        accelerator: str,
        env: Mapping[str, str],
    ) -> "Site":
        root = payloads.payload_root()
        return cls(
            connection=connection,
            facts=facts,
            packages=packages,
            build=torch_build(connection.host.name, facts, accelerator, packages.torch_backend),
            accelerator=accelerator,
            env=env,
            root=root,
            payload_hash=payloads.payload_hash(root),
            sums=payloads.payload_sums(root),
            lock=(root / payloads.LOCK).read_text(),
            requirements=(root / payloads.REQUIREMENTS).read_text(),
        )

    @property
    def host(self) -> str:
        return self.connection.host.name

    @property
    def workdir(self) -> str:
        return self.facts.workdir

    def wheelhouse(self) -> Wheelhouse | None:
        """Raises InputError when the inventory names one that cannot be used."""
        named = self.packages.wheelhouse
        return None if named is None else Wheelhouse.read(named)

    def env_id(self, python_version: str) -> str:
        """Changes with everything that decides what an environment holds."""
        parts = (self.requirements, self.lock, self.build or self.accelerator, python_version)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def candidates(self) -> dict[str, Python]:
        """The environments that would do, by id, in the order in which they are tried."""
        pythons = self.facts.pythons or (Python(path="", version=OFFERED_PYTHON),)
        return {self.env_id(python.version): python for python in pythons}

    def check_folder(self, folder: Folder) -> None:
        """Raises UnsuitableError when the workdir is not ours to close and fill."""
        against = objection(folder)
        if against is not None:
            raise UnsuitableError(
                self.host,
                f"{folder.path} cannot be its workdir: {against.reason}",
                remedy=against.remedy,
            )

    async def look(self) -> Installed:
        return await look(
            self.connection,
            self.workdir,
            env_ids=tuple(self.candidates),
            payload=self.payload_hash,
            sums=self.sums,
        )
