"""`sollol doctor`: what a person reads, what a script gets, and the exit code."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sollol_tui.cli import doctor as command
from sollol_tui.model.diagnosis import (
    Check,
    Diagnosis,
    Examination,
    Outcome,
    Stage,
    not_reached,
    ok,
)
from sollol_tui.model.links import Endpoint, Firewall, Link, NetworkReport, Reach
from tests.cli.shell import sollol


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two local hosts, and one that does not exist."""
    monkeypatch.chdir(tmp_path)
    hosts = {
        name: {"connection": "local", "workdir": str(tmp_path / name)} for name in ("alpha", "beta")
    }
    hosts["gone"] = {"address": "192.0.2.1", "port": 1, "connect_timeout": "0.2s"}
    file = tmp_path / "inventory.yaml"
    file.write_text(json.dumps({"hosts": hosts, "network": {"ports": "29750-29799"}}))
    return file


def network_of(count: int, **blocked: Reach) -> NetworkReport:
    """Hosts with long names; `h0_h1=...` says what is in the way."""
    names = [f"h{number}" for number in range(count)]
    links = [
        Link(
            origin=f"{one}-a-long-name",
            target=f"{other}-a-long-name",
            job_port=Reach.OK,
            free_port=blocked.get(f"{one}_{other}", Reach.OK),
            bytes_per_s=None if f"{one}_{other}" in blocked else 117e6,
            latency_s=0.0002,
        )
        for one in names
        for other in names
        if one != other
    ]
    endpoints = tuple(
        Endpoint(
            host=f"{name}-a-long-name",
            address=f"10.0.0.{number}",
            interface="enp0s31f6",
            speed_mbit=1000,
            firewall=Firewall.IPTABLES,
        )
        for number, name in enumerate(names, 1)
    )
    return NetworkReport(endpoints=endpoints, links=tuple(links))


def lines_of(report: NetworkReport) -> list[str]:
    return list(command._network_lines(report, (29500, 29549)))


def test_every_stage_of_a_host_has_a_line_and_all_is_well(inventory: Path) -> None:
    code, out, err = sollol("doctor", "alpha")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "alpha"
    heads = [
        line.split()[:2] for line in out.splitlines() if line[:3] == "  -" or line[2:4] == "ok"
    ]
    assert [stage for _, stage in heads] == [stage.value for stage in Stage]
    assert "--fix would make it, with mode 0700" in out
    assert out.splitlines()[-1].startswith("1 host")


def test_a_host_that_is_down_fails_with_its_remedy_and_the_others_are_shown(
    inventory: Path,
) -> None:
    code, out, _ = sollol("doctor", "gone,alpha")
    assert code == 1
    order = [line for line in out.splitlines() if line in ("alpha", "gone")]
    assert order == ["alpha", "gone"], "the inventory's order"
    assert "FAIL  ssh" in out
    assert "not reached: shell, system, workdir" in out
    assert "-> " in out.partition("FAIL  ssh")[2]


def test_a_script_gets_one_object(inventory: Path) -> None:
    code, out, err = sollol("doctor", "gone,alpha", "--json")
    data = json.loads(out)
    assert (code, err, data["schema"], data["network"]) == (1, "", "sollol.doctor/1", None)
    alpha, gone = data["hosts"]
    assert (alpha["name"], gone["name"], gone["outcome"]) == ("alpha", "gone", "failed")
    assert [check["stage"] for check in alpha["checks"]] == [stage.value for stage in Stage]
    assert gone["checks"][0]["remedy"]
    assert {check["outcome"] for check in gone["checks"][1:]} == {"skipped"}


def test_the_network_between_two_hosts_is_shown(inventory: Path) -> None:
    code, out, _ = sollol("doctor", "alpha,beta", "--network")
    assert code == 0
    assert "FROM" in out
    assert out.count("  ok           ok  ") == 2
    assert "slowest  " in out
    data = json.loads(sollol("doctor", "alpha,beta", "--network", "--json")[1])
    assert [link["open"] for link in data["network"]["links"]] == [True, True]
    assert data["network"]["remedies"] == []


