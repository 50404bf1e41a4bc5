"""A rank that is slower than the other gets fewer samples, and nothing else changes."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from remote import train as train_module
from remote.engine import Tally
from remote.session import Session
from remote.step import Step
from remote.train import main

SLOW_S = 0.1  # for each sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowness:
    """What a weak machine does to the last rank of a world; notes the sizes of its shares."""

    shares: Path

    def await_in_this_process(self) -> None:
        compute = train_module.compute

        def slowly(session: Session, step: Step) -> Tally:
            time.sleep(SLOW_S * len(step.share))
            with self.shares.open("a") as file:
                file.write(f"{len(step.share)} {len(step.samples)}\n")
            return compute(session, step)

        train_module.compute = slowly


def test_a_slow_rank_gets_fewer_samples_and_the_losses_stay(
    make_world: Any, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    alone = make_world("alone").plan(tiny_model, dataset, 1, epochs=2)
    assert main([str(alone.run_dir()), "0", "1"]) == 0
    two = make_world("two").plan(tiny_model, dataset, 2, epochs=2)
    slowness = Slowness(shares=tmp_path / "shares")
    assert two.train(slowness) == [0, 0]
    shares = [tuple(map(int, line.split())) for line in slowness.shares.read_text().splitlines()]
    assert shares[0] == (4, 9)  # nothing is known yet
    assert [own for own, whole in shares[-4:-1] if own > whole // 3] == []
    assert sorted(two.trained_rows()) == sorted([*range(47)] * 2)
    assert two.losses() == pytest.approx(alone.losses(), rel=1e-5)
    ends = [two.events("finished", host)[0]["digest"] for host in two.hosts]
    assert ends[0] == ends[1]
