"""Makes a host able to train: workdir, payload, uv, Python, environment, self-check.

Each step looks first and works only where something is missing, so a second run changes nothing and
costs one round trip. What a killed run left half done never looks whole.
"""

import asyncio
import hashlib
import json
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import uv

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.build import BuildError, build_environment, install_options, uv_reason
from sollol_tui.hosts.commands import last_answer
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.installed import Installed, look
from sollol_tui.hosts.shell import assignments, quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import file_sha256, send_file
from sollol_tui.model.errors import CommandError, UnsuitableError
from sollol_tui.model.facts import HostFacts, Python
from sollol_tui.model.inventory import Packages
from sollol_tui.model.text import clean

__all__ = ["Environment", "Step", "StepState", "provision"]

SHORT_S: Final = 60.0
PYTHON_S: Final = 600.0  # uv fetches a Python
SELFCHECK_S: Final = 300.0  # the first import of torch from a cold disk
_OFFERED_PYTHON: Final = "3.12"


class StepState(StrEnum):
    CHECKING = "checking"
    UNCHANGED = "unchanged"
    WORKING = "working"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step is doing now; `name` is workdir, payload, uv, python, environment, selfcheck."""

    name: str
    state: StepState
    detail: str = ""


async def provision(
    connection: HostConnection,
    facts: HostFacts,
    packages: Packages,
    *,
    accelerator: str,
    env: Mapping[str, str],
    report: Callable[[Step], None],
    recreate: bool = False,
) -> Environment:
    """Makes the host able to train; a second run changes nothing, unless it is to `recreate` the
    environment. `accelerator` is cpu or cuda, `env` applies to what provisioning runs there. Raises
    UnsuitableError, TransferError or CommandError with the reason and the remedy."""
    if facts.system != "Linux":
        raise UnsuitableError(
            connection.host.name,
            f"runs {facts.system or 'an unknown system'}; workers run Linux",
            remedy="leave it out of the job",
        )
    site = await asyncio.to_thread(_Site.read, connection, facts, packages, accelerator, env)
    report(Step(name="environment", state=StepState.CHECKING))
    seen = await site.look()
    if recreate:
        seen = replace(seen, environments=(), checked={})
    work = _Work(site=site, seen=seen, report=report, recreate=recreate)
    await work.prepare_workdir()
    await work.send_payload()
    env_id, python = await work.ensure_environment()
    environment = Environment(
        python=f"{facts.workdir}/envs/{env_id}/bin/python",
        payload=f"{facts.workdir}/payload/{site.payload_hash}",
        env_id=env_id,
        payload_hash=site.payload_hash,
    )
    fingerprint = await work.selfcheck(environment)
    if accelerator != "cpu" and fingerprint.get("accelerator") == "cpu":
        raise UnsuitableError(
            connection.host.name,
            f"torch {clean(str(fingerprint.get('torch')), limit=40)} sees no GPU there with "
            f"Python {python}",
            remedy="does nvidia-smi work, and is the driver new enough for this build of torch?",
        )
    return replace(environment, changed=work.changed, fingerprint=fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """All that stands fixed while one host is provisioned."""

    connection: HostConnection
    facts: HostFacts
    packages: Packages
    accelerator: str
    env: Mapping[str, str]
    root: Path
    payload_hash: str
    sums: str
    lock: str
    requirements: str

    @classmethod
    def read(
        cls,
        connection: HostConnection,
        facts: HostFacts,
        packages: Packages,
        accelerator: str,
        env: Mapping[str, str],
    ) -> "_Site":
        root = payloads.payload_root()
        return cls(
            connection=connection,
            facts=facts,
            packages=packages,
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

    def env_id(self, python_version: str) -> str:
        """Changes with everything that decides what an environment holds."""
        parts = (self.requirements, self.lock, self.accelerator, python_version)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def candidates(self) -> dict[str, Python]:
        """The environments that would do, by id, in the order in which they are tried."""
        pythons = self.facts.pythons or (Python(path="", version=_OFFERED_PYTHON),)
        return {self.env_id(python.version): python for python in pythons}

    async def look(self) -> Installed:
        return await look(
            self.connection,
            self.facts.workdir,
            env_ids=tuple(self.candidates),
            payload=self.payload_hash,
            sums=self.sums,
        )


class _Work:
    """The steps, in order. Each reports what it finds before it touches anything."""

    def __init__(
        self, *, site: _Site, seen: Installed, report: Callable[[Step], None], recreate: bool
    ) -> None:
        self.changed = False
        self._recreate = recreate
        self._site = site
        self._seen = seen
        self._report = report
        self._connection = site.connection
        self._workdir = site.facts.workdir

    def _say(self, name: str, state: StepState, detail: str = "") -> None:
        self.changed = self.changed or state is StepState.DONE
        self._report(Step(name=name, state=state, detail=detail))

    async def prepare_workdir(self) -> None:
        if self._seen.workdir_mode == "700":
            self._say("workdir", StepState.UNCHANGED, self._workdir)
            return
        self._say("workdir", StepState.WORKING, self._workdir)
        folder = quote(self._workdir)
        try:
            await self._connection.run(
                f"umask 077; mkdir -p -- {folder} && chmod 700 {folder} && test -O {folder}",
                timeout_s=SHORT_S,
            )
        except CommandError as error:
            raise UnsuitableError(
                self._site.host,
                f"the workdir {clean(self._workdir)} cannot be used: {error.message}",
                remedy="set workdir to a folder that this account owns",
            ) from None
        self._say("workdir", StepState.DONE, self._workdir)

    async def send_payload(self) -> None:
        site = self._site
        if self._seen.payload == "whole":
            self._say("payload", StepState.UNCHANGED, site.payload_hash)
            return
        altered = "was altered there; " if self._seen.payload else ""
        self._say("payload", StepState.WORKING, f"{altered}sending {site.payload_hash}")
        text = _RECEIVE_PAYLOAD
        variables = {"folder": f"{self._workdir}/payload", "hash": site.payload_hash}
        archive = await asyncio.to_thread(payloads.payload_tar, site.root)
        command = f"{assignments(variables)}\n{text}"
        await self._connection.run(command, input=archive, timeout_s=SHORT_S)
        self._say("payload", StepState.DONE, site.payload_hash)

    async def ensure_environment(self) -> tuple[str, str]:
        """The id of an environment that is built to its end, and its Python's version. The newest
        Python comes first; one for which no set of packages exists makes way for the next."""
        candidates = self._site.candidates
        for env_id in self._seen.environments:
            if env_id in candidates:
                version = candidates[env_id].version
                self._say("python", StepState.UNCHANGED, version)
                self._say("environment", StepState.UNCHANGED, env_id)
                return env_id, version
        uv_path = await self._ensure_uv()
        refused: BuildError | None = None
        for env_id, python in candidates.items():
            path = python.path or await self._fetch_python(uv_path)
            self._say("python", StepState.UNCHANGED, f"{python.version} at {path}")
            try:
                await self._build(env_id, path, python.version, uv_path)
            except BuildError as error:
                if not error.is_unsolvable:
                    raise
                refused = refused or error
            else:
                return env_id, python.version
        assert refused is not None
        raise refused

    async def _build(self, env_id: str, python: str, version: str, uv_path: str) -> None:
        site = self._site
        options, constraint, backend = install_options(
            site.packages, accelerator=site.accelerator, arch=site.facts.arch, lock=site.lock
        )
        what = f"Python {version}, {constraint or site.accelerator}"
        self._say("environment", StepState.WORKING, f"building for {what}")
        built = await build_environment(
            self._connection,
            variables={
                "workdir": self._workdir,
                "id": env_id,
                "payload": f"{self._workdir}/payload/{site.payload_hash}",
                "uv": uv_path,
                "python": python,
                "constraint": constraint,
                "backend": backend,
                "recreate": "yes" if self._recreate else "",
            },
            options=options,
            env=site.env,
            on_wait=lambda: self._say(
                "environment", StepState.WORKING, "waiting for another provisioning of this host"
            ),
        )
        self._say("environment", StepState.DONE if built else StepState.UNCHANGED, env_id)

    async def _ensure_uv(self) -> str:
        """A uv that runs there: ours, pushed, where the machines are alike; else the host's own."""
        ours, facts = Path(uv.find_uv_bin()), self._site.facts
        target = f"{self._workdir}/bin/uv"
        alike = (platform.system(), platform.machine()) == (facts.system, facts.arch)
        if alike and facts.libc == "glibc":
            if self._seen.uv_bytes == ours.stat().st_size:
                self._say("uv", StepState.UNCHANGED, target)
                return target
            self._say("uv", StepState.WORKING, "sending ours")
            sha256 = await asyncio.to_thread(file_sha256, ours)
            await send_file(self._connection, ours, target, sha256, mode=0o700)
            done = await self._run_uv(target, "--version", timeout_s=SHORT_S)
            if done is not None:
                self._say("uv", StepState.DONE, clean(done, limit=60))
                return target
        if facts.uv and await self._run_uv(facts.uv, "--version", timeout_s=SHORT_S) is not None:
            self._say("uv", StepState.UNCHANGED, facts.uv)
            return facts.uv
        raise UnsuitableError(
            self._site.host,
            f"needs uv for {facts.system} {facts.arch} ({facts.libc}); ours is for "
            f"{platform.system()} {platform.machine()}",
            remedy="install uv there for this account; it needs no root",
        )

    async def _run_uv(self, path: str, *arguments: str, timeout_s: float) -> str | None:
        done = await self._connection.run(quote(path, *arguments), timeout_s=timeout_s, check=False)
        return done.stdout.decode("utf-8", "replace").strip() if done.exit_status == 0 else None

    async def _fetch_python(self, uv_path: str) -> str:
        """A Python of uv's own inside the workdir, for a host that has none we can use."""
        site = self._site
        self._say("python", StepState.WORKING, f"fetching {_OFFERED_PYTHON}")
        mirror = ["--mirror", site.packages.python_mirror] if site.packages.python_mirror else []
        folder = f"{self._workdir}/python"
        exports = {**site.env, "UV_PYTHON_INSTALL_DIR": folder, "NO_COLOR": "1"}
        fetch = quote(uv_path, "python", "install", "--no-bin", "--no-progress", *mirror)
        find = quote(uv_path, "python", "find", "--managed-python", "--no-project")
        done = await self._connection.run(
            f"export {assignments(exports)}; {fetch} {_OFFERED_PYTHON} >&2 && "
            f"{find} {_OFFERED_PYTHON}",
            timeout_s=PYTHON_S,
            check=False,
        )
        path = clean(done.stdout).strip()
        if done.exit_status != 0 or not path.startswith("/"):
            raise UnsuitableError(
                site.host,
                f"has no Python 3.11 to 3.13, and fetching one failed: {uv_reason(done.stderr)}",
                remedy="install python3.12 there, or set packages.python_mirror",
            )
        self._say("python", StepState.DONE, path)
        return path

    async def selfcheck(self, environment: Environment) -> dict[str, Any]:
        """What the self-check says there, asked again only when environment or payload changed."""
        known = self._seen.checked.get(environment.env_id)
        if known is not None and self._seen.payload == "whole" and not self.changed:
            self._say("selfcheck", StepState.UNCHANGED, _describe(known))
            return known
        self._say("selfcheck", StepState.WORKING, "importing torch, multiplying a matrix")
        prefix = f"export {assignments(self._site.env)}; " if self._site.env else ""
        done = await self._connection.run(
            prefix + environment.command("remote.selfcheck"), timeout_s=SELFCHECK_S, check=False
        )
        answer = last_answer(done.stdout)
        if done.exit_status != 0 or answer is None:
            reason = (answer or {}).get("error") or uv_reason(done.stderr)
            raise UnsuitableError(
                self._site.host,
                f"its environment does not work: {clean(str(reason), limit=400)}",
                remedy=f"sollol provision {self._site.host} --recreate",
            )
        file = f"{self._workdir}/envs/{environment.env_id}/.selfcheck.{environment.payload_hash}"
        await self._connection.run(
            f'umask 077; file={quote(file)}; cat >"$file.$$" && mv -f -- "$file.$$" "$file"',
            input=json.dumps(answer).encode() + b"\n",
            timeout_s=SHORT_S,
        )
        self._say("selfcheck", StepState.DONE, _describe(answer))
        return answer


_RECEIVE_PAYLOAD: Final = r"""
umask 077
mkdir -p -- "$folder" && cd "$folder" || exit 1
part=$(mktemp -d "$hash.XXXXXX") || exit 1
tar -xf - -C "$part" -o || { rm -rf -- "$part"; exit 1; }
sync -f "$part" 2>/dev/null
if [ -e "$hash" ]; then
  old=$(mktemp -d "$hash.XXXXXX") && mv -- "$hash" "$old" && rm -rf -- "$old"
fi
mv -T -- "$part" "$hash" 2>/dev/null || { rm -rf -- "$part"; [ -d "$hash/remote" ]; }
"""


def _describe(answer: Mapping[str, Any]) -> str:
    parts = (f"{key} {answer[key]}" for key in ("python", "torch", "accelerator") if key in answer)
    return re.sub(r"^accelerator ", "", clean(", ".join(parts), limit=120))
