"""What is well and what is not about one host, stage by stage, each with its remedy. The rules that
judge facts stand here, pure; who asks the host is hosts/doctor.py."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sollol_tui.model.errors import HostError
from sollol_tui.model.facts import GpuProcess, HostFacts, Python, RamLimit
from sollol_tui.model.links import NetworkReport
from sollol_tui.model.torch_build import gpu_remedy
from sollol_tui.model.units import format_bytes

CLOCK_SKEW_S: Final = 5.0
SLOW_SHELL_S: Final = 0.5
# What torch says of a GPU whose memory is full or that admits one process only.
_GPU_TAKEN: Final = re.compile(
    r"(CUDA|HIP|GPU)\b.*out of memory|OutOfMemoryError|busy or unavailable|"
    r"BLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)",
    re.IGNORECASE,
)
_ARCHITECTURES: Final = ("x86_64", "aarch64")


class Stage(StrEnum):
    """In the order in which they are gone through; a failed one ends it."""

    SSH = "ssh"
    SHELL = "shell"
    SYSTEM = "system"
    WORKDIR = "workdir"
    DISK = "disk"
    PYTHON = "python"
    GPU = "gpu"
    ENVIRONMENT = "environment"
    CLOCK = "clock"
    SYSTEMD = "systemd"


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`found` is what is there, `reason` why that is no good, `remedy` what to do, `fix` what
    `--fix` would do, `fixed` what it has done."""

    stage: Stage
    outcome: Outcome
    found: str
    reason: str = ""
    remedy: str = ""
    fix: str = ""
    fixed: str = ""
    is_reached: bool = True


