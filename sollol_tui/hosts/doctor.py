"""Goes through the stages of one host and says what is well, what is not, and what to do about it.

Changes nothing unless told to fix, and then only what needs no root and loses nothing: it never
trusts a key, never touches ~/.ssh, never takes an environment from under a job.
"""

import asyncio
import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from asyncssh.config import SSHClientConfig

from sollol_tui.hosts.destination import destination
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.provision import provision
from sollol_tui.hosts.selfcheck import run_selfcheck
from sollol_tui.hosts.shell import quote
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.steps import Site
from sollol_tui.hosts.uv import ours_fits
from sollol_tui.hosts.workdir import Found, look_into, make_private, objection, remove_halves
from sollol_tui.model.diagnosis import (
    Check,
    Diagnosis,
    Outcome,
    Stage,
    damaged,
    judge_clock,
    judge_complaint,
    judge_gpu,
    judge_python,
    judge_shell,
    judge_system,
    judge_systemd,
    not_reached,
    ok,
)
from sollol_tui.model.errors import HostError, UnsuitableError, unexpected
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.folder import Folder, judge_disk, judge_workdir
from sollol_tui.model.inventory import ConnectionKind, Host, Packages
from sollol_tui.model.text import clean
from sollol_tui.model.torch_build import torch_build

ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What a job asks of a host: where host keys are, where packages come from, what a host trains
    on, and the bytes it needs for that. `fix` says to mend what can be mended safely."""

    known_hosts: Sequence[Path]
    packages: Packages
    accelerator_of: Callable[[Host, HostFacts], str]
    disk_needed: Mapping[str, int]
    fix: bool = False


Report = Callable[[str, Check], None]


async def diagnose_all(
    hosts: Sequence[Host], expected: Expectations, report: Report
) -> list[Diagnosis]:
    """All hosts at once, each on its own; the answers come in the hosts' order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(diagnose(host, expected, report)) for host in hosts]
    return [task.result() for task in tasks]


async def diagnose(host: Host, expected: Expectations, report: Report) -> Diagnosis:
    """Every stage of one host up to the first that failed. An error that nobody expected is a
    failed check too: it must not end the examination of the others."""
    chart = _Chart(host, report)
    try:
        await _examine(host, expected, chart)
    except HostError as error:
        chart.fail(error)
    except Exception as error:
        chart.fail(unexpected(host.name, error))
    return chart.diagnosis()


class _FailedError(HostError):
    """A check failed by judgement; it stands in the chart already."""


class _Chart:
    """The checks so far, and the stage that is under way."""

    def __init__(self, host: Host, report: Report) -> None:
        self._host = host
        self._report = report
        self._checks: list[Check] = []
        self._stages = list(Stage)
        self.facts: HostFacts | None = None
        self._error: HostError | None = None

    @property
    def stage(self) -> Stage:
        return self._stages[len(self._checks)]

    def note(self, check: Check) -> None:
        """Keeps the check of the stage under way; a failed one ends the examination."""
        assert check.stage is self.stage, (check.stage, self.stage)
        self._checks.append(check)
        self._report(self._host.name, check)
        if check.outcome is Outcome.FAILED:
            raise _FailedError(self._host.name, check.reason, remedy=check.remedy)

    def fail(self, error: HostError) -> None:
        self._error = error
        if isinstance(error, _FailedError):
            return
        check = Check(
            stage=self.stage,
            outcome=Outcome.FAILED,
            found="",
            reason=error.message,
            remedy=error.remedy,
        )
        self._checks.append(check)
        self._report(self._host.name, check)

    def diagnosis(self) -> Diagnosis:
        rest = [not_reached(stage) for stage in self._stages[len(self._checks) :]]
        return Diagnosis(
            host=self._host.name,
            checks=(*self._checks, *rest),
            facts=self.facts,
            error=self._error,
        )


