"""Which build of torch a host gets."""

from pathlib import Path

import pytest

from sollol_tui.model.errors import InputError, UnsuitableError
from sollol_tui.model.facts import Gpu, HostFacts, Vendor
from sollol_tui.model.inventory import TorchBackend
from sollol_tui.model.inventory_file import parse_inventory
from sollol_tui.model.torch_build import RELEASE, gpu_remedy, torch_build

LOCK = Path(__file__).resolve().parents[2] / "remote" / "worker.lock"


def host(
    driver: str = "", compute: str = "", vendor: Vendor = Vendor.NVIDIA, arch: str = "x86_64"
) -> HostFacts:
    gpu = Gpu(index=0, name="a GPU", vram_bytes=1, driver=driver, vendor=vendor)
    return HostFacts(
        hostname="w1",
        user="ml",
        home="/home/ml",
        workdir="/home/ml/.sollol",
        system="Linux",
        arch=arch,
        libc="glibc",
        cpu_model="",
        cpu_cores=1,
        ram_bytes=0,
        ram_available_bytes=0,
        disk_free_bytes=0,
        pythons=(),
        gpus=(gpu,),
        address="192.0.2.1",
        compute_version=compute,
    )


@pytest.mark.parametrize(
    ("facts", "wanted", "build"),
    [
        (host("580.65.06", "13.0"), "auto", "cu130"),
        (host("595.10", "13.2"), "auto", "cu130"),
        (host("570.124.04", "12.8"), "auto", "cu126"),
        (host("525.60.13", "12.0"), "auto", "cu126"),
        (host("", "12.4"), "auto", "cu126"),
        (host("", ""), "auto", "auto"),
        (host("", ""), "cu130", "cu130"),
        (host("580.65.06", "13.0"), "cu126", "cu126"),
        (host("580.65.06", "13.0"), "cu132", "cu132"),
        (host("580.65.06", "13.0"), "rocm7.2", "cu130"),
        (host("580.65.06", "13.0"), "cpu", "cpu"),
        (host("580.65.06", "13.0"), "none", ""),
        (host("470.1", "11.4"), "none", ""),
        (host("580.65.06", arch="aarch64"), "auto", "cu130"),
        (host("", "6.4", Vendor.AMD), "auto", "rocm7.2"),
        (host("", "", Vendor.AMD), "auto", "auto"),
        (host("", "6.4", Vendor.AMD), "cu130", "rocm7.2"),
    ],
)
def test_the_driver_decides_unless_the_inventory_does(
    facts: HostFacts, wanted: str, build: str
) -> None:
    assert torch_build("w1", facts, facts.accelerator, TorchBackend(wanted)) == build


def test_a_host_without_a_gpu_takes_the_cpu_build_whatever_gpus_get() -> None:
    for wanted in (TorchBackend.AUTO, TorchBackend.CU130, TorchBackend.ROCM72):
        assert torch_build("w1", host("580.65.06"), "cpu", wanted) == "cpu"


@pytest.mark.parametrize(
    ("facts", "wanted", "sentence"),
    [
        (host("470.129.06", "11.4"), "auto", "NVIDIA driver 470.129.06 is too old.*525.60.13"),
        (host("550.54", "12.4"), "cu130", "NVIDIA driver 550.54 is too old.*cu130.*580"),
        (host("", "11.4"), "auto", "driver for CUDA 11.4 is too old"),
        (host("", "5.7", Vendor.AMD), "auto", "ROCm 5.7 is too old.*6.3"),
        (host("", "6.4", Vendor.AMD, "aarch64"), "auto", "not built for aarch64"),
    ],
)
def test_what_is_too_old_for_every_build_ends_in_a_sentence(
    facts: HostFacts, wanted: str, sentence: str
) -> None:
    with pytest.raises(UnsuitableError, match=sentence) as refusal:
        torch_build("w1", facts, facts.accelerator, TorchBackend(wanted))
    assert "limits.gpu_ids: []" in str(refusal.value)


def test_the_builds_are_those_of_the_release_that_is_locked() -> None:
    assert f"\ntorch=={RELEASE}." in LOCK.read_text()


def test_gpus_older_than_the_build_are_told_which_build_has_them() -> None:
    error = "CUDA error: no kernel image is available for execution on the device"
    assert "cu126" in gpu_remedy(error)
    assert gpu_remedy("ModuleNotFoundError: peft") == ""


def test_an_unknown_build_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"torch_backend: 'cu128' .*did you mean 'cu126'"):
        parse_inventory(b"hosts: [a]\npackages: {torch_backend: cu128}\n", "inventory.yaml")


@pytest.mark.parametrize(
    ("written", "meant"), [("./wheels", "/lab/wheels"), ("/w", "/w"), ("~/w", "~/w")]
)
def test_a_wheelhouse_lies_beside_the_inventory(written: str, meant: str) -> None:
    text = f"hosts: [a]\npackages: {{wheelhouse: {written}}}\n".encode()
    assert parse_inventory(text, "/lab/inventory.yaml").packages.wheelhouse == meant


def test_a_wheelhouse_is_no_address() -> None:
    with pytest.raises(InputError, match="a folder of this machine"):
        parse_inventory(b"hosts: [a]\npackages: {wheelhouse: 'http://m/w'}\n", "i.yaml")
