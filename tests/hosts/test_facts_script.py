"""The scripts behind facts and readings, run by real shells on machines dressed up for it."""

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from remote import limits
from sollol_tui.hosts import facts, reading
from sollol_tui.hosts.shell import script
from sollol_tui.model.facts import RamLimit, Vendor
from sollol_tui.model.inventory import Host

HOST = Host(name="w1")
GIB = 1024**3
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
# What the tool says where the language is not C: no figure that could be read.
NVIDIA_SMI = r"""#!/bin/sh
[ "$LC_ALL" = C ] || { echo 'sprich deutsch, 24.576,00'; exit 1; }
case "$*" in
  *--query-gpu=*utilization*) echo '0, NVIDIA GeForce RTX 3090, 97, 21900, 24576, 71' ;;
  *--query-gpu=*) echo '0, NVIDIA GeForce RTX 3090, 24576, GPU-1f0a, 550.54.15, Enabled' ;;
  *--query-compute-apps=*) echo '4242, GPU-1f0a, 8190, /usr/bin/python3' ;;
  -L) echo 'GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-1f0a)'
      echo '  MIG 3g.20gb     Device  0: (UUID: MIG-c738)' ;;
esac
"""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a script in one shell, with the tools of busybox before all others where it is that."""
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not here")
    if name == "busybox":
        applets = tmp_path / "applets"
        applets.mkdir()
        for applet in subprocess.check_output(["busybox", "--list"], text=True).split():
            (applets / applet).symlink_to(shutil.which("busybox") or "")
        monkeypatch.setenv("PATH", f"{applets}:{os.environ['PATH']}")

    def run(text: str) -> str:
        done = subprocess.run(
            [*SHELLS[name], "-s"],
            input=script(text, workdir=str(tmp_path / "w")),
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert done.stderr == b""
        return done.stdout.decode()

    return run


def test_every_shell_tells_the_same(shell: Callable[[str], str]) -> None:
    found = facts.parse_facts(shell(facts.SCRIPT), HOST)
    kernel = os.uname()
    assert (found.hostname, found.kernel, found.arch) == (
        kernel.nodename,
        kernel.release,
        kernel.machine,
    )
    assert found.ram_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 <= found.cpu_cores <= len(os.sched_getaffinity(0))
    assert found.disk_free_bytes > 0
    if found.ram_limit is not RamLimit.SCOPE:  # what an agent on this machine would find
        assert (found.ram_limit is RamLimit.GROUP) == (limits.divisible_group() is not None)
    load = reading.parse_reading(shell(reading.SCRIPT), HOST)
    assert load.cpu_cores == len(os.sched_getaffinity(0))
    assert load.cpu_percent is not None
    assert load.disk_free_bytes
    assert load.ram_total_bytes == found.ram_bytes


def test_a_language_with_commas_and_shims_before_all_else_change_nothing(
    shell: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims, tools = tmp_path / "shims", tmp_path / "tools"
    for folder in (shims, tools):
        folder.mkdir()
    for name in ("python3", "python3.12", "uv", "nvidia-smi"):
        (shims / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/a-shim-ran\n")
        (shims / name).chmod(0o755)
    (tools / "nvidia-smi").write_text(NVIDIA_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    with monkeypatch.context() as with_tools:
        with_tools.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        found = facts.parse_facts(shell(facts.SCRIPT), HOST)
        load = reading.parse_reading(shell(reading.SCRIPT), HOST)
    (gpu,), (process,) = found.gpus, found.gpu_processes
    assert (gpu.name, gpu.uuid) == ("NVIDIA GeForce RTX 3090 MIG 3g.20gb", "MIG-c738")
    assert (process.pid, process.vram_bytes) == (4242, 8190 * 1024**2)
    assert (load.gpus[0].util_percent, load.gpus[0].temp_c) == (97, 71)
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    facts.parse_facts(shell(facts.SCRIPT), HOST)
    shell(reading.SCRIPT)
    assert not (tmp_path / "a-shim-ran").exists()


def test_a_machine_with_amd_gpus_and_without_ip_tells_both(tmp_path: Path) -> None:
    """Its own mount namespace shows another /sys/class, /dev/kfd and no `ip`."""
    cards = {
        "1": ("simd_count 0\n", None, None),
        "2": ("simd_count 192\ndrm_render_minor 129\nunique_id 5752170827923136638\n", "56387", 24),
        "10": ("simd_count 4\ndrm_render_minor 128\nunique_id 0\n", "31033", 1),
    }
    sys_class = tmp_path / "class"
    sys_class.mkdir()
    for number in range(11):  # the kernel numbers its nodes without a gap
        properties, gpu_id, gib = cards.get(str(number), cards["1"])
        node = sys_class / "kfd/kfd/topology/nodes" / str(number)
        node.mkdir(parents=True)
        (node / "properties").write_text(f"cpu_cores_count 0\n{properties}")
        (node / "gpu_id").write_text(f"{gpu_id or 0}\n")
        if gib is not None:
            minor = properties.split("drm_render_minor ")[1][:3]
            device = sys_class / f"drm/renderD{minor}/device"
            (device / "hwmon/hwmon3").mkdir(parents=True)
            for file, text in {
                "vendor": "0x1002",
                "device": "0x744c",
                "revision": "0xc8",
                "product_name": "AMD Radeon Pro W7900" if gib == 24 else "",
                "mem_info_vram_total": str(gib * GIB),
                "mem_info_vram_used": str(gib * GIB // 4),
                "gpu_busy_percent": "97",
                "hwmon/hwmon3/temp1_input": "61000",
            }.items():
                (device / file).write_text(f"{text}\n")
    process = sys_class / f"kfd/kfd/proc/{os.getpid()}"
    process.mkdir(parents=True)
    (process / "vram_56387").write_text(f"{3 * GIB}\n")
    (sys_class / "net").symlink_to(tmp_path / "net")
    for one in (facts, reading):
        name = one.__name__.rpartition(".")[2]
        (tmp_path / name).write_bytes(script(one.SCRIPT, workdir="~"))
    tools = {os.path.realpath(f"{folder}/ip") for folder in ("/usr/sbin", "/sbin", "/usr/bin")}
    inside = f"""set -e
        mkdir {tmp_path}/net {tmp_path}/dev; touch {tmp_path}/dev/null {tmp_path}/dev/kfd
        mount --bind /dev/null {tmp_path}/dev/null
        for ip in {" ".join(tools)}; do [ ! -e $ip ] || mount --bind /dev/null $ip; done
        mount --rbind {tmp_path}/dev /dev; mount --bind {sys_class} /sys/class
        for one in facts reading; do sh -s <{tmp_path}/$one >{tmp_path}/$one.said; done"""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *as_root, "--mount", "sh", "-c", inside], capture_output=True, timeout=30
    )
    if done.returncode != 0:
        pytest.skip(f"no mount namespaces here: {done.stderr!r}")
    found = facts.parse_facts((tmp_path / "facts.said").read_text(), HOST)
    (gpu,), (process,) = found.gpus, found.gpu_processes
    assert (gpu.index, gpu.name, gpu.vram_bytes) == (0, "AMD Radeon Pro W7900", 24 * GIB)
    assert (gpu.uuid, gpu.vendor) == ("GPU-4fd3d0e445b9207e", Vendor.AMD)
    assert (process.pid, process.gpu, process.vram_bytes) == (os.getpid(), gpu.uuid, 3 * GIB)
    assert found.gpu_problem == ""
    load = reading.parse_reading((tmp_path / "reading.said").read_text(), HOST)
    assert [(gpu.index, gpu.util_percent, gpu.temp_c) for gpu in load.gpus] == [(0, 97, 61)]
    assert load.gpus[0].vram_used_bytes == 6 * GIB
    # What /proc tells in place of `ip`; both see the machine's own network.
    assert {(own.address, own.prefix) for own in found.interfaces} == addresses()


def addresses() -> set[tuple[str, int]]:
    """This machine's addresses that lead somewhere, as psutil sees them."""
    found = set()
    for own in itertools.chain.from_iterable(psutil.net_if_addrs().values()):
        if own.family not in (socket.AF_INET, socket.AF_INET6) or own.netmask is None:
            continue
        prefix = bin(int(ip_address(own.netmask))).count("1")
        address = ip_address(own.address.partition("%")[0])
        if not address.is_loopback and not address.is_link_local:
            found.add((str(address), prefix))
    return found