async def _examine(host: Host, expected: Expectations, chart: _Chart) -> None:
    begun = time.monotonic()
    async with connect(host, expected.known_hosts) as connection:
        chart.note(await _ssh_check(host, expected, time.monotonic() - begun))
        chart.note(judge_shell(*await _time_shell(connection)))
        facts = await gather_facts(connection)
        chart.note(judge_system(facts))
        found = await look_into(connection, facts)
        workdir = _judged(found.folder)
        if expected.fix and workdir.fix:
            was_there = found.folder.exists
            await make_private(connection, facts.workdir)
            found = await look_into(connection, facts)
            done = "gave it mode 0700" if was_there else "made it, with mode 0700"
            workdir = replace(_judged(found.folder), fixed=done)
        chart.note(workdir)
        accelerator = expected.accelerator_of(host, facts)
        needed = expected.disk_needed.get(accelerator, max(expected.disk_needed.values()))
        chart.note(judge_disk(facts, found.folder, accelerator=accelerator, needed_bytes=needed))
        chart.note(
            judge_python(
                facts.pythons,
                host=host.name,
                has_uv=ours_fits(facts) or bool(facts.uv),
                is_uv_damaged=await asyncio.to_thread(found.uv.is_damaged, facts),
            )
        )
        gpu = judge_gpu(facts, host.limits.gpu_ids)
        build = ""
        if gpu.outcome is not Outcome.FAILED:  # raises for a driver too old for any torch
            build = torch_build(host.name, facts, accelerator, expected.packages.torch_backend)
        chart.note(gpu)
        wanted = "cpu" if build == "cpu" else accelerator
        chart.note(await _environment_check(connection, facts, found, wanted, expected))
        chart.note(judge_clock(facts.clock_skew_s))
        chart.note(judge_systemd(facts))
        chart.facts = facts


def _judged(folder: Folder) -> Check:
    against = objection(folder)
    return judge_workdir(
        folder, quote, None if against is None else (against.reason, against.remedy)
    )


class _PassedOver(SSHClientConfig):
    """~/.ssh/config by asyncssh's own rules, with the options that it passes over in silence."""

    _handlers = {  # noqa: RUF012 - as its base has it
        **SSHClientConfig._handlers,
        "stricthostkeychecking": ("StrictHostKeyChecking", SSHClientConfig._set_string),
        "controlmaster": ("ControlMaster", SSHClientConfig._set_string),
    }


def passed_over_options(host: Host) -> list[str]:
    """What ~/.ssh/config asks for this host and does not get, in words."""
    file = Path.home() / ".ssh" / "config"
    if host.connection is ConnectionKind.LOCAL or not file.is_file():
        return []
    user, port = host.user or (), host.port or ()
    config = _PassedOver.load(
        None, [file], False, False, False, getpass.getuser(), user, host.name, port
    )
    strict = str(config.get("StrictHostKeyChecking", "yes")).lower()
    master = str(config.get("ControlMaster", "no")).lower()
    said = []
    if strict != "yes":
        said.append(f"StrictHostKeyChecking {clean(strict, limit=40)}: keys are always checked")
    if master != "no":
        said.append(f"ControlMaster {clean(master, limit=40)}: connections are our own")
    return said


async def _ssh_check(host: Host, expected: Expectations, taken_s: float) -> Check:
    if host.connection is ConnectionKind.LOCAL:
        return ok(Stage.SSH, "this machine, without a network")
    place = await destination(host, expected.known_hosts)
    via = f" via {clean(', '.join(place.jumps))}" if place.jumps else ""
    where = f"{clean(place.user)}@{clean(place.address)} port {place.port}{via}"
    check = ok(Stage.SSH, f"{where}, key known, logged in after {taken_s:.2f} s")
    options = passed_over_options(host)
    told = f"~/.ssh/config is not followed in: {'; '.join(options)}" if options else ""
    return replace(check, reason=told)


async def _time_shell(connection: HostConnection) -> tuple[str, float]:
    """What the login shell prints before a command, and how long its start-up files take. Opening a
    channel and starting a command on it are a round trip each, which are not theirs."""
    limit_s = max(ANSWER_S, connection.host.connect_timeout_s)
    try:
        async with asyncio.timeout(limit_s):
            begun = time.monotonic()
            process = await connection.open("cat")
            try:
                with suppress(BrokenPipeError):  # a shell that runs no command says why
                    await process.write(b"1\n")
                await process.readline()
                first = time.monotonic()
                with suppress(BrokenPipeError):
                    await process.write(b"2\n")
                await process.readline()
                round_trip_s = time.monotonic() - first
                await process.write_eof()
            finally:
                await process.close()
    except TimeoutError:
        raise UnsuitableError(
            connection.host.name,
            f"its login shell starts no command within {limit_s:g} s",
            remedy="what do its start-up files (~/.bashrc, ~/.profile) wait for?",
        ) from None
    return clean(process.preamble, limit=80), max(0.0, first - begun - 2 * round_trip_s)


