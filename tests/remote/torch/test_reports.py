"""Curves for tensorboard, when the rank that speaks for the job changes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remote.engine import Members
from remote.progress import Committed
from remote.reports import Reports
from remote.run import Rank
from remote.session import Cursor, Session

LOW, OWN = (Rank(slot=s, rank=s, host=f"w{s + 1}", address="", gpu=None) for s in (0, 1))


@dataclass
class Company:
    """An engine as far as reports ask it: who is there with us."""

    ranks: tuple[Rank, ...]
    heals: bool = True

    def members(self) -> Members:
        return Members(ranks=self.ranks, own=OWN, weights=(1.0,) * len(self.ranks))


def take_steps(reports: Reports, cursor: Cursor, *steps: int) -> None:
    for step in steps:
        values: dict[str, Any] = {"step": step, "loss": 1 / step, "grad_norm": 1.0, "epoch": 0.1}
        reports.add(Committed(**values, lr=0.1, samples_done=step, tokens=1, sync_s=0.0))
        cursor.history.append({**values, "learning_rate": 0.1})


def told(folder: Path) -> int:
    """How many losses the folder's curves hold."""
    return sum(path.read_bytes().count(b"train/loss") for path in folder.glob("runs/*"))


def test_who_comes_to_speak_for_the_job_draws_what_the_one_before_had_drawn(session: Session):
    settings = replace(session.settings, report_to="tensorboard")
    company = Company((LOW, OWN))
    some = replace(session, run=replace(session.run, train=settings), engine=company)
    cursor = Cursor()
    reports = Reports(some, cursor)
    take_steps(reports, cursor, 1, 2, 3)
    assert not (some.run_dir / "runs").exists()
    company.ranks = (OWN,)
    take_steps(reports, cursor, 4, 5)
    company.ranks = (LOW, OWN)
    take_steps(reports, cursor, 6, 7)
    assert told(some.run_dir) == 5
    company.ranks = (OWN,)
    take_steps(reports, cursor, 8)
    reports.close()
    assert told(some.run_dir) == 8
