"""The network between two local hosts, and hosts whose answers make no sense."""

from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.hosts import network
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.network import examine_network
from sollol_tui.hosts.ssh import connect
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.inventory import ConnectionKind, Host, Network
from sollol_tui.model.links import Reach
from tests.jobs.samples import facts

PORTS = Network(ports=(29650, 29699))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MEASURE_BYTES", 2_000_000)


@pytest.fixture
async def pair(tmp_path: Path) -> list[tuple[Host, HostFacts]]:
    hosts = [
        Host(name=name, connection=ConnectionKind.LOCAL, workdir=str(tmp_path / name))
        for name in ("a", "b")
    ]
    async with connect(hosts[0], []) as connection:
        told = await gather_facts(connection)
    return [(host, told) for host in hosts]


async def test_both_directions_are_open_and_measured(pair: list[tuple[Host, HostFacts]]) -> None:
    progress: list[str] = []
    report = await examine_network(pair, PORTS, [], progress.append)
    assert [(link.origin, link.target) for link in report.links] == [("a", "b"), ("b", "a")]
    for link in report.links:
        assert (link.job_port, link.free_port) == (Reach.OK, Reach.OK)
        assert link.bytes_per_s is not None
        assert link.latency_s is not None
    assert {each.interface for each in report.endpoints} == {"lo"}
    assert all(29650 <= (each.job_port or 0) <= 29699 for each in report.endpoints)
    assert (report.has_failed, report.remedies) == (False, ())
    assert progress == [
        "opening ports on 2 hosts",
        "trying 2 directions",
        "measuring, round 1 of 1",
    ]


async def test_an_address_that_is_not_the_hosts_own_is_its_problem_alone(
    pair: list[tuple[Host, HostFacts]],
) -> None:
    (first, told), second = pair
    wrong = (replace(first, name="c"), replace(told, address="192.0.2.7"))
    report = await examine_network([(first, told), wrong, second], PORTS, [], lambda text: None)
    problems = {each.host: each.problem for each in report.endpoints}
    assert "no network interface of it has 192.0.2.7" in problems.pop("c")
    assert problems == {"a": "", "b": ""}
    assert [(link.origin, link.is_open) for link in report.links] == [("a", True), ("b", True)]


async def test_an_error_that_nobody_expected_is_that_hosts_alone(
    pair: list[tuple[Host, HostFacts]],
) -> None:
    (first, told), second = pair
    odd = (replace(first, name="c"), replace(told, workdir="/home/\ud800"))  # no shell carries it
    report = await examine_network([(first, told), odd, second], PORTS, [], lambda text: None)
    problems = {each.host: each.problem for each in report.endpoints}
    assert problems.pop("c").startswith("failed unexpectedly: ValueError: ")
    assert problems == {"a": "", "b": ""}
    assert [link.is_open for link in report.links] == [True, True]


async def test_a_host_without_any_python_says_so(
    pair: list[tuple[Host, HostFacts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_START", 'echo \'{"v": 1, "error": "no Python"}\'')
    report = await examine_network(pair, PORTS, [], lambda text: None)
    assert [each.problem for each in report.endpoints] == [
        "has no Python 3.8 or newer to check its network with"
    ] * 2
    assert report.links == ()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\n",
        b'{"v": 1, "id": 1, "interface": 7, "job_port": "x", "free_port": -4, "speed_mbit": true}',
        b'{"v": 1, "id": 1, "error": "\x1b[2J' + b"x" * 5000 + b'"}',
        b"[" * 100_000,
        b"y" * 2_000_000,
    ],
    ids=["nothing", "nonsense", "wrong types", "escapes", "deep", "endless"],
)
async def test_an_answer_that_makes_no_sense_is_a_problem_of_that_host(
    pair: list[tuple[Host, HostFacts]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: bytes,
) -> None:
    file = tmp_path / "answer"
    file.write_bytes(answer)
    monkeypatch.setattr(network, "_START", f"cat {file}; echo")
    report = await examine_network(pair, PORTS, [], lambda text: None)
    assert not any(link.is_open for link in report.links)
    for each in report.endpoints:
        assert len(each.problem) < 400
        assert "\x1b" not in each.problem + each.interface
        assert (each.job_port, each.free_port) == (None, None)


async def test_an_address_that_is_none_is_told_before_anything_is_tried() -> None:
    hosts = [(Host(name=name), facts(address="not an address")) for name in ("a", "b")]
    report = await examine_network(hosts, PORTS, [], lambda text: None)
    assert [each.problem for each in report.endpoints] == [
        "says that its address is not an address"
    ] * 2


async def test_a_loopback_address_is_no_way_from_another_machine() -> None:
    stations = {
        name: network._station(Host(name=name), facts(address=address))
        for name, address in (("here", "127.0.0.1"), ("w1", "10.0.0.11"))
    }
    link = network._pairs(stations)["w1", "here"]
    assert link.free_port is Reach.UNREACHABLE
    assert link.detail == "127.0.0.1 is here's own; set its internal_ip"
