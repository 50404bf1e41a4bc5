"""What is told to tools that draw curves (report_to): scalars, through the tool's own library."""

from importlib.util import find_spec
from typing import Any

from remote.base import ModelError
from remote.evaluation import Evaluation
from remote.progress import Committed
from remote.session import Cursor, Session

FOLDER = "runs"  # where HF's Trainer puts it


class Reports:
    """Writes from the rank that speaks for the job; silent where nobody asked."""

    def __init__(self, session: Session, cursor: Cursor) -> None:
        self._writer: Any = None
        if session.settings.report_to == "tensorboard" and session.engine.members().is_first:
            from tensorboardX import SummaryWriter

            # What a killed rank wrote beyond its checkpoint is not to be shown twice.
            self._writer = SummaryWriter(
                str(session.run_dir / FOLDER), purge_step=cursor.step + 1 if cursor.step else None
            )

    def add(self, step: Committed) -> None:
        if self._writer is None:
            return
        for name, value in {
            "train/loss": step.loss,
            "train/learning_rate": step.lr,
            "train/grad_norm": step.grad_norm,
            "train/epoch": step.epoch,
        }.items():
            self._writer.add_scalar(name, value, step.step)

    def add_evaluation(self, evaluation: Evaluation) -> None:
        if self._writer is not None:
            self._writer.add_scalar("eval/loss", evaluation.loss, evaluation.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def check_reports(report_to: str, host: str) -> None:
    """Refuses, before anything is loaded, what cannot be reported."""
    if report_to not in ("none", "tensorboard"):
        raise ModelError(f"this payload knows no report_to: {report_to}; use none or tensorboard")
    if report_to == "tensorboard" and find_spec("tensorboardX") is None:
        raise ModelError(
            f"report_to: tensorboard needs tensorboardX, which the environment of {host} lacks; "
            "provision the host again, or set report_to: none"
        )
