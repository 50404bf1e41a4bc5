"""The lab itself: what its hosts are, what can be done to them, and that nothing of it stays."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cluster.lab import Lab, leftovers, sweep
from tests.cluster.machine import Machine

WAIT_S = 40.0


def ssh(lab: Lab, host: Machine, known_hosts: Path, *command: str) -> subprocess.Popen[str]:
    options = {
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": 5,
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return subprocess.Popen(
        ["ssh", "-F", "none", "-i", lab.identity, *words, f"root@{host.address}", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reaches(source: Machine, target: Machine) -> bool:
    probe = f"import socket; socket.create_connection(('{target.address}', 22), 0.5)"
    return source.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_host_lets_its_key_in_and_proves_who_it_is(lab: Lab, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(lab.known_hosts_text())
    for host in lab.hosts:
        out, err = ssh(lab, host, known_hosts, "hostname; echo $HOME; which python3").communicate()
        assert out.split()[0] == host.name, err
        assert out.split()[1] != os.environ["HOME"]
        assert out.split()[2].startswith(sys.base_prefix)


def test_a_new_host_key_is_refused_by_who_knew_the_old_one(lab: Lab, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(lab.known_hosts_text())
    lab.hosts[0].restart_sshd(host_key="new")
    refused = ssh(lab, lab.hosts[0], known_hosts, "true")
    _, err = refused.communicate()
    assert refused.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in err
    known_hosts.write_text(lab.known_hosts_text())
    welcome = ssh(lab, lab.hosts[0], known_hosts, "true")
    assert welcome.communicate() == ("", "")
    assert welcome.returncode == 0


def test_each_host_has_a_home_a_tmp_and_a_boot_id_of_its_own(lab: Lab) -> None:
    first, second, _ = lab.hosts
    mark = "touch ~/mark /tmp/mark /mnt/mark /dev/shm/mark; ls -d ~/mark /tmp/mark /mnt/mark"
    assert len(first.run(["sh", "-c", mark]).stdout.split()) == 3
    looked = second.run(["sh", "-c", "ls ~ /tmp /mnt /dev/shm"])
    assert "mark" not in looked.stdout
    boot_ids = [host.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for host in lab.hosts]
    assert len(set(boot_ids)) == 3


def test_an_unplugged_host_is_out_of_reach_until_it_is_plugged_in(lab: Lab) -> None:
    first, second, third = lab.hosts
    first.cut()
    assert not reaches(second, first)
    assert reaches(second, third)
    first.heal()
    assert reaches(second, first)


def test_a_partition_between_two_hosts_leaves_the_third_connected(lab: Lab) -> None:
    first, second, third = lab.hosts
    first.drop_incoming_from(second.address)
    assert not reaches(second, first)
    assert reaches(third, first)


def test_a_crash_says_goodbye_and_a_power_cut_does_not(lab: Lab) -> None:
    first, second, _ = lab.hosts
    with socket.create_connection((first.address, 22), timeout=WAIT_S) as connection:
        connection.recv(64)
        first.crash()
        assert connection.recv(64) == b""
    with socket.create_connection((second.address, 22), timeout=WAIT_S) as connection:
        connection.recv(64)
        second.power_off()
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(64)


def test_a_booted_host_keeps_its_disk_and_forgets_its_processes(lab: Lab) -> None:
    host = lab.hosts[0]
    before = host.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    host.run(["sh", "-c", "echo kept >/tmp/kept; sleep 1000 >/dev/null 2>&1 &"])
    assert len(host.processes()) == 1
    host.power_off()
    host.boot()
    assert host.processes() == []
    assert host.run(["cat", "/tmp/kept"]).stdout == "kept\n"
    assert host.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != before


def test_processes_and_ports_of_a_host_are_its_own(lab: Lab) -> None:
    first, second, _ = lab.hosts
    serve = (
        "import socket, time; s = socket.create_server(('', 29500)); print(flush=True);"
        " time.sleep(1000)"
    )
    first.run(
        [
            "sh",
            "-c",
            f'"{sys.executable}" -c "$1" >up 2>&1 & while [ ! -s up ]; do :; done',
            "sh",
            serve,
        ]
    )
    [process] = first.processes()
    assert "create_server" in process.command
    assert first.listening_ports() == {29500}
    assert second.processes() == []
    assert second.listening_ports() == set()
    assert first.kill_leftovers() == [process]
    assert first.processes() == []
    assert first.listening_ports() == set()


def test_a_frozen_host_is_silent_until_it_thaws(lab: Lab) -> None:
    host = lab.hosts[0]
    host.freeze()
    with socket.create_connection((host.address, 22), timeout=0.5) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(64)
        host.thaw()
        connection.settimeout(WAIT_S)
        assert connection.recv(64).startswith(b"SSH-")


def test_the_cpu_quota_holds(lab: Lab) -> None:
    host = lab.hosts[0]
    host.set_cpu(20)
    burn = (
        "import time; w, c = time.monotonic(), time.process_time()\n"
        "while time.monotonic() < w + 1: pass\n"
        "print(time.process_time() - c)"
    )
    assert float(host.run([sys.executable, "-c", burn]).stdout) < 0.5


def test_the_rate_of_the_cable_holds(lab: Lab) -> None:
    host = lab.hosts[0]
    host.set_rate("80mbit")
    size = 4_000_000  # 0.4 s at that rate
    with socket.create_server((host.gateway, 0)) as server:
        target = server.getsockname()
        send = f"import socket; socket.create_connection({target}).sendall(bytes({size}))"
        sender = threading.Thread(target=host.run, args=([sys.executable, "-c", send],))
        sender.start()
        connection, _ = server.accept()
        began, received = time.monotonic(), 0
        with connection:
            while received < size:
                received += len(connection.recv(1 << 20))
        took_s = time.monotonic() - began
        sender.join()
    assert 0.25 < took_s < 4.0


def test_two_labs_live_side_by_side(lab: Lab) -> None:
    with Lab.up(hosts=1) as other:
        assert other.number != lab.number
        assert other.hosts[0].run(["hostname"]).stdout == "w1\n"
        assert {lab.number, other.number}.isdisjoint(sweep())
        assert lab.hosts[0].is_on
    assert leftovers(other.number) == []


def test_a_shared_folder_appears_on_the_hosts(lab_is_possible: None, tmp_path: Path) -> None:
    (tmp_path / "wheel").write_text("here")
    with Lab.up(hosts=1, shared={tmp_path: "~/.sollol/wheels"}) as other:
        host = other.hosts[0]
        assert host.run(["cat", ".sollol/wheels/wheel"]).stdout == "here"
        host.run(["touch", ".sollol/rest"])
        host.wipe_workdir()
        assert host.run(["ls", ".sollol"]).stdout == "wheels\n"
    assert (tmp_path / "wheel").read_text() == "here"


def test_the_lab_of_a_killed_process_is_swept_by_the_next(lab_is_possible: None) -> None:
    script = (
        "import time; from tests.cluster.lab import Lab\n"
        "lab = Lab.up(hosts=1); lab.hosts[0].run(['sh', '-c', 'sleep 1000 >/dev/null 2>&1 &'])\n"
        "lab.hosts[0].freeze(); print(lab.number, flush=True); time.sleep(1000)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        number = int(killed.stdout.readline())
        assert leftovers(number) != []
        assert number not in sweep()
        killed.send_signal(signal.SIGKILL)
    # Another suite on this machine may have begun to sweep it already.
    deadline = time.monotonic() + WAIT_S
    while leftovers(number) and time.monotonic() < deadline:
        sweep()
    assert leftovers(number) == []
