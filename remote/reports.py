"""What is told to tools that draw curves (report_to): scalars, through the tool's own library."""

from importlib.util import find_spec
from typing import Any

from remote.base import ModelError
from remote.evaluation import Evaluation
from remote.progress import Committed
from remote.session import Cursor, Session

FOLDER = "runs"  # where HF's Trainer puts it
TAGS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "ce": "train/ce",
    "kl": "train/kl",
    "epoch": "train/epoch",
    "eval_loss": "eval/loss",
}


class Reports:
    """Writes from the rank that speaks for the job, whichever that is now; silent where nobody
    asked. Who comes to speak for it writes down from the run's log what its own folder lacks, so
    that the curves are whole on whatever machine is left."""

    def __init__(self, session: Session, cursor: Cursor) -> None:
        self._session = session
        self._cursor = cursor
        self._writer: Any = None
        # What was drawn beyond it is drawn again: a killed rank may have been ahead of its
        # checkpoint, and one that is healed has missed the steps of the others.
        self._told = 0 if session.engine.heals else cursor.step

    def add(self, step: Committed) -> None:
        self._write(
            {
                "step": step.step,
                "loss": step.loss,
                "learning_rate": step.lr,
                "grad_norm": step.grad_norm,
                "epoch": step.epoch,
            }
            | step.parts()
        )

    def add_evaluation(self, evaluation: Evaluation) -> None:
        self._write({"step": evaluation.step, "eval_loss": evaluation.loss})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, entry: dict[str, Any]) -> None:
        """An entry as the run's log has it."""
        if self._session.settings.report_to != "tensorboard":
            return
        if not self._session.engine.members().is_first:
            self.close()
            return
        if self._writer is None:
            self._open(entry["step"])
        self._add(entry)

    def _open(self, step: int) -> None:
        from tensorboardX import SummaryWriter

        folder = str(self._session.run_dir / FOLDER)
        # Its files are named by the second, and one of that name would be begun anew.
        self._writer = SummaryWriter(folder, purge_step=self._told + 1, filename_suffix=f".{step}")
        for entry in self._cursor.history:
            if self._told < entry["step"] < step:
                self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        for key, tag in TAGS.items():
            if key in entry:
                self._writer.add_scalar(tag, entry[key], entry["step"])
        self._told = max(self._told, entry["step"])


def check_reports(report_to: str, host: str) -> None:
    """Refuses, before anything is loaded, what cannot be reported."""
    if report_to not in ("none", "tensorboard"):
        raise ModelError(f"this payload knows no report_to: {report_to}; use none or tensorboard")
    if report_to == "tensorboard" and find_spec("tensorboardX") is None:
        raise ModelError(
            f"report_to: tensorboard needs tensorboardX, which the environment of {host} lacks; "
            "provision the host again, or set report_to: none"
        )
