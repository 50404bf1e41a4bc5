"""How one rank is started: `accelerate launch`, its configuration file, arguments and environment.
Decides nothing about when, and leaves what is needed to repeat it by hand in the run directory.

Run as a program it is the last step before accelerate: `python -m remote.launch PARENT NICE CORES
COMMAND...` ties the process to its agent, lowers its priority, puts it on its cores and becomes the
command.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from remote.attempts import log_file
from remote.cores import Core, threads_of_rank
from remote.files import write_atomic
from remote.lease import is_locked
from remote.link import interfaces, owner_of
from remote.processes import die_with_parent
from remote.remains import COOKIE, TEMPORARY
from remote.run import Lighthouse, Rank, Run, RunError

ALL_CORES = "all"
# Where a host runs out of memory the kernel takes a rank before the agent or anybody's editor.
FIRST_TO_GO = "500"
PAYLOAD = Path(__file__).resolve().parent.parent
# What a login shell or an outer launcher may have set and a rank of ours must not inherit.
_FOREIGN = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "CUDA_VISIBLE_DEVICES",
)
_FOREIGN_PREFIXES = (
    "PYTHON",
    "ACCELERATE_",
    "TORCHELASTIC_",
    "MASTER_",
    "PET_",
    "GLOO_",
    "NCCL_SOCKET_",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything needed to start one attempt of one rank."""

    rank: Rank
    attempt: int
    argv: list[str]
    env: dict[str, str]
    log: Path


def prepare_launch(
    run_dir: Path,
    run: Run,
    rank: Rank,
    attempt: int,
    secrets: Mapping[str, str],
    agent_pid: int,
    cores: Core | None = None,
) -> Launch:
    """Writes accelerate.<slot>.yaml and says what to execute. Secrets stand in `env` only. The rank
    stays on `cores`."""
    config = run_dir / f"accelerate.{rank.slot}.yaml"
    command = [
        *(sys.executable, "-P", "-m", "accelerate.commands.launch"),
        *("--config_file", str(config), "--module"),
        *(f"remote.{run.program}", str(run_dir), str(rank.slot), str(attempt)),
    ]
    env = rank_environment(run_dir, run, rank, os.environ, secrets)
    repeat = shlex.join(["env", *_assignments_by_hand(env, secrets), *command])
    write_atomic(config, _configuration(run, rank, repeat).encode())
    (run_dir / TEMPORARY).mkdir(exist_ok=True)
    return Launch(
        rank=rank,
        attempt=attempt,
        argv=[*_trampoline(agent_pid, run, cores), *command],
        env=env,
        log=log_file(run_dir, str(rank.slot), attempt),
    )


def prepare_lighthouse(
    run_dir: Path, run: Run, lighthouse: Lighthouse, agent_pid: int
) -> tuple[list[str], dict[str, str]]:
    """What to execute for one of the run's lighthouses, and its environment."""
    command = [
        *(sys.executable, "-P", "-m", "remote.engine.lighthouse"),
        *(lighthouse.address, str(lighthouse.port)),
    ]
    env = {"PYTHONPATH": str(PAYLOAD), "PYTHONNOUSERSITE": "1", COOKIE: str(run_dir)}
    return [*_trampoline(agent_pid, run, None), *command], os.environ | env


def _trampoline(agent_pid: int, run: Run, cores: Core | None) -> list[str]:
    """What stands before a command so that it starts as this program's last step."""
    told = ",".join(map(str, sorted(cores))) if cores else ALL_CORES
    return [*(sys.executable, "-P", "-m", "remote.launch"), str(agent_pid), str(run.nice), told]


def die_with_launcher(run_dir: Path) -> None:
    """Ties a rank to its launcher, and so to its agent. Its launcher may have died before this was
    called; then its agent has too, which holds its lock for life, and the rank leaves at once. A
    rank that was started by hand, without an agent, stays."""
    die_with_parent(os.getppid())
    if os.environ.get(COOKIE) == str(run_dir) and not is_locked(run_dir):
        os._exit(1)


def _assignments_by_hand(env: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """What a user's shell lacks; without the cookie, or `clean` would take their try for ours."""
    ours = {
        name: value
        for name, value in env.items()
        if (os.environ.get(name) != value or name.startswith("PYTHON"))
        and name not in (COOKIE, "TMPDIR")
        and name not in secrets
    }
    return [f"{name}={value}" for name, value in sorted(ours.items())]


def rank_environment(
    run_dir: Path,
    run: Run,
    rank: Rank,
    inherited: Mapping[str, str],
    secrets: Mapping[str, str],
) -> dict[str, str]:
    """The environment of a rank. What run.json's `env` says wins over our defaults, but not over
    what keeps the world together or the run findable."""
    threads = str(threads_of_rank(run))
    interface = interface_of(rank.address)
    env = {
        name: value
        for name, value in inherited.items()
        if name not in _FOREIGN and not name.startswith(_FOREIGN_PREFIXES)
    }
    env |= {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(run_dir.parents[2] / "huggingface"),
        "TORCHINDUCTOR_CACHE_DIR": str(run_dir.parents[2] / "torch-cache"),
        "TMPDIR": str(run_dir / TEMPORARY),
    }
    if Path(run.model).is_dir():
        env["HF_HUB_OFFLINE"] = (
            "1"  # everything is there; a hub that cannot be reached costs minutes
        )
    env |= run.env
    env |= secrets
    env |= {
        "PYTHONPATH": str(PAYLOAD),
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "" if rank.gpu is None else str(rank.gpu),
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "PET_RDZV_ID": run.meeting,  # torchrun's --rdzv-id, for which accelerate has no option
        COOKIE: str(run_dir),
    }
    if rank.gpu is None:
        env["ACCELERATE_USE_CPU"] = "true"
    return env


def interface_of(address: str) -> str:
    """The network interface that owns `address`, any 127.x.y.z belonging to the loopback one."""
    owner = owner_of(address)
    if owner is not None:
        return owner
    there = ", ".join(sorted(interfaces()))
    raise RunError(
        f"no network interface of this host has the address {address}, which run.json gives it; "
        f"set `address:` of the host to one of its own ({there} are there)"
    )


def _configuration(run: Run, rank: Rank, repeat: str) -> str:
    """accelerate's own format. One launch per rank, so machines = ranks: accelerate starts
    num_processes // num_machines processes and silently fewer where that leaves a rest."""
    if run.shares_a_world:
        # For CPU ranks as well: what accelerate calls CPU starts separate worlds of one. The
        # environment (ACCELERATE_USE_CPU) says that they compute on the CPU.
        launcher, machines, machine = "MULTI_GPU", len(run.world), rank.rank
    else:  # elastic ranks find each other by the lighthouses: each launch is a world of one
        launcher, machines, machine = "NO", 1, 0
    values: dict[str, str | int | bool] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": launcher,
        "enable_cpu_affinity": False,
        "gpu_ids": "all",
        "machine_rank": machine,
        "main_process_ip": run.main_address,
        "main_process_port": run.main_port,
        "main_training_function": "main",
        "mixed_precision": "no",
        "num_machines": machines,
        "num_processes": machines,
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": False,
    }
    # A JSON scalar is a YAML scalar, and quoted text stays text ("no" would be false).
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"# By hand: {repeat}", *lines, ""])


def _become(arguments: list[str]) -> None:
    parent, nice, cores, *command = arguments
    die_with_parent(int(parent))
    os.nice(int(nice))
    if cores != ALL_CORES:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    with suppress(OSError):  # a kernel that knows no such file
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(sys.argv[1:])
