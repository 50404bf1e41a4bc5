"""What a host and its job use right now: CPU, RAM, GPUs. Never waits for a driver."""

import threading
import time
from collections.abc import Iterable
from typing import Any

import psutil

from remote.processes import resident_bytes

INTERVAL_S = 2.0
STALE_S = 10.0


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


class GpuSampler:
    """Asks NVML on its own thread: a driver that hangs costs the figures, never the agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gpus: list[dict[str, Any]] = []
        self._sampled_at = -STALE_S
        try:
            import pynvml
        except ImportError:
            return  # a worker without the NVIDIA bindings has no NVIDIA figures
        threading.Thread(target=self._sample_for_ever, args=(pynvml,), daemon=True).start()

    def latest(self) -> list[dict[str, Any]]:
        """The newest figures, or none when the driver has not answered for STALE_S."""
        with self._lock:
            fresh = time.monotonic() - self._sampled_at < STALE_S
            return self._gpus if fresh else []

    def _sample_for_ever(self, nvml: Any) -> None:
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            return  # no driver or no GPU
        while True:
            gpus = [_gpu(nvml, index, handle) for index, handle in enumerate(handles)]
            with self._lock:
                self._gpus, self._sampled_at = gpus, time.monotonic()
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
