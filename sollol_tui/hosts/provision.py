"""Makes a host able to train: workdir, payload, uv, Python, environment, self-check.

Each step works only where something is missing, which one script asked about all of them before: a
second run changes nothing and runs nothing else there. What a killed run left half done never looks
whole.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.build import BuildError, build_environment, install_options
from sollol_tui.hosts.disk import disk_error
from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.installed import Installed
from sollol_tui.hosts.selfcheck import run_selfcheck
from sollol_tui.hosts.shell import ENGLISH, assignments, quote
from sollol_tui.hosts.steps import Site, Step, StepState
from sollol_tui.hosts.uv import fetch_python, find_uv
from sollol_tui.hosts.wheelhouse import MissingWheelsError, Wheelhouse, send_wheels
from sollol_tui.hosts.workdir import make_private
from sollol_tui.model.diagnosis import judge_complaint
from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

__all__ = ["Environment", "Step", "StepState", "provision"]

SHORT_S: Final = 60.0


async def provision(
    site: Site, *, report: Callable[[Step], None], recreate: bool = False
) -> Environment:
    """Makes the host able to train; a second run changes nothing, unless it is to `recreate` the
    environment. Raises UnsuitableError, TransferError or CommandError with the reason and the
    remedy."""
    report(Step(name="environment", state=StepState.CHECKING))
    seen = await site.look()
    site.check_folder(seen.folder)
    if recreate:
        seen = replace(seen, environments=(), checked={})
    work = _Work(site=site, seen=seen, report=report, recreate=recreate)
    await work.prepare_workdir()
    await work.send_payload()
    env_id = await work.ensure_environment()
    environment = Environment(
        python=f"{site.workdir}/envs/{env_id}/bin/python",
        payload=f"{site.workdir}/payload/{site.payload_hash}",
        env_id=env_id,
        payload_hash=site.payload_hash,
    )
    fingerprint = await work.selfcheck(environment)
    wants_gpu = "cpu" not in (site.accelerator, site.build)
    if wants_gpu and fingerprint.get("accelerator") == "cpu":
        torch, python = (clean(str(fingerprint.get(key)), limit=40) for key in ("torch", "python"))
        raise UnsuitableError(
            site.host,
            f"torch {torch} sees no GPU there with Python {python}",
            remedy="does nvidia-smi or rocminfo work there, for this account?",
        )
    return replace(environment, changed=work.changed, fingerprint=fingerprint)


class _Work:
    """The steps, in order. Each reports what it finds before it touches anything."""

    def __init__(
        self, *, site: Site, seen: Installed, report: Callable[[Step], None], recreate: bool
    ) -> None:
        self.changed = False
        self._recreate = recreate
        self._site = site
        self._seen = seen
        self._report = report
        self._connection = site.connection
        self._workdir = site.workdir

    def _say(
        self, name: str, state: StepState, detail: str = "", fraction: float | None = None
    ) -> None:
        self.changed = self.changed or state is StepState.DONE
        self._report(Step(name=name, state=state, detail=detail, fraction=fraction))

    async def _store(self, what: str, command: str, data: bytes = b"") -> None:
        """Runs a command that writes below the workdir."""
        done = await self._connection.run(
            ENGLISH + command, input=data, timeout_s=SHORT_S, check=False
        )
        if done.exit_status != 0:
            raise disk_error(self._site.host, what, self._workdir, done.stderr)

    async def prepare_workdir(self) -> None:
        if self._seen.folder.is_private and self._seen.folder.is_writable:
            self._say("workdir", StepState.UNCHANGED, self._workdir)
            return
        self._say("workdir", StepState.WORKING, self._workdir)
        await make_private(self._connection, self._workdir)
        self._say("workdir", StepState.DONE, self._workdir)

    async def send_payload(self) -> None:
        site = self._site
        if self._seen.payload == "whole":
            self._say("payload", StepState.UNCHANGED, site.payload_hash)
            return
        altered = "was altered there; " if self._seen.payload else ""
        self._say("payload", StepState.WORKING, f"{altered}sending {site.payload_hash}")
        variables = {"folder": f"{self._workdir}/payload", "hash": site.payload_hash}
        archive = await asyncio.to_thread(payloads.payload_tar, site.root)
        await self._store("the payload", f"{assignments(variables)}\n{_RECEIVE_PAYLOAD}", archive)
        self._say("payload", StepState.DONE, site.payload_hash)

    async def ensure_environment(self) -> str:
        """The id of an environment that is built to its end. The newest Python comes first; one
        for which no set of packages exists makes way for the next."""
        candidates = self._site.candidates
        for env_id in self._seen.environments:
            if env_id in candidates:
                if self._seen.uv.is_damaged(self._site.facts):
                    await self._ensure_uv(None)
                version = candidates[env_id].version
                self._say("python", StepState.UNCHANGED, version)
                self._say("environment", StepState.UNCHANGED, env_id)
                return env_id
        wheelhouse = await asyncio.to_thread(self._site.wheelhouse)
        uv_path = await self._ensure_uv(wheelhouse)
        refused: UnsuitableError | None = None
        for env_id, python in candidates.items():
            try:
                folders = await self._send_wheels(wheelhouse, python.version)
                path = python.path or await self._fetch_python(uv_path)
                self._say("python", StepState.UNCHANGED, f"{python.version} at {path}")
                await self._build(env_id, path, python.version, uv_path, folders)
            except (BuildError, MissingWheelsError) as error:
                if isinstance(error, BuildError) and not error.another_python_may_do:
                    raise
                refused = _telling(refused, error)
            else:
                return env_id
        assert refused is not None
        raise refused

    async def _build(
        self, env_id: str, python: str, version: str, uv_path: str, folders: Sequence[str]
    ) -> None:
        site = self._site
        options, constraint, backend = install_options(
            site.packages, build=site.build, arch=site.facts.arch, lock=site.lock, wheels=folders
        )
        what = f"Python {version}, torch for {site.build or site.accelerator}"
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
            on_wait=lambda holder: self._say(
                "environment", StepState.WORKING, f"waiting for another provisioning: {holder}"
            ),
        )
        self._say("environment", StepState.DONE if built else StepState.UNCHANGED, env_id)

    async def _send_wheels(self, wheelhouse: Wheelhouse | None, version: str) -> tuple[str, ...]:
        """The folders on the host that then hold all that an environment needs; none without a
        wheelhouse."""
        if wheelhouse is None:
            return ()
        site = self._site
        chosen = wheelhouse.chosen(site.host, site.facts, version, site.build, site.lock)
        sent = 0

        def advance(done: int, total: int) -> None:
            nonlocal sent
            if done == total or done - sent >= total / 20:
                sent = done
                detail = f"{format_bytes(done)} of {format_bytes(total)}"
                self._say("wheels", StepState.WORKING, detail, done / total)

        folders = await send_wheels(
            self._connection, self._workdir, chosen, self._seen.wheels, advance
        )
        self._say("wheels", StepState.DONE if sent else StepState.UNCHANGED, f"{len(chosen)}")
        return folders

    async def _ensure_uv(self, wheelhouse: Wheelhouse | None) -> str:
        site = self._site
        found = await find_uv(
            self._connection,
            site.facts,
            site.packages,
            wheelhouse,
            there=self._seen.uv,
            env=site.env,
            say=lambda detail: self._say("uv", StepState.WORKING, detail),
        )
        state = StepState.DONE if found.detail else StepState.UNCHANGED
        self._say("uv", state, found.detail or found.path)
        return found.path

    async def _fetch_python(self, uv_path: str) -> str:
        site = self._site
        self._say("python", StepState.WORKING, "fetching one")
        path = await fetch_python(self._connection, site.facts, site.packages, uv_path, site.env)
        self._say("python", StepState.DONE, path)
        return path

    async def selfcheck(self, environment: Environment) -> dict[str, Any]:
        """What the self-check says there, asked again only when environment or payload changed."""
        known = self._seen.checked.get(environment.env_id)
        was_there = environment.env_id in self._seen.environments
        if known is not None and was_there and self._seen.payload == "whole":
            self._say("selfcheck", StepState.UNCHANGED, _describe(known))
            return known
        self._say("selfcheck", StepState.WORKING, "importing torch, multiplying a matrix")
        tried = await run_selfcheck(self._connection, environment.python)
        if tried.complaint:
            check = judge_complaint(self._site.host, environment.env_id, tried.complaint)
            raise UnsuitableError(
                self._site.host,
                f"its environment does not work: {check.reason}",
                remedy=check.remedy,
            )
        answer = dict(tried.answer)
        file = f"{self._workdir}/envs/{environment.env_id}/.selfcheck.{environment.payload_hash}"
        # Hosts may share the folder, and then two of them can have the same process ids.
        await self._store(
            "the self-check's answer",
            f'umask 077; file={quote(file)}; part=$(mktemp "$file.XXXXXX") && cat >"$part" && '
            'mv -f -- "$part" "$file"',
            json.dumps(answer).encode() + b"\n",
        )
        self._say("selfcheck", StepState.DONE, _describe(answer))
        return answer


def _telling(
    before: UnsuitableError | None, error: BuildError | MissingWheelsError
) -> UnsuitableError:
    """Of two refusals for two Pythons, the one whose remedy is the least work."""
    if isinstance(before, MissingWheelsError) and isinstance(error, MissingWheelsError):
        return min(before, error, key=lambda refusal: refusal.missing)
    return before or error


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
