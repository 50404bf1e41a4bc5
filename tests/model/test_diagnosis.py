"""The doctor's rules: facts in, a verdict with its remedy out."""

from dataclasses import replace

import pytest

from sollol_tui.hosts.shell import quote
from sollol_tui.model.diagnosis import (
    Check,
    Diagnosis,
    Outcome,
    Stage,
    judge_clock,
    judge_complaint,
    judge_gpu,
    judge_python,
    judge_shell,
    judge_system,
    judge_systemd,
    not_reached,
    ok,
)
from sollol_tui.model.facts import Gpu, GpuProcess, Python, RamLimit
from sollol_tui.model.folder import Folder, judge_disk, judge_workdir
from tests.jobs.samples import facts

GIB = 1024**3
PATH = "/home/ml/.sollol"
FINE = Folder(
    path=PATH,
    parent=PATH,
    mode="700",
    owner="ml",
    user="ml",
    filesystem="ext4",
    options=("rw", "relatime"),
    files_free=1_000_000,
)
GPU = Gpu(index=0, name="RTX 3090", vram_bytes=24 * GIB, uuid="GPU-1", driver="550.1")


def told(check: Check) -> str:
    """All that a person reads of it."""
    return f"{check.outcome}: {check.found} | {check.reason} | {check.remedy} | {check.fix}"


def test_a_private_folder_on_an_own_disk_is_well() -> None:
    assert told(judge_workdir(FINE, quote)).startswith(f"ok: {PATH} (ext4, mode 0700)")


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({"options": ("ro",)}, "failed", "its disk is read-only"),
        ({"write_error": "Read-only file system"}, "failed", "its disk is read-only"),
        ({"write_error": "No space left on device"}, "failed", "free some space"),
        ({"write_error": "Permission denied"}, "failed", "make it writable"),
        ({"mode": "755", "path": "/home/ml/my dir"}, "warning", "chmod 700 '/home/ml/my dir'"),
        ({"mode": "755"}, "warning", "chmod 700 /home/ml/.sollol | give it mode 0700"),
        ({"mode": "500"}, "failed", "give it mode 0700"),
        ({"filesystem": "nfs4"}, "warning", "nfs4 is a network filesystem"),
        ({"filesystem": "fuse.sshfs"}, "warning", "fuse.sshfs is a network filesystem"),
        ({"mode": "", "parent": "/home/ml"}, "skipped", "make it, with mode 0700"),
        ({"mode": "", "parent": "/srv", "is_writable": False}, "failed", "/srv is not ours"),
        ({"mode": "", "parent": "/srv", "options": ("ro",)}, "failed", "disk is read-only"),
        ({"mode": "", "filesystem": "nfs4"}, "warning", "a network filesystem"),
        ({"mode": "", "filesystem": "nfs4"}, "warning", "| make it, with mode 0700"),
    ],
)
def test_what_is_wrong_with_a_workdir_is_named_with_its_remedy(
    change: dict[str, object], outcome: str, words: str
) -> None:
    said = told(judge_workdir(replace(FINE, **change), quote))  # type: ignore[arg-type]
    assert said.startswith(f"{outcome}:")
    assert words in said


def test_what_forbids_a_workdir_comes_before_its_mode_but_after_a_broken_disk() -> None:
    against = ("it is a folder that all share", "set workdir to another folder")
    shared = replace(FINE, mode="1777")
    check = judge_workdir(shared, quote, against)
    assert (check.outcome, check.reason, check.remedy) == (Outcome.FAILED, *against)
    assert check.fix == "", "nothing of another's is closed"
    broken = judge_workdir(replace(shared, options=("ro",)), quote, against)
    assert broken.reason == "its disk is read-only"


def test_the_disk_is_measured_against_what_a_job_asks() -> None:
    def judged(free: int, files: int | None = None) -> str:
        folder = replace(FINE, files_free=files)
        here = facts(disk_free_bytes=free * GIB)
        return told(judge_disk(here, folder, accelerator="cuda", needed_bytes=12 * GIB))

    assert judged(11).startswith("failed: 11.0 GiB free")
    assert "a job needs 12.0 GiB for a cuda environment" in judged(11)
    assert judged(13).startswith("warning:")
    assert judged(100).startswith("ok:")
    assert "only 900 more files fit" in judged(100, files=900)


def test_a_host_without_a_python_needs_a_uv() -> None:
    python = Python(path="/usr/bin/python3.12", version="3.12")
    assert told(judge_python([python], host="w1", has_uv=False)).startswith(
        "ok: 3.12 at /usr/bin/python3.12"
    )
    assert "uv fetches 3.12" in told(judge_python([], host="w1", has_uv=True))
    assert told(judge_python([], host="w1", has_uv=False)).startswith("warning:")


