"""What a run may use of its host: processes that really take memory, real control groups."""

import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from remote import cgroup, cores, disk, limits, processes
from remote.lease import is_locked
from remote.limits import GIB, Kills, Memory
from remote.run import Run, parse_run
from tests.remote.worker import Worker, wait_until

MakeWorker = Callable[..., Worker]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="hides control groups by a mount")
# The host that this shows has no control groups, as one where the account may make none.
UNGROUPED = [
    *("unshare", "--mount", "sh", "-c"),
    'umount -l /sys/fs/cgroup; exec "$@"',
    "sh",
]
JOB = f"j-{os.getpid()}"  # groups are the machine's, where other suites may run
GROUPED = pytest.mark.skipif(
    limits.divisible_group() is None, reason="this account may make no control group with memory"
)


def limited(make_worker: MakeWorker, ram_gb: float, **env: str) -> Worker:
    worker = make_worker(**env)
    worker.run_dir = worker.run_dir.parents[1] / JOB / "w1"
    worker.run["ram_gb"] = ram_gb
    return worker


def hungry(make_worker: MakeWorker) -> Worker:
    """A worker whose rank soon takes more than the quarter of a GiB that it may."""
    return limited(make_worker, 0.25, SOLLOL_STUB_GROWS_AT="3")


def notices(worker: Worker) -> str:
    return "\n".join(e["message"] for e in worker.events() if e["kind"] == "notice")


@AS_ROOT
def test_a_rank_that_takes_too_much_is_ended_with_the_figures(make_worker: MakeWorker) -> None:
    worker = hungry(make_worker)
    worker.within = UNGROUPED
    worker.start()
    finished = worker.wait_for("agent_finished")
    assert "memory is limited to 256 MiB, watched every second (no systemd" in notices(worker)
    exited = worker.wait_for("rank_exited")
    assert exited["problem"] == finished["problem"] == "out_of_memory"
    assert exited["reason"].startswith("out of memory on w1: limit 256 MiB, used ")
    assert "raise ram_gb, or lower max_length or batch_size" in exited["reason"]
    assert (finished["outcome"], finished["leftover_processes"]) == ("failed", 0)
    assert exited["reason"] in finished["reason"]


@GROUPED
def test_the_kernel_ends_a_rank_at_its_limit_and_the_agent_tells_why(
    make_worker: MakeWorker,
) -> None:
    worker = hungry(make_worker)
    worker.start()
    finished = worker.wait_for("agent_finished")
    exited = worker.wait_for("rank_exited")
    assert (exited["code"], exited["problem"]) == (-signal.SIGKILL, "out_of_memory")
    assert exited["reason"].startswith("out of memory on w1: limit 256 MiB, used 256 MiB; ")
    assert (finished["outcome"], finished["leftover_processes"]) == ("failed", 0)
    assert "held by the kernel (a control group)" in notices(worker)
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    assert not (worker.run_dir / limits.FILE).exists()
    assert own_groups() == []


def own_groups() -> list[Path]:
    place = limits.divisible_group()
    assert place is not None
    return list(place.folder.glob(f"{limits.PREFIX}{JOB}-*"))


@GROUPED
def test_what_a_killed_agent_leaves_of_its_group_is_removed(make_worker: MakeWorker) -> None:
    worker = limited(make_worker, 1)
    pid = worker.start()["pid"]
    worker.wait_for("step", "0")
    assert [group.name for group in own_groups()] == [f"sollol-{JOB}-w1"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    assert worker.agent("clean")["processes"] == []
    assert own_groups() == []
    assert not (worker.run_dir / disk.RESERVE).exists()


@AS_ROOT
def test_an_elastic_rank_that_ran_out_of_memory_is_tried_once_more(make_worker: MakeWorker) -> None:
    worker = hungry(make_worker)
    worker.within = UNGROUPED
    worker.run["engine"] = "elastic"
    worker.run["lighthouses"] = [{"host": "w2", "address": "127.0.0.1", "port": 1}]
    worker.start()
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["problem"]) == ("failed", "out_of_memory")
    kinds = [event["kind"] for event in worker.events()]
    assert (kinds.count("rank_started"), kinds.count("rank_exited")) == (2, 2)


