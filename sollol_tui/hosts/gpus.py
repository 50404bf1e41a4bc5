"""The GPUs of a host, their driver, what is wrong with them and who holds their memory.

NVIDIA through one tool, AMD through sysfs, Jetson through its release file. The parser is pure.
Refuses to guess: a GPU that does not answer is a problem with a remedy, never a GPU.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sollol_tui.hosts.answers import NVIDIA_SMI, Said, first, number
from sollol_tui.model.facts import Gpu, GpuProcess, Vendor
from sollol_tui.model.text import clean

_MAX: Final = 64
_MAX_PROCESSES: Final = 256
_TIMED_OUT: Final = 124
# Below this an AMD "GPU" is the processor's own graphics, which nobody trains on.
LEAST_AMD_BYTES: Final = 2 * 1024**3
_UNIFIED: Final = ("[N/A]", "N/A", "[Not Supported]")
# The newest CUDA of each branch of the driver (NVIDIA, CUDA Toolkit release notes, table 3).
_CUDA: Final = (
    (418, "10.1"), (440, "10.2"), (450, "11.0"), (455, "11.1"), (460, "11.2"), (465, "11.3"),
    (470, "11.4"), (495, "11.5"), (510, "11.6"), (515, "11.7"), (520, "11.8"), (525, "12.0"),
    (530, "12.1"), (535, "12.2"), (545, "12.3"), (550, "12.4"), (555, "12.5"), (560, "12.6"),
    (565, "12.7"), (570, "12.8"), (575, "12.9"), (580, "13.0"), (590, "13.1"), (595, "13.2"),
    (610, "13.3"),
)  # fmt: skip
_REMEDIES: Final = (
    ("version mismatch", "the driver was updated under the running kernel: reboot it"),
    ("communicate with the nvidia driver", "its module is not loaded: reboot it, or install the "
     "driver for the kernel that runs"),
    ("driver not loaded", "its module is not loaded: reboot it, or install the driver for the "
     "kernel that runs"),
    ("gpu is lost", "reboot it, and look at its power supply and its seat"),
    ("insufficient permissions", "this user may not open /dev/nvidia*: ask its owner"),
    ("not a valid field", "the driver is too old: install 525 or newer"),
)  # fmt: skip

# Calls amd_gpu for each GPU that the kernel offers for computing, in the order that HIP counts in,
# with $node, $device and $unique; amd_name gives $name.
KFD: Final = r"""
amd_name() {
  peek "$device/product_name"; name=$value
  [ -n "$name" ] && return
  peek "$device/device"; id=${value#0x}
  peek "$device/revision"
  name=$(sed -n "s/^$id,[[:space:]]*${value#0x},[[:space:]]*//Ip" \
    /usr/share/libdrm/amdgpu.ids /opt/amdgpu/share/libdrm/amdgpu.ids 2>/dev/null)
  name=${name%%"$nl"*}
  [ -n "$name" ] || name="AMD GPU $id"
}
number=0
while [ -d "/sys/class/kfd/kfd/topology/nodes/$number" ]; do
  node=/sys/class/kfd/kfd/topology/nodes/$number
  number=$((number + 1))
  simds=0 minor= unique=
  while read -r key value; do
    case $key in
      simd_count) simds=$value ;;
      drm_render_minor) minor=$value ;;
      unique_id) unique=$value ;;
    esac
  done <"$node/properties"
  [ "$simds" -gt 0 ] || continue
  device=/sys/class/drm/renderD$minor/device
  amd_gpu
done 2>/dev/null
"""
# Both questions run beside each other and beside the rest: a driver may take half a second to wake.
SCRIPT: Final = (
    "patience=5\n"
    + NVIDIA_SMI
    + r"""
ask_gpus() {
  answer=$($limit "$smi" --format=csv,noheader,nounits \
    --query-gpu=index,name,memory.total,uuid,driver_version,mig.mode.current 2>&1 </dev/null)
  echo "smi_status=$?"
  case $answer in
    *', Enabled'*) answer="$answer$nl$($limit "$smi" -L 2>/dev/null </dev/null)" ;;
  esac
  set -f; IFS=$nl; printf 'gpu=%s\n' $answer
}
ask_processes() {
  answer=$($limit "$smi" --format=csv,noheader,nounits \
    --query-compute-apps=pid,gpu_uuid,used_memory,process_name 2>/dev/null </dev/null)
  set -f; IFS=$nl; printf 'gpu_process=%s\n' $answer
}
if [ -n "$smi" ]; then
  ask_gpus & ask_processes &
elif [ -e /dev/nvidiactl ]; then
  say smi_status missing
fi
peek /etc/nv_tegra_release; say tegra "$value"
cuda=/usr/local/cuda/version.json
[ -n "$value" ] && [ -r "$cuda" ] &&
  sed -n 's/.*"version" : "\([0-9.]*\)".*/cuda=\1/p' "$cuda"
