"""Facts: real answers pasted into JSON files, and what a broken or hostile host may answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sollol_tui.hosts.facts import gather_facts, parse_facts
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.errors import CommandError
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import ConnectionKind, Host

CASES = sorted((Path(__file__).parent / "facts").glob("*.json"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_an_answer_becomes_facts(file: Path) -> None:
    case: dict[str, Any] = json.loads(file.read_text())
    facts = parse_facts("\n".join(case["answer"]) + "\n", Host(name="w1", **case["host"]))
    assert {key: shown(facts, key) for key in case["facts"]} == case["facts"]


def shown(facts: HostFacts, key: str) -> Any:
    """A fact as the cases write it."""
    match key:
        case "pythons":
            return [f"{python.version} {python.path}" for python in facts.pythons]
        case "gpus":
            return [
                f"{gpu.index} {gpu.name} {gpu.vram_bytes}{' of RAM' if gpu.shares_ram else ''}"
                for gpu in facts.gpus
            ]
        case "gpu_uuids":
            return [gpu.uuid for gpu in facts.gpus]
        case "gpu_processes":
            return [f"{p.pid} {p.gpu} {p.vram_bytes} {p.name}" for p in facts.gpu_processes]
        case "interfaces":
            return [f"{i.name} {i.address}/{i.prefix} {i.speed_mbit}" for i in facts.interfaces]
        case _:
            return getattr(facts, key)


@pytest.mark.parametrize(
    "answer",
    ["", "bash: sh: command not found", "begin=facts\nhome=/root\n", "begin=facts\nend=facts\n"],
)
def test_an_answer_that_is_not_whole_is_refused(answer: str) -> None:
    with pytest.raises(CommandError):
        parse_facts(answer, Host(name="w1"))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (Host(name="w1"), "192.0.2.7"),
        (Host(name="w1", cidr="10.20.0.0/16"), "10.20.0.7"),
        (Host(name="w1", cidr="192.0.2.0/24"), "192.0.2.7"),
        (Host(name="w1", cidr="10.0.0.0/8", internal_ip="172.16.0.7"), "172.16.0.7"),
        (Host(name="w1", cidr="2001:db8::/32"), "2001:db8::7"),
        (Host(name="w1", cidr="198.51.100.0/24"), "192.0.2.7"),
        (Host(name="w1", connection=ConnectionKind.LOCAL), "127.0.0.1"),
        (Host(name="w1", connection=ConnectionKind.LOCAL, cidr="10.20.0.0/16"), "10.20.0.7"),
    ],
)
def test_the_others_use_the_address_in_the_network_that_the_inventory_names(
    host: Host, address: str
) -> None:
    answer = (
        "begin=facts\nhome=/root\nworkdir=/root/.sollol\naddress=192.0.2.7\n"
        "link=eth0 up 1000\nlink=eth1 up 1000\nip=2: eth0    inet 192.0.2.6/24 brd 192.0.2.255\n"
        "ip=2: eth0    inet 192.0.2.7/24 brd 192.0.2.255\nip=3: eth1    inet 10.20.0.7/16 brd x\n"
        "ip=3: eth1    inet6 2001:db8::7/64 scope global\nend=facts\n"
    )
    assert parse_facts(answer, host).address == address


KEYS = [
    "cpuinfo", "meminfo", "df", "python", "gpu", "cpus_allowed", "gpu_process", "amd", "amd_card",
    "amd_process", "tegra", "link", "ip", "route", "local", "inet6", "clock", "rocm", "cuda",
]  # fmt: skip


@given(st.text(), st.sampled_from(KEYS))
def test_nonsense_in_one_line_never_raises(text: str, key: str) -> None:
    head = "begin=facts\nhome=/h\nworkdir=/h/w\nsmi_status=0\n"
    facts = parse_facts(f"{head}{key}={text}\nend=facts\n", Host(name="w1"))
    assert facts.cpu_cores >= 1


async def test_this_machine_says_what_it_is(local: HostConnection, tmp_path: Path) -> None:
    facts = await gather_facts(local)
    assert (facts.system, facts.address) == ("Linux", "127.0.0.1")
    assert facts.workdir == str(tmp_path / "workdir")
    assert facts.ram_bytes > 0
    assert facts.disk_free_bytes > 0
    assert all(Path(python.path).exists() for python in facts.pythons)
    assert facts.clock_skew_s is not None
    assert abs(facts.clock_skew_s) < 5