@AS_ROOT
def test_a_run_that_was_out_of_memory_twice_is_not_started_with_the_same_settings(
    make_worker: MakeWorker,
) -> None:
    worker = hungry(make_worker)
    worker.within = UNGROUPED
    for generation in (1, 2):
        worker.run["generation"] = generation
        assert worker.start()["outcome"] == "started"
        worker.wait_for("agent_finished", count=generation)
        wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    worker.run["generation"] = 3
    assert "with these settings it was 2 times out of memory on w1: limit" in worker.refused()
    worker.run["train"] = {"max_length": 64}
    assert worker.start()["outcome"] == "started"


def test_a_run_within_its_limit_is_left_alone(make_worker: MakeWorker) -> None:
    worker = limited(make_worker, 2, SOLLOL_STUB_STEPS="3")
    worker.start()
    assert worker.wait_for("agent_finished")["outcome"] == "done"


def test_ranks_go_before_the_agent_when_the_host_has_no_memory_left(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    agent = worker.start()["pid"]
    worker.wait_for("step", "0")
    ranks = [r.identity.pid for r in worker.remnants() if r.identity.pid != agent]
    assert {score(pid) for pid in ranks} == {500}
    assert score(agent) < 500


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_a_killed_process_is_put_down_to_memory_only_when_the_kernel_counted_it(
    tmp_path: Path,
) -> None:
    memory = Memory(tmp_path, "w1", None)
    now = memory.kills()
    assert memory.blame(now, was_killed=True) is None
    elsewhere = Kills(group=now.group, host=now.host - 1)
    assert memory.blame(elsewhere, was_killed=False) is None
    told = memory.blame(elsewhere, was_killed=True)
    assert told is not None
    assert told.startswith("out of memory on w1, as it seems: ")


BUSCTL = """#!/bin/sh
# Does what systemd does: a group of the unit's name, with its limit, and the process in it.
echo "$*" >{folder}/asked
name=$8
while [ "$#" -gt 1 ]; do
  case $1 in
    PIDs) pid=$4 ;;
    MemoryMax) most=$3 ;;
  esac
  shift
done
group={parent}/$name
mkdir "$group"
echo "$most" >"$group/{limit}"
echo "$pid" >"$group/cgroup.procs"
"""


@GROUPED
def test_systemd_is_asked_first_and_its_scope_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = limits.divisible_group()
    assert parent is not None
    monkeypatch.setattr(limits, "_SYSTEM", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    limit = "memory.max" if parent.version == 2 else "memory.limit_in_bytes"
    tool = tmp_path / "busctl"
    tool.write_text(BUSCTL.format(folder=tmp_path, parent=parent.folder, limit=limit))
    tool.chmod(stat.S_IRWXU)
    run_dir = tmp_path / "runs" / JOB / "w1"
    run_dir.mkdir(parents=True)
    if (child := os.fork()) == 0:
        memory = Memory(run_dir, "w1", GIB)
        (tmp_path / "said").write_text(memory.sentence)
        os._exit(0)
    os.waitpid(child, 0)
    (scope,) = own_groups()
    scope.rmdir()
    assert (tmp_path / "said").read_text() == (
        "memory is limited to 1 GiB, held by the kernel (a scope of systemd)"
    )
    assert (tmp_path / "asked").read_text().split()[:9] == [
        *("--system", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
        *("org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"),
        *(scope.name, "fail"),
    ]
    assert not (run_dir / limits.FILE).exists()  # systemd removes what it made


def test_own_bytes_leave_out_what_the_kernel_can_take_back(tmp_path: Path) -> None:
    program = (
        "import mmap,os,sys\n"
        "f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); sum(m[::4096])\n"
        "hoard=bytearray(os.urandom(4096))*16384\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    (tmp_path / "weights").write_bytes(b"x" * 128 * 1024**2)
    with subprocess.Popen(
        [os.sys.executable, "-c", program, str(tmp_path / "weights")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert processes.resident_bytes([process.pid]) > 192 * 1024**2
        assert 64 * 1024**2 < processes.own_bytes([process.pid]) < 110 * 1024**2


V2 = {
    "self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
    "self/mountinfo": "35 25 0:30 / {root}/fs rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    "user.slice/user-1000.slice/session-3.scope/cgroup.controllers": "cpu memory pids\n",
    "user.slice/user-1000.slice/session-3.scope/cgroup.subtree_control": "\n",
    "user.slice/user-1000.slice/session-3.scope/cpu.max": "max 100000\n",
    "user.slice/user-1000.slice/session-3.scope/memory.max": "max\n",
    "user.slice/user-1000.slice/session-3.scope/memory.events": "low 0\noom 2\noom_kill 1\n",
    "user.slice/user-1000.slice/session-3.scope/memory.peak": "4096\n",
    "user.slice/user-1000.slice/cgroup.subtree_control": "cpu memory pids\n",
    "user.slice/user-1000.slice/cgroup.procs": "\n",
    "user.slice/user-1000.slice/cpu.max": "250000 100000\n",
    "user.slice/cpu.max": "400000 100000\n",
}


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    """A /proc and the groups that it points to; returns the former."""
    for name, text in files.items():
        file = folder / ("proc" if name.startswith("self/") else "fs") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(root=folder))
    return folder / "proc"


def test_groups_of_version_2_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    proc = lay_out(tmp_path, V2)
    group = limits.own_group(proc)
    assert group is not None
    assert (group.folder.name, group.version) == ("session-3.scope", 2)
    assert (group.limit_bytes(), group.kills(), group.most_bytes()) == (None, 1, 4096)
    assert cgroup.cpu_quota(proc) == 2.5  # the least of all above
    above = limits.divisible_group(proc)
    assert above is not None
    assert above.folder.name == "user-1000.slice"
    group.limit(2 * GIB)
    assert group.limit_bytes() == 2 * GIB
    assert (group.folder / "memory.swap.max").read_text() == "0"


def test_what_the_groups_above_leave_is_the_least_of_them_without_pages_of_files(
    tmp_path: Path,
) -> None:
    above = {
        "user.slice/user-1000.slice/memory.max": f"{2 * GIB}\n",
        "user.slice/user-1000.slice/memory.current": f"{GIB}\n",
        "user.slice/user-1000.slice/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
        "user.slice/memory.max": f"{8 * GIB}\n",
        "user.slice/memory.current": f"{3 * GIB}\n",
    }
    assert cgroup.memory_left(lay_out(tmp_path / "1", V2)) is None
    assert cgroup.memory_left(lay_out(tmp_path / "2", V2 | above)) == GIB + GIB // 4


def test_a_part_of_the_hierarchy_is_found_in_a_container(tmp_path: Path) -> None:
    files = {
        "self/cgroup": "12:memory:/docker/ab/inner\n3:cpu,cpuacct:/docker/ab/inner\n0::/\n",
        "self/mountinfo": (
            "40 30 0:31 /docker/ab {root}/fs ro - cgroup cgroup rw,memory\n"
            "41 30 0:32 /docker/ab {root}/fs ro - cgroup cgroup rw,cpu,cpuacct\n"
        ),
        "inner/memory.limit_in_bytes": "9223372036854771712\n",
        "inner/memory.usage_in_bytes": "4096\n",
        "memory.limit_in_bytes": "1048576\n",
        "memory.usage_in_bytes": "524288\n",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 1024\n",
        "inner/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "inner/cpu.cfs_quota_us": "-1\n",
        "inner/cpu.cfs_period_us": "100000\n",
        "cpu.cfs_quota_us": "150000\n",
        "cpu.cfs_period_us": "100000\n",
    }
    proc = lay_out(tmp_path, files)
    group = limits.own_group(proc)
    assert group is not None
    assert (group.version, group.limit_bytes(), group.kills()) == (1, None, 3)
    assert (cgroup.cpu_quota(proc), cgroup.memory_left(proc)) == (1.5, 524288 + 1024)
    nothing = tmp_path / "a kernel without control groups"
    assert (limits.own_group(nothing), cgroup.cpu_quota(nothing)) == (None, None)


def test_ranks_of_a_host_compute_on_cores_of_their_own(make_worker: MakeWorker) -> None:
    there = cores.usable_cores()
    if len(there) < 2:
        pytest.skip("one core is nothing to divide")
    worker = make_worker(ranks=2)
    worker.run["cpu_cores"] = 2
    worker.start()
    worker.wait_for("step", "0")
    masks = {slot: mask_of(worker, slot) for slot in (0, 1)}
    assert all(masks.values())
    assert not masks[0] & masks[1]


def mask_of(worker: Worker, slot: int) -> set[int]:
    """The processors on which everything of a rank runs."""
    table = processes.process_table()
    (top,) = [r.identity.pid for r in worker.remnants() if r.role == f"rank.{slot}"]
    masks = [os.sched_getaffinity(pid) for pid in (top, *processes.descendants([top], table))]
    assert all(mask == masks[0] for mask in masks)
    return masks[0]


def run_of(ranks: int, cpu_cores: int | None) -> Run:
    place = {"host": "w1", "address": "127.0.0.1", "gpu": None}
    return parse_run(
        {
            "v": 1, "job": "j", "host": "w1", "generation": 1, "engine": "static",
            "world": [{"slot": n, "rank": n, **place} for n in range(ranks)],
            "main_port": 1, "cpu_cores": cpu_cores, "model": "m", "dataset": "d", "train": {},
        }
    )  # fmt: skip


def test_cores_are_dealt_whole_and_those_of_other_runs_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = [frozenset({n, n + 8}) for n in range(8)]  # two hardware threads each
    monkeypatch.setattr(cores, "usable_cores", lambda: there)
    held = {0, 1}
    monkeypatch.setattr(cores, "hold_core", lambda n: None if n in held else n)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    monkeypatch.setattr(cores.random, "randrange", lambda size: 0)
    dealt = cores.deal(run_of(2, 4))
    assert dealt.of_slot == {0: {2, 3, 10, 11}, 1: {4, 5, 12, 13}}
    assert dealt.shared == 0
    crowded = cores.deal(run_of(1, 8))
    assert (len(crowded.of_slot[0]), crowded.shared) == (16, 2)
    assert crowded.sentence.endswith("; cores of another run's among them: 2")
    assert dealt.sentence == ""
    monkeypatch.setattr(cores.random, "randrange", lambda size: size - 1)
    assert cores.deal(run_of(1, 2)).of_slot == {0: {7, 15, 2, 10}}
    assert cores.deal(run_of(3, 1)).of_slot.keys() == {0, 1, 2}
    assert cores.deal(run_of(2, None)).of_slot == {}


@pytest.mark.parametrize(
    ("ranks", "cpu_cores", "there", "quota", "threads"),
    [
        (1, None, 8, None, 8),
        (2, None, 8, None, 4),
        (2, 6, 8, None, 3),
        (2, 6, 3, None, 3),  # a rank that sits on its part
        (1, None, 64, 2.5, 2),  # a container that shows all of the machine
        (4, None, 64, 2.0, 1),
        (1, 16, 4, None, 4),
    ],
)
def test_a_rank_computes_with_as_many_threads_as_can_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    cpu_cores: int | None,
    there: int,
    quota: float | None,
    threads: int,
) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: [frozenset({n}) for n in range(there)])
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.threads_of_rank(run_of(ranks, cpu_cores)) == threads
