"""A host's load in one short answer; whatever cannot be read is None."""

import pytest

from sollol_tui.hosts.reading import parse_reading, take_reading
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.errors import CommandError
from sollol_tui.model.inventory import Host

HOST = Host(name="w1")
ANSWER = """welcome to w1
begin=reading
cpu=cpu  100 0 100 800 0 0 0 0 0 0
df=/dev/sda1 1000 400 600 40% /
cpus_allowed=0-7
meminfo=MemTotal:       1000 kB
meminfo=MemAvailable:    250 kB
gpu=0, NVIDIA GeForce RTX 3090, 97, 21900, 24576, 71
gpu=1, NVIDIA GeForce RTX 3090, [N/A], 10, 24576, [Unknown Error]
cpu=cpu  150 0 125 825 0 0 0 0 0 0
end=reading
"""


def test_load_is_what_happened_between_the_two_looks() -> None:
    reading = parse_reading(ANSWER, HOST)
    assert reading.cpu_percent == 75.0
    assert (reading.ram_used_bytes, reading.ram_total_bytes) == (750 * 1024, 1000 * 1024)
    assert (reading.cpu_cores, reading.disk_free_bytes) == (8, 600 * 1024)


def test_a_gpu_that_does_not_tell_its_load_is_still_there() -> None:
    first, second = parse_reading(ANSWER, HOST).gpus
    assert (first.util_percent, first.vram_used_bytes, first.temp_c) == (97, 21900 * 1024**2, 71)
    assert (second.util_percent, second.temp_c, second.vram_total_bytes) == (
        None,
        None,
        24576 * 1024**2,
    )


def test_an_amd_gpu_tells_its_load_and_the_processors_own_graphics_are_left_out() -> None:
    amd = "amd=97|8589934592|25753026560|61000|AMD Radeon RX 7900 XTX\namd=0|1|536870912||iGPU\n"
    nothing = "amd=||25753026560||AMD GPU 7448\n"
    load, silent = parse_reading(ANSWER.replace("end=", amd + nothing + "end="), HOST).gpus[2:]
    assert (load.name, load.util_percent, load.temp_c) == ("AMD Radeon RX 7900 XTX", 97, 61.0)
    assert (load.vram_used_bytes, load.vram_total_bytes) == (8589934592, 25753026560)
    assert (silent.index, silent.util_percent, silent.temp_c) == (2, None, None)


def test_an_answer_without_its_end_is_an_error_that_names_the_host() -> None:
    with pytest.raises(CommandError, match="w1: did not say what it is"):
        parse_reading(ANSWER.replace("end=reading", ""), HOST)


def test_figures_that_make_no_sense_are_none() -> None:
    answer = "begin=reading\ncpu=cpu x y\ncpus_allowed=\ngpu=nonsense\nend=reading\n"
    reading = parse_reading(answer, HOST)
    assert reading.cpu_percent is None
    assert reading.ram_total_bytes is None
    assert reading.gpus == ()


async def test_a_real_machine_answers(local: HostConnection) -> None:
    reading = await take_reading(local)
    assert reading.cpu_percent is not None
    assert 0 <= reading.cpu_percent <= 100
    assert reading.ram_used_bytes
    assert reading.disk_free_bytes
