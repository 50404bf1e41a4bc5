"""What is well and what is not about one host, stage by stage, each with its remedy. The rules that
judge facts stand here, pure; who asks the host is hosts/doctor.py."""

import re
from collections.abc import Callable, Sequence
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
ROOMY: Final = 2  # times what training needs at least
FEW_FILES: Final = 100_000  # an environment alone holds some 30,000
_NETWORK_FILESYSTEM: Final = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|9p|ceph|glusterfs|lustre|gpfs|beegfs|orangefs|"
    r"fuse\.(sshfs|glusterfs|ceph.*|rclone|s3fs|gcsfuse|beegfs)"
)
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
        """The worst of them."""
        seen = {check.outcome for check in self.checks}
        worst = (Outcome.FAILED, Outcome.WARNING)
        return next((outcome for outcome in worst if outcome in seen), Outcome.OK)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A host's workdir, or `parent`, the nearest folder above it that exists. `filesystem` is as
    the kernel calls it; `files_free` is None where the filesystem has no such number; `write_error`
    is what writing there said. `obstacle` is what stands where a folder on the way to it should be;
    it `is_ours` when provisioning has been there, and `is_empty` without anybody else's files."""

    path: str
    parent: str
    mode: str = ""
    owner: str = ""
    user: str = ""
    is_writable: bool = True
    write_error: str = ""
    filesystem: str = ""
    options: tuple[str, ...] = ()
    files_free: int | None = None
    obstacle: str = ""
    is_home: bool = False
    is_ours: bool = False
    is_empty: bool = True

    @property
    def exists(self) -> bool:
        return bool(self.mode)

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.options or "read-only" in self.write_error.lower()

    @property
    def is_private(self) -> bool:
        """Its owner's alone; a folder above it may hand down further bits, which do no harm."""
        return self.exists and int(self.mode, 8) & 0o777 == 0o700


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
        return _failed(
            Stage.SYSTEM, found, "workers run Linux", "leave it out: sollol hosts cordon NAME"
        )
    if facts.arch not in _ARCHITECTURES:
        return _warning(
            Stage.SYSTEM,
            found,
            f"there are no ready builds of torch for {facts.arch}",
            "packages.find_links in the inventory can name a folder with one",
        )
    return ok(Stage.SYSTEM, found)


def judge_workdir(
    folder: Folder, quote: Callable[[str], str], against: tuple[str, str] | None = None
) -> Check:
    """Writable, private, and on a disk of its own. `against` is the reason and the remedy of what
    forbids this folder at all; `quote` makes of a path what a shell reads back."""
    set_another = "or set workdir to another folder in the inventory"
    if folder.exists:
        found = f"{folder.path} ({folder.filesystem or 'unknown filesystem'}, mode 0{folder.mode})"
    else:
        found = folder.path if folder.obstacle else f"{folder.path} is not there yet"
    if folder.is_read_only:
        return _failed(
            Stage.WORKDIR,
            found,
            "its disk is read-only",
            f"`sudo dmesg` says why (a broken disk goes read-only); repair it, {set_another}",
        )
    if against is not None:
        return _failed(Stage.WORKDIR, found, *against)
    if not folder.exists and not folder.is_writable:
        return _failed(
            Stage.WORKDIR,
            found,
            f"{folder.parent} is not ours to write to",
            f"let us write there, {set_another}",
        )
    if folder.exists and not folder.is_private:
        return Check(
            stage=Stage.WORKDIR,
            outcome=Outcome.WARNING if folder.mode[-2:] != "00" else Outcome.FAILED,
            found=found,
            reason="it should be its owner's alone, who may write there",
            remedy=f"chmod 700 {quote(folder.path)}",
            fix="give it mode 0700",
        )
    if folder.write_error:
        full = re.search(r"no space|quota", folder.write_error, re.IGNORECASE)
        return _failed(
            Stage.WORKDIR,
            found,
            f"nothing can be written there: {folder.write_error}",
            f"free some space, {set_another}" if full else f"make it writable, {set_another}",
        )
    fix = "" if folder.exists else "make it, with mode 0700"
    if _NETWORK_FILESYSTEM.fullmatch(folder.filesystem):
        return Check(
            stage=Stage.WORKDIR,
            outcome=Outcome.WARNING,
            found=found,
            reason=f"{folder.filesystem} is a network filesystem: imports are slow, and locks may "
            "fail",
            remedy="set workdir to a folder on a disk of the host",
            fix=fix,
        )
    if folder.exists:
        return ok(Stage.WORKDIR, found)
    return Check(
        stage=Stage.WORKDIR,
        outcome=Outcome.SKIPPED,
        found=f"{found}; provisioning makes it",
        fix=fix,
    )


