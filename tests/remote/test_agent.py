"""The agent's commands and what becomes of a run, with real processes and ranks without torch."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from remote import ports, processes, remains
from remote.control import Action, read_control
from remote.lease import hold_port, is_locked
from tests.ports import unused_port
from tests.remote.worker import SECRET, Worker, wait_until

MakeWorker = Callable[..., Worker]


def test_a_world_of_two_ranks_trains_to_the_end_and_leaves_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker(ranks=2, SOLLOL_STUB_STEPS="5")
    assert worker.start()["outcome"] == "started"
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("done", 0)
    assert [worker.wait_for("ready", writer)["world_size"] for writer in "01"] == [2, 2]
    assert (worker.run_dir / "result" / "manifest.json").is_file()
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    assert worker.agent("inspect") == {"v": 1, "agent": False, "nonce": "", "processes": []}
    assert not (worker.run_dir / "tmp").exists()

    assert worker.start() == {"v": 1, "outcome": "finished", "attempt": 1}
    assert worker.agent("inspect")["agent"] is False


def test_only_the_user_can_read_a_run(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_STEPS="1")
    worker.start()
    worker.wait_for("agent_finished")
    assert worker.run_dir.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o077 for path in worker.run_dir.iterdir()}
    assert set(modes.values()) == {0}, modes


def test_a_repeated_start_adopts_and_another_generation_is_refused(make_worker: MakeWorker) -> None:
    worker = make_worker()
    first = worker.start()
    again = worker.start()
    assert again == {**first, "outcome": "adopted"}
    worker.run["generation"] = 2
    assert "generation 1 works in" in worker.refused()
    assert json.loads((worker.run_dir / "run.json").read_text())["generation"] == 1


def test_another_job_of_the_same_id_is_refused_whether_it_runs_or_is_done(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker(SOLLOL_STUB_STEPS="5")
    worker.run["nonce"] = "a"
    worker.start()
    worker.run["nonce"] = "b"
    assert f"{worker.run_dir} belongs to another job of the same id" in worker.refused()
    worker.wait_for("agent_finished")
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    assert "belongs to another job" in worker.refused()
    worker.run["nonce"] = "a"
    assert worker.start()["outcome"] == "finished"


def test_of_starts_at_the_same_time_one_starts_and_the_others_adopt(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker()
    starts = [worker.begin("remote.agent", "start", str(worker.run_dir)) for _ in range(4)]
    for process in starts:
        assert process.stdin
        process.stdin.write(worker.request)
        process.stdin.close()
        process.stdin = None  # all of them go on at once; communicate() must not write again
    answers = [json.loads(process.communicate(timeout=20)[0]) for process in starts]
    outcomes = sorted(answer["outcome"] for answer in answers)
    assert outcomes == ["adopted", "adopted", "adopted", "started"]
    assert len({answer["pid"] for answer in answers}) == 1
    assert [e["kind"] for e in worker.events()].count("agent_started") == 1


def test_stop_lets_the_ranks_save_and_leave_and_a_later_start_goes_on(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker(ranks=2)
    worker.start()
    worker.wait_for("step", "0")
    worker.agent("control", "stop")
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("stopped", 0)
    assert worker.wait_for("checkpoint", "0")["step"] == worker.wait_for("stopped", "1")["step"]

    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    assert worker.start()["attempt"] == 2  # the old `stop` no longer counts
    assert worker.wait_for("ready", "0", count=2)["attempt"] == 2


def test_kill_ends_six_kinds_of_strays_and_says_so(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_STRAYS="1", SOLLOL_STUB_DEAF="1")
    worker.start()
    worker.wait_for("step", "0")
    strays = worker.strays()
    assert [processes.is_alive(stray) for stray in strays] == [True] * 6
    worker.agent("control", "kill")
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("killed", 0)
    assert [processes.is_alive(stray) for stray in strays] == [False] * 6
    assert worker.agent("inspect")["processes"] == []


def test_a_rank_that_does_not_hear_stop_is_killed_in_the_end(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_DEAF="1")
    worker.shorten("daemon", "STOP_TIMEOUT_S", 120.0, 0.5)
    worker.shorten("remains", "TERM_GRACE_S", 5.0, 0.2)
    worker.start()
    worker.wait_for("step", "0")
    worker.agent("control", "stop")
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("killed", 0)
    assert "after `stop`" in finished["reason"]
    assert worker.wait_for("rank_exited")["reason"] == "ended by the agent"


def test_strays_of_a_run_that_is_done_are_ended_too(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_STRAYS="1", SOLLOL_STUB_STEPS="3")
    worker.start()
    strays = worker.strays()
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("done", 0)
    assert not any(processes.is_alive(stray) for stray in strays)


def test_sigterm_to_the_agent_saves_and_leaves_and_sighup_is_nothing(
    make_worker: MakeWorker,
) -> None:
    # A GPU driver that hangs: its thread must not take the signal that the agent waits for.
    driver = "import time\nclass NVMLError(Exception): ...\ndef nvmlInit(): time.sleep(600)\n"
    worker = make_worker()
    worker.add_module("pynvml", driver)
    pid = worker.start()["pid"]
    worker.wait_for("step", "0")
    os.kill(pid, signal.SIGHUP)
    steps = len(worker.events("0"))
    worker.wait_for("step", "0", count=steps + 5)
    os.kill(pid, signal.SIGTERM)
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["problem"]) == ("killed", "wanted_back")
    assert finished["reason"] == "somebody on w1 ended it with SIGTERM"
    stopped = worker.wait_for("stopped", "0")
    assert (worker.run_dir / "checkpoints" / f"checkpoint-{stopped['step']}").is_dir()


@pytest.mark.parametrize(("patience_s", "signals"), [(0.2, 1), (600.0, 2)])
def test_a_rank_that_is_deaf_does_not_hold_up_a_sigterm(
    make_worker: MakeWorker, patience_s: float, signals: int
) -> None:
    worker = make_worker(SOLLOL_STUB_DEAF="1")
    worker.shorten("daemon", "TERMINATION_S", 8.0, patience_s)
    worker.shorten("remains", "TERM_GRACE_S", 5.0, 0.2)
    pid = worker.start()["pid"]
    worker.wait_for("step", "0")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: read_control(worker.run_dir) is Action.STOP, "the first was heard")
    if signals > 1:
        os.kill(pid, signal.SIGTERM)
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("killed", 0)


def test_an_agent_that_a_signal_has_stopped_is_woken_by_a_word(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_STRAYS="1")
    identity = processes.identify(worker.start()["pid"])
    assert identity is not None
    strays = worker.strays()
    assert remains.stopped_agent(worker.run_dir) is None
    processes.send_signal(identity, signal.SIGSTOP)
    wait_until(lambda: remains.stopped_agent(worker.run_dir) == identity, "it stands still")
    worker.agent("control", "kill")
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("killed", 0)
    assert not any(map(processes.is_alive, strays))


def test_ranks_die_with_a_killed_agent_and_clean_finds_what_does_not(
    make_worker: MakeWorker,
) -> None:
    worker = make_worker(SOLLOL_STUB_STRAYS="1", SOLLOL_STUB_DEAF="1")
    pid = worker.start()["pid"]
    strays = worker.strays()

    def all_recorded() -> bool:
        lines = (worker.run_dir / "pids").read_text().splitlines()
        return {s.pid for s in strays} <= {json.loads(line)["pid"] for line in lines}

    wait_until(all_recorded, "the agent has written its strays down")
    ranks = [r.identity for r in worker.remnants() if r.role == "rank.0"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(processes.is_alive(rank) for rank in ranks), "the rank is dead")
    assert worker.agent("inspect")["agent"] is False
    assert worker.agent("clean") == {"v": 1, "agent": False, "nonce": "", "processes": []}
    assert not any(processes.is_alive(stray) for stray in strays)
    assert not (worker.run_dir / "tmp").exists()


def test_a_start_after_a_killed_agent_first_ends_what_it_left(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_STRAYS="1")
    pid = worker.start()["pid"]
    with_cookie = worker.strays()[:1]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    worker.run["env"]["SOLLOL_STUB_STRAYS"] = "0"
    assert worker.start()["outcome"] == "started"
    assert not any(processes.is_alive(stray) for stray in with_cookie)


def test_clean_leaves_a_living_agent_alone(make_worker: MakeWorker) -> None:
    worker = make_worker()
    pid = worker.start()["pid"]
    answer = worker.agent("clean")
    assert answer["agent"] is True
    assert {"pid": pid, "role": "agent"}.items() <= answer["processes"][0].items()


def test_a_rank_that_dies_at_import_says_why(make_worker: MakeWorker) -> None:
    worker = make_worker(ranks=2, SOLLOL_STUB_FAIL="import")
    worker.start()
    finished = worker.wait_for("agent_finished")
    assert (finished["outcome"], finished["leftover_processes"]) == ("failed", 0)
    exited = worker.wait_for("rank_exited")
    cause = "ImportError: libstub.so.1: cannot open shared object file"
    assert exited["code"] == 1
    assert exited["reason"] == f"exited with code 1: {cause}"
    assert exited["traceback"].endswith(cause)
    assert cause in finished["reason"]


def test_a_rank_that_fails_takes_the_static_world_with_it(make_worker: MakeWorker) -> None:
    worker = make_worker(ranks=2, SOLLOL_STUB_FAIL="step:3")
    worker.start()
    finished = worker.wait_for("agent_finished")
    assert finished["outcome"] == "failed"
    assert "RuntimeError: told to fail in step 3" in finished["reason"]
    assert worker.agent("inspect")["processes"] == []


def test_a_killed_rank_is_told_from_one_that_failed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.start()
    worker.wait_for("step", "0")
    training = [r.identity for r in worker.remnants() if r.role in ("descendant", "cookie")]
    for identity in training:
        assert processes.send_signal(identity, signal.SIGKILL)
    exited = worker.wait_for("rank_exited")
    assert (exited["code"], exited["traceback"]) == (-9, None)
    assert exited["reason"] == "killed by signal 9 (SIGKILL; maybe out of memory)"


def test_a_rank_that_leaves_without_a_word_has_failed(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_FAIL="silent")
    worker.start()
    finished = worker.wait_for("agent_finished")
    assert finished["outcome"] == "failed"
    assert finished["reason"] == "slot 0 on w1: ended without an error and without having finished"


def test_a_crash_after_the_last_word_spoils_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_FAIL="late", SOLLOL_STUB_STEPS="1")
    worker.start()
    assert worker.wait_for("agent_finished")["outcome"] == "done"
    assert worker.wait_for("rank_exited")["code"] == 1


def test_a_run_that_cannot_work_is_refused_before_anything_is_made(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.run["world"][0]["address"] = "192.0.2.1"
    assert "no network interface of this host has the address 192.0.2.1" in worker.refused()
    worker.run["env"] = {"BAD NAME": "1"}
    worker.run["world"][0]["address"] = "127.0.0.1"
    assert "run.json's env must be" in worker.refused()
    del worker.run["model"]
    assert "model" in worker.refused()
    assert not worker.run_dir.exists()
    assert worker.agent("control", "stop")["reason"].startswith("there is no run in")


def test_an_older_generation_is_refused(make_worker: MakeWorker) -> None:
    worker = make_worker(SOLLOL_STUB_FAIL="import")
    worker.run["generation"] = 2
    worker.start()
    worker.wait_for("agent_finished")
    wait_until(lambda: not is_locked(worker.run_dir), "the lock is free")
    worker.run["generation"] = 1
    assert "has already seen generation 2" in worker.refused()


def test_secrets_reach_the_rank_and_no_file_or_command_line(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.start()
    worker.wait_for("step", "0")
    ranks = [r.identity.pid for r in worker.remnants() if r.role == "rank.0"]
    assert processes.environment_holds(ranks[0], "HF_TOKEN", SECRET)
    files = [path for path in worker.run_dir.rglob("*") if path.is_file()]
    commands = [Path(f"/proc/{r.identity.pid}/cmdline") for r in worker.remnants()]
    assert [p for p in [*files, *commands] if SECRET.encode() in p.read_bytes()] == []


def test_metrics_count_the_job_itself(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.start()
    metrics = worker.wait_for("host_metrics", count=2)
    assert 0 < metrics["job_rss_bytes"] < metrics["ram_used_bytes"] < metrics["ram_total_bytes"]
    assert 0 <= metrics["cpu_percent"] <= 100


def test_a_taken_port_is_passed_over(make_worker: MakeWorker) -> None:
    worker = make_worker()
    first = unused_port()
    with socket.create_server(("127.0.0.1", first)):
        process = worker.begin("remote.agent", "port", "127.0.0.1", str(first), str(first))
        assert json.loads(process.communicate(timeout=20)[0]) == {"v": 1, "port": None}
    process = worker.begin("remote.agent", "port", "127.0.0.1", str(first), str(first))
    assert json.loads(process.communicate(timeout=20)[0]) == {"v": 1, "port": first}


def test_a_port_that_an_agent_has_reserved_is_passed_over() -> None:
    port = unused_port()
    lease = hold_port(port)
    assert lease is not None
    assert ports.free_port("127.0.0.1", port, port) == {"port": None}
    os.close(lease)
    assert ports.free_port("127.0.0.1", port, port) == {"port": port}


def test_the_search_for_a_port_begins_anywhere_and_comes_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports.random, "randrange", lambda size: size - 1)
    monkeypatch.setattr(ports, "_can_listen", lambda family, address, port: port != 109)
    assert ports.free_port("127.0.0.1", 100, 108) == {"port": 108}
    assert ports.free_port("127.0.0.1", 100, 109) == {"port": 100}


def test_the_main_port_belongs_to_one_agent_for_its_life(make_worker: MakeWorker) -> None:
    first, second = make_worker(), make_worker()
    second.run["main_port"] = port = first.run["main_port"]
    first.start()
    assert f"main port {port} is in use" in second.refused()
    first.agent("control", "kill")
    wait_until(lambda: not is_locked(first.run_dir), "the lock is free")
    assert second.start()["outcome"] == "started"


def test_a_stranger_on_the_main_port_is_named(make_worker: MakeWorker) -> None:
    worker = make_worker()
    port = worker.run["main_port"]
    with socket.create_server(("127.0.0.1", port)):
        worker.start()
        finished = worker.wait_for("agent_finished")
    assert finished["outcome"] == "failed"
    assert f"main port {port} is in use" in finished["reason"]


def test_a_start_that_nobody_hears_any_more_starts_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker()
    with worker.begin("remote.agent", "start", str(worker.run_dir)) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.close()  # whoever asked was killed while the interpreter was starting
        process.stdin.write(worker.request)
        process.stdin.close()
        assert process.wait(timeout=20) != 0
    assert worker.agent("inspect") == {"v": 1, "nonce": "", "agent": False, "processes": []}
    assert worker.start()["outcome"] == "started"