amd_gpu() {
  peek "$node/gpu_id"; gpu_id=$value
  peek "$device/mem_info_vram_total"; vram=$value
  amd_name
  say amd "$gpu_id|$vram|$unique|$name"
}
"""
    + KFD
    + r"""
for device in /sys/class/drm/renderD*/device; do
  peek "$device/vendor"
  [ "$value" = 0x1002 ] && peek "$device/mem_info_vram_total" && say amd_card "$value"
done
[ -r /dev/kfd ] && [ -w /dev/kfd ] && say kfd open
for file in /sys/class/kfd/kfd/proc/*/vram_*; do
  peek "$file" || continue
  bytes=$value pid=${file%/*} pid=${pid##*/}
  peek "/proc/$pid/comm"
  say amd_process "$pid|${file##*/vram_}|$bytes|$value"
done
peek /sys/module/amdgpu/version; say amd_driver "$value"
peek /opt/rocm/.info/version; say rocm "$value"
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`compute_version` is that of the first GPU's vendor; `problem` is empty or a sentence with
    what to do."""

    gpus: tuple[Gpu, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    compute_version: str = ""
    problem: str = ""


def parse_gpus(said: Said, *, ram_bytes: int, user: str, board: str) -> Found:
    """NVIDIA's GPUs before AMD's: a host trains on the first one's kind."""
    problems: list[str] = []
    nvidia = _nvidia(said, ram_bytes, problems) or _jetson(said, ram_bytes, board)
    uuids = {gpu_id: gpu.uuid for gpu_id, gpu in _kfd(said)}
    amd = _amd(said, user, problems)
    compute_version = ""
    if nvidia:
        toolkit = re.match(r"\d+\.\d+", first(said, "cuda"))
        compute_version = toolkit[0] if toolkit else _cuda_of(nvidia[0].driver)
    elif amd:
        match = re.match(r"\d+(\.\d+)*", first(said, "rocm"))
        compute_version = match[0] if match else ""
    return Found(
        gpus=tuple([*nvidia, *amd][:_MAX]),
        processes=tuple([*_nvidia_processes(said), *_amd_processes(said, uuids)][:_MAX_PROCESSES]),
        compute_version=compute_version,
        problem="; ".join(problems),
    )


def _nvidia(said: Said, ram_bytes: int, problems: list[str]) -> list[Gpu]:
    status = first(said, "smi_status")
    if not status:
        return []
    if status == "missing":
        problems.append(
            "there is an NVIDIA device but no nvidia-smi; install the driver's tools (nvidia-utils)"
        )
        return []
    gpus: list[Gpu] = []
    split: dict[int, list[tuple[str, str]]] = {}
    complaint = ""
    lines = list(said.get("gpu", ()))[: 16 * _MAX]
    for line in lines:
        fields = [clean(field, limit=120).strip() for field in line.split(",")]
        if len(fields) == 6 and fields[0].isdecimal():
            gpu = _nvidia_gpu(fields, ram_bytes)
            if fields[5] == "Enabled":
                split.setdefault(gpu.index, [])
            gpus.append(gpu)
        elif not re.match(r"\s*(GPU \d|MIG )", line) and line.strip():
            complaint = complaint or clean(line, limit=200).strip()
    if split:
        gpus = _instances(lines, gpus, split, problems)
    if status == str(_TIMED_OUT):
        complaint = "nvidia-smi gave no answer within 5 s; the driver hangs: reboot it"
    elif status != "0" and not complaint:
        complaint = f"nvidia-smi ended with status {status}; run it there to see why"
    if complaint:
        said_so = complaint.lower()
        remedy = next((text for sign, text in _REMEDIES if sign in said_so), "")
        problems.append(f"{complaint}; {remedy}" if remedy else complaint)
    return gpus


def _nvidia_gpu(fields: Sequence[str], ram_bytes: int) -> Gpu:
    index, name, mebibytes, uuid, driver, _ = fields
    unified = mebibytes in _UNIFIED
    return Gpu(
        index=int(index[:4]),
        name=name,
        vram_bytes=ram_bytes if unified else number(mebibytes) * 1024**2,
        shares_ram=unified,
        uuid="" if uuid in _UNIFIED else uuid,
        driver="" if driver in _UNIFIED else driver,
    )


