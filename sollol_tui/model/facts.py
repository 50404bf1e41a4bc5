"""What was found out about one host: its machine, Python, GPUs and where it can be reached."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    index: int
    name: str
    vram_bytes: int
    uuid: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """An interpreter that can carry a worker's environment."""

    path: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """`home` and `workdir` are absolute; `address` is the one at which the host was reached, on its
    own interface; `cpu_cores` are physical cores as far as the kernel tells them."""

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

    @property
    def accelerator(self) -> str:
        return "cuda" if self.gpus else "cpu"
