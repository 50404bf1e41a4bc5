"""Why a rank ended, read from logs as ranks really leave them."""

import json
from pathlib import Path

from remote.ending import (
    TRACEBACK_LIMIT,
    describe_exit,
    last_event,
    last_traceback,
    port_is_taken,
    rank_code,
)

CAUSE = """Traceback (most recent call last):
  File "remote/train.py", line 9, in main
    load()
ValueError: no such layer: q_proj"""
LAUNCHER = """Traceback (most recent call last):
  File "torch/distributed/run.py", line 900, in run
    elastic_launch(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
remote.train FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : -9 (pid: 4711)
"""


def test_the_launchers_own_complaint_is_not_the_cause() -> None:
    assert last_traceback(f"loading\n{CAUSE}\n{LAUNCHER}") == CAUSE
    assert last_traceback(LAUNCHER) is None


def test_prefixes_of_ranks_are_taken_off() -> None:
    assert last_traceback("".join(f"[rank0]: {line}\n" for line in CAUSE.splitlines())) == CAUSE


def test_a_chain_is_kept_together() -> None:
    bridge = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    second = CAUSE.replace("ValueError: no such layer: q_proj", "RuntimeError: cannot load")
    assert last_traceback(CAUSE + bridge + second) == CAUSE + bridge + second


def test_the_newest_of_several_is_told() -> None:
    newer = CAUSE.replace("q_proj", "v_proj")
    assert last_traceback(f"{CAUSE}\nretrying\n{newer}\n") == newer


def test_a_long_traceback_keeps_its_end() -> None:
    text = last_traceback(CAUSE.replace("    load()", "    load()\n" * 4000 + "    load()"))
    assert text
    assert len(text) <= TRACEBACK_LIMIT
    assert text.endswith("q_proj")


def test_no_traceback_is_none() -> None:
    assert last_traceback("Segmentation fault\n") is None
    assert describe_exit(3, None) == "exited with code 3 and left no traceback in its log"


def test_the_ranks_own_code_is_read_from_the_launchers_report() -> None:
    assert rank_code(1, LAUNCHER) == -9
    assert rank_code(1, CAUSE) == 1
    assert rank_code(-15, LAUNCHER) == -15
    assert describe_exit(-9, None) == "killed by signal 9 (SIGKILL; maybe out of memory)"
    assert describe_exit(-11, None) == "killed by signal 11 (SIGSEGV)"


def test_an_unfinished_line_is_not_yet_an_event(tmp_path: Path) -> None:
    path = tmp_path / "events.0.1.jsonl"
    path.write_text(json.dumps({"kind": "stopped", "step": 3}) + "\n" + '{"kind": "finished"}')
    assert last_event(path, "finished", "stopped") == {"kind": "stopped", "step": 3}
    assert last_event(path, "failed") is None
    assert last_event(tmp_path / "missing", "failed") is None


def test_a_taken_main_port_is_known_in_the_words_of_those_who_meet_it() -> None:
    torch = (
        "DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
    )
    accelerate = (
        "ConnectionError: Tried to launch distributed communication on port `29500`, but another "
        "process is utilizing it. Please specify a different port"
    )
    for text in (torch, accelerate):
        assert port_is_taken(29500, f"Traceback\n{text}\n")
        assert not port_is_taken(2950, text)
    assert not port_is_taken(29500, f"listening on 29500\n{torch.replace('29500', '41000')}")
