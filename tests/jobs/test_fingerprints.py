"""Workers that would not compute the same are named before they start."""

import pytest

from sollol_tui.hosts.environment import Environment
from sollol_tui.jobs.fingerprints import difference, harmless_difference


def environment(payload: str = "aa", **said: str) -> Environment:
    told = {"python": "3.11.2", "torch": "2.13.0+cpu", "peft": "0.21.2", **said}
    return Environment(
        python="/p", payload="/q", env_id="e", payload_hash=payload, fingerprint=told
    )


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (environment(payload="bb"), "has the payload bb, but w2 has aa"),
        (environment(torch="2.12.1+cpu"), "has torch 2.12.1, but w2 has 2.13.0"),
        (environment(peft="0.20.0"), "has peft 0.20.0, but w2 has 0.21.2"),
    ],
)
def test_two_workers_with_different_programs_do_not_train_together(
    other: Environment, sentence: str
) -> None:
    found = difference({"w1": environment(), "w2": environment(), "w3": other})
    assert found is not None
    host, reason = found
    assert host == "w3"
    assert reason.startswith(sentence)
    assert "sollol provision w2 w3 --recreate" in reason


def test_builds_of_one_torch_for_different_accelerators_may_meet() -> None:
    mixed = {"w1": environment(), "w2": environment(torch="2.13.0+cu130"), "w3": environment()}
    assert difference(mixed) is None
    assert harmless_difference(mixed) == ""


def test_another_python_is_told_and_goes_on() -> None:
    mixed = {"w1": environment(), "w2": environment(python="3.13.1")}
    assert difference(mixed) is None
    assert harmless_difference(mixed).startswith("w1 trains with Python 3.11 and w2 with 3.13")


def test_a_self_check_of_an_older_payload_says_less() -> None:
    assert difference({"w1": environment(), "w2": environment(peft="")}) is None