def _instances(
    lines: Sequence[str],
    gpus: Sequence[Gpu],
    split: dict[int, list[tuple[str, str]]],
    problems: list[str],
) -> list[Gpu]:
    """A GPU in MIG mode is its first instance: a CUDA process sees one, whatever else there is
    (NVIDIA, MIG User Guide, CUDA Device Enumeration). The lines are those of `nvidia-smi -L`."""
    current = -1
    for line in lines:
        if header := re.match(r"GPU (\d{1,4}): ", line):
            current = int(header[1])
        elif instance := re.match(
            r"\s*MIG (\S{1,40})\s+Device\s+\d+: \(UUID: (MIG-[^)]{1,90})\)", line
        ):
            split.setdefault(current, []).append((clean(instance[1]), clean(instance[2])))
    usable = []
    for gpu in gpus:
        parts = split.get(gpu.index)
        if parts is None:
            usable.append(gpu)
        elif not parts:
            problems.append(
                f"GPU {gpu.index} is in MIG mode and has no instance; create one with "
                "nvidia-smi mig -cgi, or leave the mode with nvidia-smi -mig 0"
            )
        else:
            profile, uuid = parts[0]
            gigabytes = re.search(r"(\d{1,4})gb", profile)
            size = int(gigabytes[1]) * 10**9 if gigabytes else gpu.vram_bytes
            usable.append(
                Gpu(
                    index=gpu.index,
                    name=f"{gpu.name} MIG {profile}",
                    vram_bytes=min(size, gpu.vram_bytes),
                    uuid=uuid,
                    driver=gpu.driver,
                )
            )
            if len(parts) > 1:
                problems.append(
                    f"GPU {gpu.index} is split into {len(parts)} MIG instances; a job uses the "
                    f"first, {profile}"
                )
    return usable


def _jetson(said: Said, ram_bytes: int, board: str) -> list[Gpu]:
    """A Jetson without nvidia-smi, by the release of its Linux."""
    release = re.match(r"# (R\d+) \(release\), REVISION: ([\d.]+)", first(said, "tegra"))
    if release is None:
        return []
    name = board or "NVIDIA Jetson"
    driver = f"{release[1]}.{release[2]}"
    return [Gpu(index=0, name=name, vram_bytes=ram_bytes, shares_ram=True, driver=driver)]


def _cuda_of(driver: str) -> str:
    branch = number(driver.partition(".")[0])
    place = bisect_right(_CUDA, branch, key=lambda entry: entry[0])
    return _CUDA[place - 1][1] if place else ""


def _nvidia_processes(said: Said) -> list[GpuProcess]:
    found = []
    for line in said.get("gpu_process", ()):
        fields = line.split(",", 3)
        if len(fields) != 4:
            continue
        pid, uuid, mebibytes, name = (clean(field, limit=200).strip() for field in fields)
        if number(pid):
            size = number(mebibytes) * 1024**2
            found.append(GpuProcess(pid=number(pid), gpu=uuid, name=name, vram_bytes=size))
    return found


def _kfd(said: Said) -> list[tuple[str, Gpu]]:
    """AMD's GPUs in the order of the kernel's nodes, which HIP counts in, by the kernel's number.
    One without a serial number is called by that."""
    driver = first(said, "amd_driver")
    found = []
    for index, line in enumerate(list(said.get("amd", ()))[:_MAX]):
        fields = [clean(field, limit=120).strip() for field in line.split("|", 3)]
        if len(fields) != 4:
            continue
        gpu_id, vram, unique, name = fields
        serial = int(unique) if re.fullmatch(r"[0-9]{1,20}", unique) else 0
        gpu = Gpu(
            index=index,
            name=name,
            vram_bytes=int(vram) if re.fullmatch(r"[0-9]{1,15}", vram) else 0,
            uuid=f"GPU-{serial:016x}" if serial else f"KFD-{gpu_id}",
            driver=driver,
            vendor=Vendor.AMD,
        )
        found.append((gpu_id, gpu))
    return found


def _amd(said: Said, user: str, problems: list[str]) -> list[Gpu]:
    gpus = [gpu for _, gpu in _kfd(said) if gpu.vram_bytes >= LEAST_AMD_BYTES]
    sizes = [int(size) for size in said.get("amd_card", ()) if re.fullmatch(r"[0-9]{1,15}", size)]
    if not gpus and any(size >= LEAST_AMD_BYTES for size in sizes):
        problems.append(
            "there is an AMD GPU that the kernel does not offer for computing (no /dev/kfd); "
            "install AMD's driver with amdgpu-install"
        )
    if gpus and first(said, "kfd") != "open":
        problems.append(
            f"the user {user} may not use the AMD GPU (/dev/kfd); "
            f"sudo usermod -aG render,video {user}, then log in anew"
        )
        return []
    return gpus


def _amd_processes(said: Said, uuids: dict[str, str]) -> list[GpuProcess]:
    found = []
    for line in said.get("amd_process", ()):
        fields = [clean(field, limit=200).strip() for field in line.split("|", 3)]
        if len(fields) != 4 or fields[1] not in uuids:
            continue
        pid, gpu_id, size, name = fields
        if number(pid) and re.fullmatch(r"[0-9]{1,15}", size) and int(size):
            gpu = uuids[gpu_id]
            found.append(GpuProcess(pid=number(pid), gpu=gpu, name=name, vram_bytes=int(size)))
    return found