def worst(checks: Sequence[Check]) -> Outcome:
    """OK where nothing failed and nothing is warned of."""
    seen = {check.outcome for check in checks}
    bad = (Outcome.FAILED, Outcome.WARNING)
    return next((outcome for outcome in bad if outcome in seen), Outcome.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One host's checks, in order. `error` is what a failed one raised; `facts` are None when the
    host did not come so far."""

    host: str
    checks: tuple[Check, ...]
    facts: HostFacts | None = None
    error: HostError | None = None

    @property
    def outcome(self) -> Outcome:
        return worst(self.checks)

    def as_data(self) -> dict[str, Any]:
        return {
            "name": self.host,
            "outcome": self.outcome.value,
            "checks": [
                {
                    "stage": check.stage.value,
                    "outcome": check.outcome.value,
                    "found": check.found,
                    "reason": check.reason,
                    "remedy": check.remedy,
                    "fix": check.fix,
                    "fixed": check.fixed,
                }
                for check in self.checks
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The diagnoses in the order in which the hosts were named, and the network between those that
    passed, when it was asked for."""

    diagnoses: tuple[Diagnosis, ...]
    network: NetworkReport | None = None

    def as_data(self) -> dict[str, Any]:
        """The object behind `sollol doctor --json`, without its schema."""
        return {
            "hosts": [diagnosis.as_data() for diagnosis in self.diagnoses],
            "network": None if self.network is None else self.network.as_data(),
        }


def ok(stage: Stage, found: str) -> Check:
    return Check(stage=stage, outcome=Outcome.OK, found=found)


def not_reached(stage: Stage) -> Check:
    return Check(stage=stage, outcome=Outcome.SKIPPED, found="not reached", is_reached=False)


def failed(stage: Stage, found: str, reason: str, remedy: str) -> Check:
    return Check(stage=stage, outcome=Outcome.FAILED, found=found, reason=reason, remedy=remedy)


def warning(stage: Stage, found: str, reason: str, remedy: str) -> Check:
    return Check(stage=stage, outcome=Outcome.WARNING, found=found, reason=reason, remedy=remedy)


def judge_shell(noise: str, startup_s: float) -> Check:
    """`noise` is what the login shell prints before any command."""
    found = f"a command starts within {max(startup_s, 0.001) * 1000:.0f} ms"
    reasons = []
    if noise:
        reasons.append(f"its start-up files print without a terminal: {noise}")
    if startup_s > SLOW_SHELL_S:
        reasons.append(f"its start-up files take {startup_s:.1f} s, for every command anew")
    if not reasons:
        return ok(Stage.SHELL, found)
    return Check(
        stage=Stage.SHELL,
        outcome=Outcome.WARNING,
        found=found,
        reason="; ".join(reasons),
        remedy="let them end where no terminal is: as the first line of ~/.bashrc, "
        "`case $- in *i*) ;; *) return ;; esac`",
    )


def judge_system(facts: HostFacts) -> Check:
    machine = f"{facts.distribution or facts.system} {facts.kernel}".strip()
    ram = format_bytes(facts.ram_bytes)
    found = f"{machine}, {facts.arch}, {facts.cpu_cores} cores, {ram} RAM"
    if facts.system != "Linux":
        return failed(
            Stage.SYSTEM, found, "workers run Linux", "leave it out: sollol hosts cordon NAME"
        )
    if facts.arch not in _ARCHITECTURES:
        return warning(
            Stage.SYSTEM,
            found,
            f"there are no ready builds of torch for {facts.arch}",
            "packages.find_links in the inventory can name a folder with one",
        )
    return ok(Stage.SYSTEM, found)


def judge_python(
    pythons: Sequence[Python], *, host: str, has_uv: bool, is_uv_damaged: bool = False
) -> Check:
    """`has_uv` says that a uv runs there, the coordinator's or its own."""
    if is_uv_damaged:
        return warning(
            Stage.PYTHON,
            pythons[0].version if pythons else "none of 3.11 to 3.13 yet",
            "the uv in its workdir is damaged, or was altered",
            f"sollol provision {host}",
        )
    if pythons:
        return ok(Stage.PYTHON, f"{pythons[0].version} at {pythons[0].path}")
    if has_uv:
        return ok(Stage.PYTHON, "none of 3.11 to 3.13; uv fetches 3.12 when it is provisioned")
    return warning(
        Stage.PYTHON,
        "none of 3.11 to 3.13, and no uv that could fetch one",
        "the coordinator's uv is built for another system",
        "install uv or python3.12 there for this account; uv needs no root",
    )


def judge_gpu(facts: HostFacts, wanted: Sequence[int] | None) -> Check:
    """`wanted` is limits.gpu_ids. A host without GPUs trains on its CPU."""
    gpus = facts.gpus
    names = ", ".join(
        f"{gpu.index}: {gpu.name} ({format_bytes(gpu.vram_bytes)})" for gpu in gpus[:8]
    )
    driver = f", driver {gpus[0].driver}" if gpus and gpus[0].driver else ""
    found = f"{names}{driver}" if gpus else "none; it trains on its CPU"
    if facts.gpu_problem:
        judged = warning if gpus or wanted == () else failed
        return judged(
            Stage.GPU,
            found if gpus else "none answers",
            facts.gpu_problem,
            "limits.gpu_ids: [] lets it train on its CPU meanwhile",
        )
    missing = sorted(set(wanted or ()) - {gpu.index for gpu in gpus})
    if missing:
        return failed(
            Stage.GPU,
            found,
            f"limits.gpu_ids names GPU {missing[0]}, which is not there",
            "correct limits.gpu_ids of the host in the inventory",
        )
    if facts.gpu_processes:
        holders = "; ".join(_holder(process, facts) for process in facts.gpu_processes[:4])
        more = len(facts.gpu_processes) - 4
        return warning(
            Stage.GPU,
            found,
            holders + (f"; and {more} more" if more > 0 else ""),
            "memory is short while they run; end them if they are yours",
        )
    return ok(Stage.GPU, found)


def _holder(process: GpuProcess, facts: HostFacts) -> str:
    index = next((str(gpu.index) for gpu in facts.gpus if gpu.uuid == process.gpu), "?")
    held = format_bytes(process.vram_bytes)
    return f"GPU {index}: {process.name} (pid {process.pid}) holds {held}"


def judge_complaint(host: str, env_id: str, complaint: str) -> Check:
    """What the self-check of a whole environment ended with: a GPU that others fill, one for which
    this torch is not built, or damage."""
    if _GPU_TAKEN.search(complaint):
        return warning(
            Stage.ENVIRONMENT,
            f"{env_id} is there, and could not be tried",
            f"a GPU has no room left: {complaint}",
            "end what holds it, or wait for it; a job that starts now would not fit either",
        )
    remedy = gpu_remedy(complaint)
    if remedy:
        return failed(Stage.ENVIRONMENT, f"{env_id} does not compute", complaint, remedy)
    return damaged(host, env_id, complaint)


def damaged(host: str, env_id: str, reason: str) -> Check:
    return Check(
        stage=Stage.ENVIRONMENT,
        outcome=Outcome.FAILED,
        found=f"{env_id} is damaged",
        reason=reason,
        remedy=f"sollol provision {host} --recreate",
        fix="build it anew",
    )


def judge_clock(skew_s: float | None) -> Check:
    if skew_s is None:
        return Check(stage=Stage.CLOCK, outcome=Outcome.SKIPPED, found="not told")
    side = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) <= CLOCK_SKEW_S:
        return ok(Stage.CLOCK, f"within {max(abs(skew_s), 0.1):.1f} s of ours")
    return warning(
        Stage.CLOCK,
        f"{abs(skew_s):.1f} s {side} ours",
        "certificates may count as expired or not yet valid, and times in its logs mislead "
        "(training itself compares no clocks)",
        "sudo timedatectl set-ntp true",
    )


def judge_systemd(facts: HostFacts) -> Check:
    """Never more than information: ram_gb is watched where the kernel cannot hold it."""
    if facts.systemd_user and facts.lingers:
        return ok(Stage.SYSTEMD, "the account's own, lingering: ram_gb can be a hard limit")
    if facts.ram_limit is RamLimit.GROUP or (
        facts.ram_limit is RamLimit.SCOPE and facts.user == "root"
    ):
        return ok(Stage.SYSTEMD, "not needed: ram_gb can be a hard limit without a login's own")
    lacks = "it ends with the last login" if facts.systemd_user else "none of the account's own"
    return Check(
        stage=Stage.SYSTEMD,
        outcome=Outcome.SKIPPED,
        found=f"{lacks}, so ram_gb cannot be a hard limit; `loginctl enable-linger` changes that",
    )
