"""Which build of torch a host gets: by its GPUs and their driver, or as the inventory says.

Refuses a driver that is too old for every build. Pure: what is chosen here, hosts/ installs.
"""

import re
from dataclasses import dataclass
from typing import Final

from sollol_tui.model.errors import UnsuitableError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import TorchBackend

RELEASE: Final = "2.13"  # of torch: the one that the lock pins, and whose builds stand below


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """`needs` is the oldest driver, and `compute` what such a driver says that it supports."""

    backend: TorchBackend
    accelerator: str
    needs: tuple[int, ...]
    compute: tuple[int, ...]
    machines: tuple[str, ...] = ("x86_64", "aarch64")


# The drivers are those of NVIDIA's table of minor-version compatibility, and of AMD's of which
# kernel driver carries which user space. The best comes first. CUDA 13.2 is an experiment of this
# release, so nobody gets it unasked; it stands last.
_BUILDS: Final = (
    Build(backend=TorchBackend.CU130, accelerator="cuda", needs=(580,), compute=(13,)),
    Build(backend=TorchBackend.CU126, accelerator="cuda", needs=(525, 60, 13), compute=(12,)),
    Build(backend=TorchBackend.CU132, accelerator="cuda", needs=(580,), compute=(13,)),
    Build(
        backend=TorchBackend.ROCM72,
        accelerator="rocm",
        needs=(),  # AMD's driver comes with the kernel and says no version of its own
        compute=(6, 3),
        machines=("x86_64",),
    ),
)
_OLD_GPUS: Final = TorchBackend.CU126  # the last that is built for Maxwell, Pascal and Volta


def torch_build(host: str, facts: HostFacts, accelerator: str, wanted: TorchBackend) -> str:
    """The name of the build as uv knows it: cpu, cu130, rocm7.2; `auto` leaves the choice to uv,
    because the driver's version is not known; "" to whatever the index gives. Raises
    UnsuitableError with the driver that is needed."""
    if wanted is TorchBackend.NONE:
        return ""
    if accelerator == "cpu" or wanted is TorchBackend.CPU:
        return "cpu"
    builds = [b for b in _BUILDS if b.accelerator == accelerator and facts.arch in b.machines]
    builds = [b for b in builds if b.backend is wanted] or builds
    if not builds:
        raise _unsuitable(host, f"torch {RELEASE} for {accelerator} is not built for {facts.arch}")
    for build in builds:
        admitted = _admits(facts, build)
        if admitted is None:
            return build.backend if build.backend is wanted else "auto"
        if admitted:
            return build.backend
    easiest = min(builds, key=lambda build: (build.needs, build.compute))
    raise _too_old(host, facts, easiest)


def _admits(facts: HostFacts, build: Build) -> bool | None:
    """Whether the host's driver carries the build; None where nothing is known of it."""
    driver = _version(facts.gpus[0].driver) if facts.gpus else ()
    if driver and build.needs:
        return driver >= build.needs
    compute = _version(facts.compute_version)
    return compute >= build.compute if compute else None


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"\d{1,6}(\.\d{1,6}){0,3}", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _too_old(host: str, facts: HostFacts, build: Build) -> UnsuitableError:
    driver = facts.gpus[0].driver if facts.gpus else ""
    if build.accelerator == "cuda":
        has = f"NVIDIA driver {driver}" if driver else f"driver for CUDA {facts.compute_version}"
        needed = f"driver {'.'.join(map(str, build.needs))} or newer"
    else:
        has = f"ROCm {facts.compute_version}"
        needed = f"the driver of ROCm {'.'.join(map(str, build.compute))} or newer"
    return _unsuitable(
        host, f"its {has} is too old: torch {RELEASE} ({build.backend}) needs {needed}"
    )


def _unsuitable(host: str, message: str) -> UnsuitableError:
    return UnsuitableError(
        host, message, remedy="update the driver, or let it compute on its CPU: limits.gpu_ids: []"
    )


def gpu_remedy(complaint: str) -> str:
    """What to do when torch is there but its GPUs do not compute; "" for any other complaint."""
    if re.search(r"no kernel image|not compatible with the current PyTorch", complaint):
        return (
            f"GPUs before Turing need packages.torch_backend: {_OLD_GPUS}, "
            "and some need limits.gpu_ids: []"
        )
    return ""
