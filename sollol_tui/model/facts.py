"""What was found out about one host: its machine, Python, GPUs and where it can be reached."""

from dataclasses import dataclass
from enum import StrEnum


class Vendor(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"


class RamLimit(StrEnum):
    """How a job's memory can be limited on a host: by the kernel in a scope of systemd or in a
    control group of the account's own, or by an agent that looks once a second."""

    SCOPE = "scope"
    GROUP = "group"
    WATCH = "watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """`index` is the one that the vendor's own tool and `gpu_ids` use. With `shares_ram` it has no
    memory of its own (Jetson, GB10) and `vram_bytes` is all of the machine's."""

    index: int
    name: str
    vram_bytes: int
    uuid: str = ""
    driver: str = ""
    vendor: Vendor = Vendor.NVIDIA
    shares_ram: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that holds memory of a GPU, whoever started it. `gpu` is the GPU's uuid."""

    pid: int
    gpu: str
    name: str
    vram_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface that is up, with one of its addresses (no link-local ones);
    `speed_mbit` is None where the kernel does not tell it (Wi-Fi, VPNs)."""

    name: str
    address: str
    prefix: int
    speed_mbit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter that can carry a worker's environment."""

    path: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """`home` and `workdir` are absolute; `address` is the one at which the host was reached, on its
    own interface; `cpu_cores` are physical cores as far as the kernel tells them; `compute_version`
    is the newest CUDA that the driver supports, or the ROCm that is installed ("" unknown);
    `clock_skew_s` is how far its clock is ahead of the coordinator's, None where not measured;
    with `systemd_user` the account has a systemd of its own, which lives on after logout when it
    `lingers`."""

    hostname: str
    user: str
    home: str
    workdir: str
    system: str
    arch: str
    libc: str
    cpu_model: str
    cpu_cores: int
    ram_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int
    pythons: tuple[Python, ...]
    gpus: tuple[Gpu, ...]
    address: str
    uv: str = ""
    gpu_problem: str = ""
    distribution: str = ""
    kernel: str = ""
    compute_version: str = ""
    gpu_processes: tuple[GpuProcess, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    clock_skew_s: float | None = None
    systemd_user: bool = False
    lingers: bool = False
    ram_limit: RamLimit = RamLimit.WATCH

    @property
    def accelerator(self) -> str:
        """Which build of torch fits: cuda, rocm or cpu."""
        if not self.gpus:
            return "cpu"
        return "cuda" if self.gpus[0].vendor is Vendor.NVIDIA else "rocm"
