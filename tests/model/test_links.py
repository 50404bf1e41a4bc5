"""Pairs of hosts: rounds that disturb nobody, and the line that opens a firewall."""

import shlex
from dataclasses import replace
from itertools import combinations

import pytest

from sollol_tui.model.links import (
    Endpoint,
    Firewall,
    Link,
    NetworkReport,
    Reach,
    admission,
    cost_s,
    rounds,
)

ADDRESSES = {"w1": "10.0.0.11", "w2": "10.0.0.12", "w3": "10.0.0.13"}


def endpoint(name: str, **changes: object) -> Endpoint:
    values = {"host": name, "address": ADDRESSES.get(name, "10.0.0.99"), "interface": "eth0"}
    return Endpoint(**(values | changes))  # type: ignore[arg-type]


def link(origin: str, target: str, **changes: object) -> Link:
    values = {"origin": origin, "target": target, "job_port": Reach.OK, "free_port": Reach.OK}
    return Link(**(values | changes))  # type: ignore[arg-type]


def full(**changed: Link) -> NetworkReport:
    """Three hosts where all is well but for the links given, as `w1_w2=...`."""
    links = [
        changed.get(f"{origin}_{target}", link(origin, target))
        for origin in ADDRESSES
        for target in ADDRESSES
        if origin != target
    ]
    return NetworkReport(endpoints=tuple(map(endpoint, ADDRESSES)), links=tuple(links))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 20])
def test_every_pair_is_measured_once_and_nobody_twice_in_a_round(count: int) -> None:
    names = [f"w{number}" for number in range(count)]
    plan = list(rounds(names))
    for pairs in plan:
        busy = [name for pair in pairs for name in pair]
        assert len(busy) == len(set(busy))
    met = sorted(tuple(sorted(pair)) for pairs in plan for pair in pairs)
    assert met == sorted(tuple(sorted(pair)) for pair in combinations(names, 2))
    assert len(plan) == count - 1 + count % 2


@pytest.mark.parametrize(
    ("firewall", "line"),
    [
        (Firewall.UFW, "for ip in 10.0.0.11 10.0.0.12; do sudo ufw allow proto tcp from $ip; done"),
        (Firewall.IPTABLES, "sudo iptables -I INPUT -p tcp -s 10.0.0.11,10.0.0.12 -j ACCEPT"),
        (
            Firewall.NFTABLES,
            "sudo nft insert rule inet filter input ip saddr '{ 10.0.0.11, 10.0.0.12 }' "
            "meta l4proto tcp accept",
        ),
    ],
)
def test_the_remedy_is_one_line_of_the_firewall_that_is_there(
    firewall: Firewall, line: str
) -> None:
    told = admission(endpoint("w3", firewall=firewall), ["10.0.0.11", "10.0.0.12"])
    assert (told.host, told.line, told.alternative) == ("w3", line, "")


def test_firewalld_gets_a_rich_rule_for_each_peer() -> None:
    told = admission(endpoint("w3", firewall=Firewall.FIREWALLD), ["10.0.0.11", "fd00::2"])
    words = shlex.split(told.line)
    assert [word for word in words if "rule" in word] == [
        "--add-rich-rule=rule family=ipv4 source address=10.0.0.11 protocol value=tcp accept",
        "--add-rich-rule=rule family=ipv6 source address=fd00::2 protocol value=tcp accept",
    ]
    assert words[-3:] == ["sudo", "firewall-cmd", "--reload"]


def test_an_unknown_firewall_gets_two_forms() -> None:
    told = admission(endpoint("w3"), ["10.0.0.11"])
    assert told.line == "sudo ufw allow proto tcp from 10.0.0.11"
    assert told.alternative.startswith("sudo nft insert rule")


def test_both_families_are_admitted() -> None:
    told = admission(endpoint("w3", firewall=Firewall.IPTABLES), ["10.0.0.11", "fd00::2"])
    assert told.line == (
        "sudo iptables -I INPUT -p tcp -s 10.0.0.11 -j ACCEPT && "
        "sudo ip6tables -I INPUT -p tcp -s fd00::2 -j ACCEPT"
    )


def test_a_host_that_keeps_one_peer_out_gets_a_line_with_all_peers() -> None:
    report = full(w1_w3=link("w1", "w3", free_port=Reach.FILTERED))
    assert [each.target for each in report.blocked] == ["w3"]
    (remedy,) = report.remedies
    assert remedy.host == "w3"
    assert "10.0.0.11 10.0.0.12" in remedy.line
    assert report.has_failed


def test_a_host_that_loses_even_the_replies_to_its_own_connections_is_the_one_to_mend() -> None:
    shut = {
        f"{origin}_{target}": link(
            origin, target, job_port=Reach.FILTERED, free_port=Reach.FILTERED
        )
        for origin in ADDRESSES
        for target in ADDRESSES
        if origin != target and "w2" in (origin, target)
    }
    report = full(**shut)
    assert report.cut_off == ("w2",)
    assert [each.host for each in report.remedies] == ["w2"]


def test_hosts_that_admit_only_each_other_are_the_ones_to_mend_when_a_new_one_comes() -> None:
    report = full(
        w2_w1=link("w2", "w1", free_port=Reach.FILTERED),
        w2_w3=link("w2", "w3", free_port=Reach.FILTERED),
    )
    assert report.cut_off == ()
    assert [each.host for each in report.remedies] == ["w1", "w3"]


def test_between_two_hosts_nobody_tells_which_firewall_it_is() -> None:
    links = [link(*pair, free_port=Reach.FILTERED) for pair in (("w1", "w2"), ("w2", "w1"))]
    report = NetworkReport(endpoints=(endpoint("w1"), endpoint("w2")), links=tuple(links))
    assert report.cut_off == ()
    assert [each.host for each in report.remedies] == ["w1", "w2"]


def test_a_full_port_range_blocks_nothing() -> None:
    assert link("w1", "w2", job_port=Reach.UNTRIED).is_open
    assert not link("w1", "w2", job_port=Reach.REFUSED).is_open
    assert not full().has_failed


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("192.168.1.4", False),
        ("100.101.102.103", False),  # CGNAT, Tailscale
        ("fd7a:115c:a1e0::1", False),
        ("127.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_a_public_address_is_known_as_one(address: str, is_public: bool) -> None:
    assert endpoint("w1", address=address).is_public is is_public


def test_the_slowest_direction_is_named_with_its_cost() -> None:
    report = full(
        w1_w2=link("w1", "w2", bytes_per_s=125e6),
        w2_w1=link("w2", "w1", bytes_per_s=12.5e6),
    )
    assert report.slowest is not None
    assert (report.slowest.origin, report.slowest.target) == ("w2", "w1")
    assert cost_s(report.slowest) == pytest.approx(4.0)
    assert cost_s(link("w1", "w2")) is None


def test_packets_that_leave_by_another_address_are_told() -> None:
    astray = link("w1", "w2", source="172.16.0.9")
    report = full(w1_w2=astray, w2_w1=link("w2", "w1", source="10.0.0.12"))
    assert report.astray == (astray,)


def test_the_interface_goes_to_the_backends_that_the_ranks_use() -> None:
    assert endpoint("w1").backends == "gloo"
    assert replace(endpoint("w1"), has_gpus=True).backends == "gloo and NCCL"