def test_a_host_without_gpus_is_well_and_one_whose_driver_is_broken_is_not() -> None:
    assert told(judge_gpu(facts(), None)).startswith("ok: none; it trains on its CPU")
    broken = facts(gpu_problem="Driver/library version mismatch; restart the machine")
    assert told(judge_gpu(broken, None)).startswith("failed: none answers | Driver/library")
    assert told(judge_gpu(broken, ())).startswith("warning:")
    assert told(judge_gpu(replace(broken, gpus=(GPU,)), None)).startswith("warning: 0: RTX 3090")


def test_who_holds_a_gpu_is_named() -> None:
    process = GpuProcess(pid=4242, gpu="GPU-1", name="ollama", vram_bytes=8 * GIB)
    check = judge_gpu(facts(gpus=(GPU,), gpu_processes=(process,)), None)
    assert check.outcome is Outcome.WARNING
    assert check.reason == "GPU 0: ollama (pid 4242) holds 8.0 GiB"


def test_a_limit_that_names_no_gpu_of_the_host_is_an_error() -> None:
    assert "names GPU 3, which is not there" in told(judge_gpu(facts(gpus=(GPU,)), (0, 3)))


@pytest.mark.parametrize(
    ("complaint", "outcome", "words"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB", "warning", "no room"),
        ("AcceleratorError: CUDA error: out of memory", "warning", "no room"),
        ("RuntimeError: HIP out of memory", "warning", "no room"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", "warning", "no room"),
        ("CUDA-capable device(s) is/are busy or unavailable", "warning", "no room"),
        ("CUDA error: no kernel image is available", "failed", "packages.torch_backend"),
        ("ModuleNotFoundError: No module named 'torch'", "failed", "provision w1 --recreate"),
        ("OSError: libgomp.so.1: file too short", "failed", "build it anew"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_told_from_a_damaged_environment(
    complaint: str, outcome: str, words: str
) -> None:
    check = judge_complaint("w1", "0123456789abcdef", complaint)
    assert told(check).startswith(f"{outcome}:")
    assert words in told(check)
    assert bool(check.fix) == ("damaged" in check.found)


@pytest.mark.parametrize(
    ("skew_s", "words"),
    [
        (None, "skipped: not told"),
        (0.4, "ok: within 0.4 s of ours"),
        (-61.0, "warning: 61.0 s behind ours | certificates"),
        (5.2, "warning: 5.2 s ahead of ours"),
    ],
)
def test_a_clock_that_is_off_is_a_warning(skew_s: float | None, words: str) -> None:
    assert told(judge_clock(skew_s)).startswith(words)


def test_noise_and_slowness_of_the_shell_are_told_apart() -> None:
    assert judge_shell("", 0.02).outcome is Outcome.OK
    assert "print without a terminal: hello" in told(judge_shell("hello", 0.02))
    slow = judge_shell("", 2.04)
    assert "take 2.0 s, for every command anew" in slow.reason
    assert "print" not in slow.reason


def test_workers_run_linux_on_machines_that_torch_is_built_for() -> None:
    assert judge_system(facts(system="Linux", arch="x86_64")).outcome is Outcome.OK
    assert judge_system(facts(system="Linux", arch="armv7l")).outcome is Outcome.WARNING
    assert judge_system(facts(system="Darwin", arch="arm64")).outcome is Outcome.FAILED


def test_systemd_is_information_only() -> None:
    outcomes = {
        judge_systemd(facts(systemd_user=user, lingers=lingers)).outcome
        for user in (True, False)
        for lingers in (True, False)
    }
    assert outcomes == {Outcome.OK, Outcome.SKIPPED}
    assert judge_systemd(facts(ram_limit=RamLimit.GROUP)).outcome is Outcome.OK
    of_root = facts(ram_limit=RamLimit.SCOPE, user="root")
    assert judge_systemd(of_root).outcome is Outcome.OK
    assert judge_systemd(replace(of_root, user="ml")).outcome is Outcome.SKIPPED


def test_a_host_is_as_well_as_its_worst_stage() -> None:
    fine = ok(Stage.SSH, "there")
    slow, broken = judge_shell("", 9.0), judge_workdir(FINE, quote, ("it is a system's", "another"))
    assert Diagnosis(host="a", checks=(fine, not_reached(Stage.GPU))).outcome is Outcome.OK
    assert Diagnosis(host="a", checks=(fine, slow)).outcome is Outcome.WARNING
    assert Diagnosis(host="a", checks=(fine, slow, broken)).outcome is Outcome.FAILED
