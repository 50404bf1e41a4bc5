"""Figures of a host, with drivers that answer, refuse, or hang."""

import os
import sys
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

from remote import monitor
from remote.monitor import GpuSampler, Monitor
from tests.remote.worker import wait_until


class NVMLError(Exception):
    pass


def nvml(**answers: Any) -> SimpleNamespace:
    """A driver with one GPU whose temperature it does not know."""

    def refuse(*_: Any) -> None:
        raise NVMLError

    usual = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _: "A GPU",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=1, total=2),
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=42),
        "nvmlDeviceGetTemperature": refuse,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [],
        "NVML_TEMPERATURE_GPU": 0,
        "NVMLError": NVMLError,
    }
    return SimpleNamespace(**usual | answers)


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """Set at the end, so that the driver's thread ends with the test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_driver_that_hangs_never_blocks_a_sample(
    monkeypatch: pytest.MonkeyPatch, hung: threading.Event
) -> None:
    def hang() -> None:
        hung.wait()
        raise NVMLError

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=hang))
    sample = Monitor().sample([os.getpid()])
    assert sample["gpus"] == []
    assert 0 < sample["job_rss_bytes"] < sample["ram_total_bytes"]


def test_what_a_driver_does_not_know_is_null(
    monkeypatch: pytest.MonkeyPatch, hung: threading.Event
) -> None:
    asked = []

    def load(_: Any) -> SimpleNamespace:
        asked.append(1)
        if len(asked) > 1:
            hung.wait()
        return SimpleNamespace(gpu=42)

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetUtilizationRates=load))
    (gpu,) = wait_until(GpuSampler().latest, "the driver has answered")
    assert gpu == {
        "index": 0,
        "name": "A GPU",
        "util_percent": 42,
        "vram_used_bytes": 1,
        "vram_total_bytes": 2,
        "temp_c": None,
    }


def test_a_process_that_left_counts_nothing() -> None:
    assert Monitor().sample([2**22 + 1])["job_rss_bytes"] == 0


def held_by(pids: Iterator[list[int]]) -> SimpleNamespace:
    """A driver that tells, each time it is asked, which processes hold memory of its GPU."""
    return nvml(
        nvmlDeviceGetComputeRunningProcesses=lambda _: [
            SimpleNamespace(pid=pid, usedGpuMemory=3 * 1024**3) for pid in next(pids)
        ]
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "INTERVAL_S", 0.02)
    monkeypatch.setattr(monitor, "GPU_POLL_S", 0.01)


def test_a_gpu_is_free_once_its_driver_has_let_go_of_the_dead(
    monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    answers = chain([[4711, 99]] * 20, repeat([99]))
    monkeypatch.setitem(sys.modules, "pynvml", held_by(answers))
    watched = Monitor()
    assert watched.wait_for_gpus([1], [4711]) == []  # another GPU than the run's
    assert watched.wait_for_gpus([0], [4711]) == []
    assert next(answers) == [99]


def test_what_a_driver_does_not_let_go_of_is_told(
    monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setattr(monitor, "GPU_FREE_S", 0.2)
    monkeypatch.setitem(sys.modules, "pynvml", held_by(repeat([4711])))
    watched = Monitor()
    assert watched.wait_for_gpus([0], [4711]) == [
        {"index": 0, "pid": 4711, "vram_bytes": 3 * 1024**3}
    ]


def test_a_driver_that_is_not_there_or_hangs_is_not_taken_for_a_free_gpu(
    monkeypatch: pytest.MonkeyPatch, quick: None, hung: threading.Event
) -> None:
    def hang() -> None:
        hung.wait()
        raise NVMLError

    monkeypatch.setattr(monitor, "GPU_FREE_S", 0.2)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Monitor().wait_for_gpus([0], [4711]) is None
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=hang))
    assert Monitor().wait_for_gpus([0], [4711]) is None
