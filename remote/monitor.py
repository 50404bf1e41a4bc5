"""What a host and its job use right now: CPU, RAM, GPUs. Never waits for a driver."""

import threading
import time
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any

import psutil

from remote.processes import resident_bytes

INTERVAL_S = 2.0
STALE_S = 10.0
GPU_FREE_S = 10.0  # how long a driver may take to give back what a dead process held
GPU_POLL_S = 0.1


class Monitor:
    """Samples the host. The first `cpu_percent` covers the time since this object was made."""

    def __init__(self) -> None:
        psutil.cpu_percent(interval=None)
        self._gpus = GpuSampler()

    def sample(self, job_pids: Iterable[int]) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        return {
            "cpu_percent": psutil.cpu_percent(interval=None),
            "ram_used_bytes": memory.total - memory.available,
            "ram_total_bytes": memory.total,
            "gpus": self._gpus.latest(),
            "job_rss_bytes": resident_bytes(job_pids),
        }

    def wait_for_gpus(
        self, indices: Collection[int], pids: Collection[int]
    ) -> list[dict[str, Any]] | None:
        """Waits until none of these dead processes holds memory of these GPUs. Returns what is
        held all the same: nothing, as a rule; None where no driver says."""
        since = time.monotonic()
        while True:
            holders = self._gpus.holders(since)
            held = [h for h in holders or () if h["index"] in indices and h["pid"] in pids]
            if holders is not None and not held:
                return []
            if not self._gpus.is_there or time.monotonic() - since > GPU_FREE_S:
                return held if holders is not None else None
            time.sleep(GPU_POLL_S)


class GpuSampler:
    """Asks NVML on its own thread: a driver that hangs costs the figures, never the agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gpus: list[dict[str, Any]] = []
        self._holders: list[dict[str, Any]] = []
        self._sampled_at = self._asked_at = -STALE_S
        self.is_there = False
        """Whether there may be a driver that answers, now or later."""
        try:
            import pynvml
        except ImportError:
            return  # a worker without the NVIDIA bindings has no NVIDIA figures
        self.is_there = True
        threading.Thread(target=self._sample_for_ever, args=(pynvml,), daemon=True).start()

    def latest(self) -> list[dict[str, Any]]:
        """The newest figures, or none when the driver has not answered for STALE_S."""
        with self._lock:
            fresh = time.monotonic() - self._sampled_at < STALE_S
            return self._gpus if fresh else []

    def holders(self, since: float) -> list[dict[str, Any]] | None:
        """Which processes hold memory of which GPU, asked after `since`; None before the driver has
        answered that."""
        with self._lock:
            return self._holders if self._asked_at >= since else None

    def _sample_for_ever(self, nvml: Any) -> None:
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            self.is_there = False
            return  # no driver or no GPU
        while True:
            asked_at = time.monotonic()
            gpus = [_gpu(nvml, index, handle) for index, handle in enumerate(handles)]
            holders = [_holders(nvml, index, handle) for index, handle in enumerate(handles)]
            with self._lock:
                self._gpus, self._holders = gpus, [*chain.from_iterable(holders)]
                self._asked_at, self._sampled_at = asked_at, time.monotonic()
            time.sleep(INTERVAL_S)


def _gpu(nvml: Any, index: int, handle: Any) -> dict[str, Any]:
    """One GPU's figures; what its driver does not support, or a lost GPU, is null."""

    def ask(question: Any) -> Any:
        try:
            return question()
        except nvml.NVMLError:
            return None

    name = ask(lambda: nvml.nvmlDeviceGetName(handle))
    memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    return {
        "index": index,
        "name": name.decode(errors="replace") if isinstance(name, bytes) else name,
        "util_percent": ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "vram_used_bytes": memory.used if memory else None,
        "vram_total_bytes": memory.total if memory else None,
        "temp_c": ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
    }


def _holders(nvml: Any, index: int, handle: Any) -> list[dict[str, Any]]:
    """The processes that hold memory of one GPU, as its driver numbers them."""
    try:
        found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return []
    return [{"index": index, "pid": p.pid, "vram_bytes": p.usedGpuMemory} for p in found]