async def _environment_check(
    connection: HostConnection,
    facts: HostFacts,
    found: Found,
    accelerator: str,
    expected: Expectations,
) -> Check:
    """Judges the environment that the next job would use, or find broken."""
    host = connection.host
    site = await Site.read(
        connection, facts, expected.packages, accelerator=accelerator, env=host.env
    )
    states = {each: found.environments.get(each, "") for each in site.candidates}
    ids = [each for state in ("whole", "broken") for each in states if states[each] == state]
    half = [name for name, state in found.environments.items() if state == "half"]
    if not ids:
        check = _not_provisioned(host, found, half)
    elif states[ids[0]] == "broken":
        check = damaged(host.name, ids[0], "its Python is gone")
    else:
        check = await _try(connection, facts, ids[0], accelerator)
    if not (expected.fix and check.fix):
        return check
    if found.is_used:
        return replace(check, remedy="a job uses its environments now; --fix again when it is over")
    try:
        environment = await provision(site, report=lambda step: None, recreate=bool(ids))
    except UnsuitableError as error:
        if not ids:
            raise
        # Files of an environment are hard links into the cache: what was written into one of them
        # is built in again.
        cache = host.env.get("UV_CACHE_DIR", f"{facts.workdir}/uv-cache")
        raise UnsuitableError(
            error.host,
            f"built anew, and still {error.message}",
            remedy=f"its package cache may hold the damage: `rm -rf {quote(cache)}` there, "
            "then --fix again",
        ) from None
    await remove_halves(connection, facts.workdir, half)
    mended = "built it anew" if ids else "removed what was half built, and built it to its end"
    return replace(ok(Stage.ENVIRONMENT, described(environment.fingerprint)), fixed=mended)


def _not_provisioned(host: Host, found: Found, half: Sequence[str]) -> Check:
    states = set(found.environments.values())
    if "building" in states:
        return Check(
            stage=Stage.ENVIRONMENT, outcome=Outcome.SKIPPED, found="is being built right now"
        )
    by = f"`sollol provision {host.name}` or the next job sees to it"
    if half:
        return Check(
            stage=Stage.ENVIRONMENT,
            outcome=Outcome.WARNING,
            found="half built",
            reason="a provisioning was killed",
            remedy=by,
            fix="remove the half, and provision",
        )
    what = "none that fits this version of sollol" if states else "none yet"
    return Check(stage=Stage.ENVIRONMENT, outcome=Outcome.SKIPPED, found=f"{what}; {by}")


async def _try(
    connection: HostConnection, facts: HostFacts, env_id: str, accelerator: str
) -> Check:
    """Runs the self-check in the environment: does torch import, multiply and see the GPU?"""
    tried = await run_selfcheck(connection, f"{facts.workdir}/envs/{env_id}/bin/python")
    if tried.complaint:
        return judge_complaint(connection.host.name, env_id, tried.complaint)
    answer = tried.answer
    if accelerator != "cpu" and answer.get("accelerator") == "cpu":
        return Check(
            stage=Stage.ENVIRONMENT,
            outcome=Outcome.FAILED,
            found=described(answer),
            reason="torch sees no GPU there",
            remedy="is the driver new enough for this build of torch? A newer driver, or "
            "limits.gpu_ids: [] to train on the CPU",
        )
    return ok(Stage.ENVIRONMENT, described(answer))


def described(answer: Mapping[str, Any]) -> str:
    """ "Python 3.12.1, torch 2.13.0+cpu on cpu"."""
    listed = answer.get("devices")
    devices = listed if isinstance(listed, list) else []
    names = [str(each.get("name")) for each in devices[1:9] if isinstance(each, dict)]
    seen = f"; torch sees {', '.join(names)}" if names else ""
    return clean(
        f"Python {answer.get('python')}, torch {answer.get('torch')} on "
        f"{answer.get('accelerator')}{seen}",
        limit=300,
    )