def judge_disk(facts: HostFacts, folder: Folder, *, accelerator: str, needed_bytes: int) -> Check:
    """`needed_bytes` is what a job asks of the host before it takes part."""
    free = facts.disk_free_bytes
    found = f"{format_bytes(free)} free in {facts.workdir}"
    need = f"{format_bytes(needed_bytes)} for a {accelerator} environment and checkpoints"
    remedy = "free some space there, or set workdir to a larger disk"
    if free < needed_bytes:
        return _failed(Stage.DISK, found, f"a job needs {need}", remedy)
    if folder.files_free is not None and folder.files_free < FEW_FILES:
        return _failed(
            Stage.DISK,
            found,
            f"but only {folder.files_free:,} more files fit (inodes), and {FEW_FILES:,} are needed",
            "remove many small files there, or set workdir to another disk",
        )
    if free < ROOMY * needed_bytes:
        more = f"a job needs {need}; models, datasets and checkpoints come on top"
        return _warning(Stage.DISK, found, more, remedy)
    return ok(Stage.DISK, f"{found}; a job needs {need}")


def judge_python(
    pythons: Sequence[Python], *, host: str, has_uv: bool, is_uv_damaged: bool = False
) -> Check:
    """`has_uv` says that a uv runs there, the coordinator's or its own."""
    if is_uv_damaged:
        return _warning(
            Stage.PYTHON,
            pythons[0].version if pythons else "none of 3.11 to 3.13 yet",
            "the uv in its workdir is damaged, or was altered",
            f"sollol provision {host}",
        )
    if pythons:
        return ok(Stage.PYTHON, f"{pythons[0].version} at {pythons[0].path}")
    if has_uv:
        return ok(Stage.PYTHON, "none of 3.11 to 3.13; uv fetches 3.12 when it is provisioned")
    return _warning(
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
        judged = _warning if gpus or wanted == () else _failed
        return judged(
            Stage.GPU,
            found if gpus else "none answers",
            facts.gpu_problem,
            "limits.gpu_ids: [] lets it train on its CPU meanwhile",
        )
    missing = sorted(set(wanted or ()) - {gpu.index for gpu in gpus})
    if missing:
        return _failed(
            Stage.GPU,
            found,
            f"limits.gpu_ids names GPU {missing[0]}, which is not there",
            "correct limits.gpu_ids of the host in the inventory",
        )
    if facts.gpu_processes:
        holders = "; ".join(_holder(process, facts) for process in facts.gpu_processes[:4])
        more = len(facts.gpu_processes) - 4
        return _warning(
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
        return _warning(
            Stage.ENVIRONMENT,
            f"{env_id} is there, and could not be tried",
            f"a GPU has no room left: {complaint}",
            "end what holds it, or wait for it; a job that starts now would not fit either",
        )
    remedy = gpu_remedy(complaint)
    if remedy:
        return _failed(Stage.ENVIRONMENT, f"{env_id} does not compute", complaint, remedy)
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
    return _warning(
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


def _failed(stage: Stage, found: str, reason: str, remedy: str) -> Check:
    return Check(stage=stage, outcome=Outcome.FAILED, found=found, reason=reason, remedy=remedy)


def _warning(stage: Stage, found: str, reason: str, remedy: str) -> Check:
    return Check(stage=stage, outcome=Outcome.WARNING, found=found, reason=reason, remedy=remedy)
