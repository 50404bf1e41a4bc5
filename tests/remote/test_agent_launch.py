"""What a rank is started with."""

import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from remote.cores import threads_of_rank
from remote.launch import (
    PAYLOAD,
    interface_of,
    prepare_launch,
    prepare_lighthouse,
    rank_environment,
)
from remote.lease import take_lock
from remote.run import Run, RunError, parse_run

RUN = {
    "v": 1,
    "job": "j",
    "nonce": "9c1e",
    "host": "w1",
    "generation": 1,
    "engine": "static",
    "world": [
        {"slot": 4, "rank": 0, "host": "w1", "address": "127.0.0.2", "gpu": None},
        {"slot": 7, "rank": 1, "host": "w1", "address": "127.0.0.2", "gpu": 3},
        {"slot": 9, "rank": 2, "host": "w2", "address": "192.0.2.9", "gpu": None},
    ],
    "main_port": 29500,
    "cpu_cores": 4,
    "env": {"HF_HOME": "/data/hf", "RANK": "9"},
    "model": "m",
    "dataset": "d",
    "train": {},
}


@pytest.fixture
def run() -> Run:
    return parse_run(deepcopy(RUN))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "j" / "w1"
    folder.mkdir(parents=True)
    return folder


def environment(run_dir: Path, run: Run, slot: int, **inherited: str) -> dict[str, str]:
    return rank_environment(run_dir, run, run.rank_of_slot(slot), inherited, {"HF_TOKEN": "t"})


def test_a_cpu_rank_sees_no_gpu_and_a_gpu_rank_only_its_own(run_dir: Path, run: Run) -> None:
    cpu, gpu = environment(run_dir, run, 4), environment(run_dir, run, 7)
    assert (cpu["CUDA_VISIBLE_DEVICES"], cpu["ACCELERATE_USE_CPU"]) == ("", "true")
    assert gpu["CUDA_VISIBLE_DEVICES"] == "3"
    assert "ACCELERATE_USE_CPU" not in gpu


def test_ranks_of_a_host_share_its_cores(run_dir: Path, run: Run) -> None:
    env = environment(run_dir, run, 4)
    assert (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"]) == ("2", "2")
    assert threads_of_rank(run) == 2


def tied(run_dir: Path, **env: str) -> int:
    """Ties a process to this one as a rank is tied to its launcher; returns its exit code."""
    program = (
        "import sys; from pathlib import Path; from remote.launch import die_with_launcher;"
        "die_with_launcher(Path(sys.argv[1])); sys.exit(7)"
    )
    command = [sys.executable, "-P", "-c", program, str(run_dir)]
    return subprocess.run(command, env={"PYTHONPATH": str(PAYLOAD), **env}, check=False).returncode


def test_a_rank_whose_agent_died_before_it_began_leaves_at_once(run_dir: Path) -> None:
    ours = {"SOLLOL_RUN": str(run_dir)}
    assert tied(run_dir, **ours) == 1
    assert tied(run_dir) == 7  # by hand, where there is no agent
    lock = take_lock(run_dir)
    assert lock is not None
    assert tied(run_dir, **ours) == 7
    os.close(lock)


def test_a_login_shell_cannot_bend_the_world(run_dir: Path, run: Run) -> None:
    strange = {
        "WORLD_SIZE": "9",
        "MASTER_ADDR": "x",
        "PYTHONPATH": "/evil",
        "PYTHONSTARTUP": "/e",
        "PET_NNODES": "9",
    }
    env = environment(run_dir, run, 4, LANG="C.UTF-8", **strange)
    assert env["LANG"] == "C.UTF-8"
    assert not {"WORLD_SIZE", "MASTER_ADDR", "PYTHONSTARTUP", "PET_NNODES"} & set(env)
    assert "/evil" not in env["PYTHONPATH"]


def test_only_launches_of_one_generation_of_one_job_meet(run_dir: Path, run: Run) -> None:
    runs = [run, replace(run, nonce="77aa"), replace(run, generation=2)]
    meetings = [environment(run_dir, each, slot)["PET_RDZV_ID"] for each in runs for slot in (4, 7)]
    assert meetings[::2] == meetings[1::2]
    assert len(set(meetings)) == 3


def test_caches_stay_in_the_workdir_unless_the_user_says_where(run_dir: Path, run: Run) -> None:
    assert environment(run_dir, run, 4)["HF_HOME"] == "/data/hf"
    run.env.pop("HF_HOME")
    ours = environment(run_dir, run, 4)
    assert ours["HF_HOME"] == str(run_dir.parents[2] / "huggingface")
    assert ours["TORCHINDUCTOR_CACHE_DIR"] == str(run_dir.parents[2] / "torch-cache")


def test_every_loopback_address_belongs_to_the_loopback_interface() -> None:
    assert interface_of("127.0.0.2") == interface_of("127.0.0.1")
    with pytest.raises(RunError, match=r"no network interface .* 192\.0\.2\.1"):
        interface_of("192.0.2.1")


def test_the_configuration_makes_one_world_and_can_be_repeated_by_hand(
    run_dir: Path, run: Run
) -> None:
    rank = run.rank_of_slot(7)
    launch = prepare_launch(run_dir, run, rank, 2, {"HF_TOKEN": "hf_secret"}, os.getpid())
    text = (run_dir / "accelerate.7.yaml").read_text()
    for line in ("num_machines: 3", "num_processes: 3", "machine_rank: 1", "use_cpu: false"):
        assert f"\n{line}\n" in text
    assert 'main_process_ip: "127.0.0.2"' in text
    assert launch.argv[-4:] == ["remote.train", str(run_dir), "7", "2"]
    assert launch.env["HF_TOKEN"] == "hf_secret"
    assert "hf_secret" not in text
    assert "hf_secret" not in " ".join(launch.argv)
    assert "PYTHONPATH=" in text.splitlines()[0]


@pytest.mark.parametrize("key", ["schedule", "wire"])
def test_a_setting_of_a_newer_coordinator_is_refused_by_name_before_anything_is_loaded(
    key: str,
) -> None:
    train = {**deepcopy(RUN)["train"], key: "newer"}
    with pytest.raises(RunError, match=f"train.{key} 'newer'; this payload knows "):
        parse_run({**deepcopy(RUN), "train": train})


def test_an_elastic_rank_is_a_launch_of_its_own_and_its_agent_keeps_a_lighthouse(
    run_dir: Path,
) -> None:
    with pytest.raises(RunError, match="names no lighthouses"):
        parse_run({**deepcopy(RUN), "engine": "elastic"})
    lights = [{"host": host, "address": "127.0.0.2", "port": 29500} for host in ("w1", "w2")]
    run = parse_run({**deepcopy(RUN), "engine": "elastic", "lighthouses": lights})
    prepare_launch(run_dir, run, run.rank_of_slot(7), 1, {}, os.getpid())
    text = (run_dir / "accelerate.7.yaml").read_text()
    for line in ('distributed_type: "NO"', "num_machines: 1", "num_processes: 1"):
        assert f"\n{line}\n" in text
    [own] = run.own_lighthouses
    argv, env = prepare_lighthouse(run_dir, run, own, os.getpid())
    assert argv[-3:] == ["remote.engine.lighthouse", "127.0.0.2", "29500"]
    assert env["SOLLOL_RUN"] == str(run_dir)  # so that `clean` finds it