def test_the_network_takes_two_hosts(inventory: Path) -> None:
    code, out, _ = sollol("doctor", "alpha", "--network")
    assert code == 0
    assert "it takes two hosts that pass" in out


def test_fix_is_refused_where_nothing_may_be_changed(inventory: Path) -> None:
    code, _, err = sollol("--readonly", "doctor", "alpha", "--fix")
    assert code == 1
    assert "--readonly is on" in err
    assert not (inventory.parent / "alpha").exists()


def test_fix_says_what_it_did(inventory: Path) -> None:
    code, out, _ = sollol("doctor", "alpha", "--fix")
    assert code == 0
    assert "--fix made it, with mode 0700" in out
    assert (inventory.parent / "alpha").is_dir()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 20])
def test_the_network_fits_eighty_columns(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_width", lambda: 80)
    told = lines_of(network_of(count, h0_h1=Reach.FILTERED))
    copied = [line for line in told if "sudo" in line]
    assert len(copied) == 1, "one line for the host that keeps others out"
    assert [line for line in told if len(line) > 80 and line not in copied] == []
    assert any("filtered" in line for line in told)
    assert any("h0-a-long-name -> h1-a-long-name" in line for line in told)


def test_a_matrix_shows_rates_and_what_is_in_the_way() -> None:
    told = lines_of(network_of(6, h2_h5=Reach.REFUSED))
    row = next(line for line in told if line.startswith("h2-a-lon"))
    assert row.split()[1:] == ["936", "936", "-", "936", "936", "refused"]


def test_a_public_address_is_warned_of() -> None:
    report = network_of(2)
    public = Endpoint(host="far", address="8.8.8.8", interface="eth0")
    told = "\n".join(lines_of(NetworkReport(endpoints=(public,), links=report.links)))
    assert "  warn  far" in told
    assert "these ports know no authentication" in told


def test_a_blocked_network_fails_the_command() -> None:
    def code(report: NetworkReport) -> int:
        return command._exit_code(Examination(diagnoses=(), network=report))

    assert (code(network_of(2)), code(network_of(2, h0_h1=Reach.FILTERED))) == (0, 1)


def summary_of(*diagnoses: Diagnosis, network: NetworkReport | None = None) -> str:
    return command._summary(Examination(diagnoses=diagnoses, network=network), fix=False)


def test_a_host_that_fails_only_the_network_check_is_no_host_that_is_ok() -> None:
    hosts = [
        Diagnosis(host=name, checks=tuple(ok(stage, "there") for stage in Stage))
        for name in ("w1", "w2", "w3")
    ]
    fine, *others = (Endpoint(host=host.host, address="10.0.0.1") for host in hosts)
    broken = tuple(replace(each, problem="its network check ended early") for each in others)
    report = NetworkReport(endpoints=(fine, *broken), links=())
    assert summary_of(*hosts, network=report) == "3 hosts: 1 ok, 2 failed"
    assert not any("FROM" in line for line in lines_of(report)), "a table without a line"


def test_what_fix_would_mend_is_named() -> None:
    open_workdir = Check(
        stage=Stage.WORKDIR, outcome=Outcome.WARNING, found="mode 0755", fix="give it mode 0700"
    )
    host = Diagnosis(host="w1", checks=(open_workdir, not_reached(Stage.GPU)))
    told = summary_of(host, network=network_of(2, h0_h1=Reach.FILTERED))
    assert "1 of 2 directions blocked" in told
    assert told.endswith("`sollol doctor --fix` mends only: the workdir of w1")
    new = replace(open_workdir, outcome=Outcome.SKIPPED, fix="make it, with mode 0700")
    assert "--fix" not in summary_of(replace(host, checks=(new,))), "nothing is amiss"


def test_a_host_that_is_cut_off_both_ways_is_told_to_mend_its_own_firewall_first() -> None:
    shut = {f"h{one}_h{other}": Reach.FILTERED for one, other in ((0, 1), (1, 0), (1, 2), (2, 1))}
    told = "\n".join(lines_of(network_of(3, **shut)))
    assert told.count("sudo") == 1
    assert "-> on h1-a-long-name, let its peers in" in told
    assert "h1-a-long-name is cut off both ways" in told
