"""`sollol doctor` against real OpenSSH hosts: firewalls, a shaped link, a host that is down."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import sollol
from tests.cluster.lab import Lab
from tests.cluster.machine import Machine

PORTS = "29500:29549"
EPHEMERAL = "32768:60999"
QUIET_S = 10.0


@pytest.fixture(autouse=True)
def inventory(
    lab: Lab, tmp_path: Path, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(lab.inventory_text())
    state = isolated_home / "sollol-state"
    state.mkdir(mode=0o700)
    (state / "known_hosts").write_text(lab.known_hosts_text())


@pytest.fixture(autouse=True)
def no_firewall(lab: Lab) -> Iterator[None]:
    yield
    for host in lab.hosts:
        if host.is_on:
            host.run(["iptables", "-F", "INPUT"])


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, err = sollol("doctor", *arguments, "--json")
    assert out, err
    return code, json.loads(out)


def shut(host: Machine, peer: Machine, ports: str, verdict: str) -> None:
    rule = ["-s", peer.address, "-p", "tcp", "--syn", "--dport", ports, "-j", verdict]
    host.run(["iptables", "-w", "-A", "INPUT", *rule])


def wait_until_quiet(host: Machine) -> None:
    deadline = time.monotonic() + QUIET_S
    while host.processes() or host.listening_ports():
        assert time.monotonic() < deadline, (host.processes(), host.listening_ports())
        time.sleep(0.02)


def outcomes(data: dict[str, Any]) -> dict[str, str]:
    return {host["name"]: host["outcome"] for host in data["hosts"]}


def failed_stage(data: dict[str, Any], host: str) -> dict[str, Any]:
    (checks,) = [each["checks"] for each in data["hosts"] if each["name"] == host]
    (failed,) = [check for check in checks if check["outcome"] == "failed"]
    after = checks[checks.index(failed) + 1 :]
    assert {check["found"] for check in after} <= {"not reached"}
    return failed


def links(data: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(link["origin"], link["target"]): link for link in data["network"]["links"]}


def test_a_healthy_pair_is_open_both_ways_at_the_speed_of_its_link(lab: Lab) -> None:
    for host in lab.hosts[:2]:
        host.set_rate("100mbit")
    code, data = doctor("w1,w2", "--network")
    assert (code, set(outcomes(data).values()) - {"ok", "warning"}) == (0, set())
    found = links(data)
    assert set(found) == {("w1", "w2"), ("w2", "w1")}
    for link in found.values():
        assert (link["job_port"], link["free_port"]) == ("ok", "ok")
        assert 60 < link["bytes_per_s"] * 8 / 1e6 < 110
        assert 0 < link["latency_s"] < 0.1
    for endpoint, host in zip(data["network"]["endpoints"], lab.hosts, strict=False):
        assert (endpoint["address"], endpoint["interface"]) == (host.address, "eth0")
        assert endpoint["public"] is False
    for host in lab.hosts[:2]:
        wait_until_quiet(host)


def test_a_dropping_firewall_is_found_in_its_direction_with_the_line_that_opens_it(
    lab: Lab,
) -> None:
    shut(lab.hosts[1], lab.hosts[0], PORTS, "DROP")
    shut(lab.hosts[1], lab.hosts[0], EPHEMERAL, "REJECT")
    code, data = doctor("all", "--network")
    assert code == 1
    assert set(outcomes(data).values()) <= {"ok", "warning"}
    blocked = {pair: link for pair, link in links(data).items() if not link["open"]}
    assert set(blocked) == {("w1", "w2")}
    link = blocked["w1", "w2"]
    assert (link["job_port"], link["free_port"]) == ("filtered", "refused")
    (remedy,) = data["network"]["remedies"]
    assert (remedy["host"], remedy["firewall"]) == ("w2", "iptables")
    first, third = lab.hosts[0].address, lab.hosts[2].address
    assert remedy["line"] == f"sudo iptables -I INPUT -p tcp -s {first},{third} -j ACCEPT"

    lab.hosts[1].run(["sh", "-c", remedy["line"].replace("sudo ", "")])
    code, data = doctor("all", "--network")
    assert (code, data["network"]["remedies"]) == (0, [])


def test_a_firewall_that_drops_even_replies_is_blamed_on_the_host_that_has_it(lab: Lab) -> None:
    first, second, third = lab.hosts[:3]
    for peer in (first, third):
        second.run(["iptables", "-w", "-A", "INPUT", "-s", peer.address, "-j", "DROP"])
    code, data = doctor("all", "--network")
    assert code == 1
    blocked = {pair for pair, link in links(data).items() if not link["open"]}
    assert blocked == {("w1", "w2"), ("w2", "w1"), ("w2", "w3"), ("w3", "w2")}
    (remedy,) = data["network"]["remedies"]
    assert remedy["host"] == "w2"
    second.run(["sh", "-c", remedy["line"].replace("sudo ", "")])
    code, data = doctor("all", "--network")
    assert (code, data["network"]["remedies"]) == (0, [])


def test_a_host_that_is_down_hides_no_other(lab: Lab) -> None:
    lab.hosts[2].power_off()
    inventory = Path("inventory.yaml")
    inventory.write_text(inventory.read_text() + "defaults: {connect_timeout: 2s}\n")
    code, data = doctor("--network")
    assert code == 1
    assert failed_stage(data, "w3")["stage"] == "ssh"
    assert [link["open"] for link in data["network"]["links"]] == [True, True]


def test_an_unknown_host_key_stops_at_ssh_with_its_own_exit_code(
    lab: Lab, isolated_home: Path
) -> None:
    (isolated_home / "sollol-state" / "known_hosts").write_text(
        lab.hosts[0].known_hosts_line + "\n"
    )
    code, data = doctor("w1,w2")
    assert code == 4
    failed = failed_stage(data, "w2")
    assert (failed["stage"], failed["remedy"].split(": ")[-1]) == ("ssh", "sollol hosts trust w2")


@pytest.mark.parametrize("harm", ["of another owner", "read-only"])
def test_a_workdir_that_cannot_be_used_is_where_it_stops(lab: Lab, harm: str) -> None:
    folder = "/root/.sollol"
    host = lab.hosts[0]
    host.run(["mkdir", "-p", "-m", "700", folder, f"{folder}/payload"])
    if harm == "read-only":
        host.run(["mount", "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", folder])
    else:
        host.run(["chown", "1234", folder])
    try:
        code, data = doctor("w1", "--fix")
    finally:
        if harm == "read-only":
            host.run(["umount", folder])
    assert code == 1
    failed = failed_stage(data, "w1")
    assert failed["stage"] == "workdir"
    assert ("sudo chown" in failed["remedy"]) == (harm == "of another owner")
    assert ("its disk is read-only" in failed["reason"]) == (harm == "read-only")


def test_a_shell_that_talks_and_takes_its_time_is_a_warning(lab: Lab) -> None:
    startup = lab.hosts[0].home / ".bashrc"
    before = startup.read_bytes() if startup.exists() else None
    startup.write_text("echo Welcome aboard; sleep 1\n")
    try:
        code, data = doctor("w1")
    finally:
        if before is None:
            startup.unlink()
        else:
            startup.write_bytes(before)
    (host,) = data["hosts"]
    shell = next(check for check in host["checks"] if check["stage"] == "shell")
    assert (code, shell["outcome"]) == (0, "warning")
    assert "Welcome aboard" in shell["reason"]
    assert "for every command anew" in shell["reason"]
