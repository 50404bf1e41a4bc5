"""The teacher: a model that is asked what it would say, and learns nothing. Knows no files of
scores and no order."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remote.base import ModelError, check_folder, load_base
from remote.batches import Layout, Packed
from remote.data.tokens import Batch, Rows
from remote.distill.shards import Scores, id_type, scores_of
from remote.distill.vocabulary import VocabularyError, compare
from remote.fit import choose_layout, free_bytes, in_memory
from remote.loss import PIECE_BYTES
from remote.model import Model
from remote.run import Distill, Run
from remote.session import Say

AT_ONCE = {"cpu": 16, "cuda": 64}  # rows; fewer where memory runs out
LOGIT_BYTES = 8  # fp32, and a copy of those that are looked at


class TeacherError(ModelError):
    """The teacher cannot be used; the message says why and what to do."""


def load_teacher(run: Run, tokenizer: Any, device: torch.device) -> Model:
    """The teacher on its device, read by `tokenizer`."""
    distill = run.distill
    assert distill is not None
    assert distill.teacher is not None
    own = replace(run, model=distill.teacher, train=replace(run.train, quantize=distill.quantize))
    try:
        network = load_base(own, device)
        network.requires_grad_(False)
        network.eval()
        network.to(device)
    except torch.OutOfMemoryError as error:
        raise TeacherError(
            f"the teacher {distill.teacher_name} does not fit into the memory of {device} on "
            f"{run.host}; set quantize: nf4 for it, name another host, or take a smaller teacher"
        ) from error
    return Model(
        base_name=distill.teacher_name,
        network=network,
        tokenizer=tokenizer,
        device=device,
        names=(),
        parameters=(),
        autocast=None if network.dtype == torch.float32 else network.dtype,
        keeps_logits="logits_to_keep" in inspect.signature(network.forward).parameters,
    )


def check_tokens(distill: Distill, student: str, say: Say) -> None:
    """Refuses a teacher whose tokens mean something else to the student, as far as both lie here
    as folders."""
    assert distill.teacher is not None
    folders = Path(distill.teacher), Path(student)
    if not all(folder.is_dir() for folder in folders):
        return
    check_folder(distill.teacher)
    try:
        found = compare(*folders)
    except VocabularyError as error:
        raise TeacherError(str(error)) from error
    if not found.equal:
        raise TeacherError(f"{distill.teacher_name} cannot be this student's: {found.sentence}")
    say(found.sentence)


class Scorer:
    """Scores rows, several at once, and halves their number where memory runs out."""

    def __init__(self, teacher: Model, run: Run, rows: Rows, say: Say) -> None:
        assert run.distill is not None
        self._teacher = teacher
        self._say = say
        self._host = run.host
        self._temperature = run.distill.temperature
        self.vocabulary = len(teacher.tokenizer)
        self._top_k = min(run.distill.top_k, self.vocabulary)
        at_once = run.train.batch_size or self._at_once(run, rows)
        plain = replace(
            run.train, batch_size=at_once, gradient_checkpointing=False, torch_compile=False
        )
        self._layout: Layout = choose_layout(replace(run, train=plain), teacher, rows, at_once, say)

    def _at_once(self, run: Run, rows: Rows) -> int:
        """A GPU says when it is full; on a CPU the logits take a quarter of what is free at most,
        because who takes too much there is killed."""
        most = AT_ONCE[self._teacher.device.type]
        if self._teacher.device.type != "cpu":
            return most
        of_a_row = int(rows.lengths.max()) * self._teacher.network.config.vocab_size * LOGIT_BYTES
        return max(1, min(most, free_bytes(run) // 4 // of_a_row))

    def score(self, rows: Rows, share: np.ndarray, took: Any) -> Scores:
        """The scores of the learnt tokens of these rows, row by row. `took` is called after each
        micro-batch with the tokens scored in it."""
        scores = in_memory(
            self._layout, lambda: self._score(rows, share, took), self._say, undo=lambda: None
        )
        if scores is None:
            raise TeacherError(
                f"{self._host} has no memory left to score a single row of up to "
                f"{int(rows.lengths.max())} tokens; set quantize: nf4 for the teacher, lower "
                "max_length, or name another host"
            )
        return scores

    @torch.inference_mode()
    def _score(self, rows: Rows, share: np.ndarray, took: Any) -> Scores:
        ends = np.cumsum(rows.label_counts[share])
        place_of = dict(zip(share.tolist(), range(len(share)), strict=True))
        ids = np.empty((int(ends[-1]), self._top_k), dtype=id_type(self.vocabulary))
        logs = np.empty(ids.shape, dtype=np.float16)
        for some, batch in self._layout.micro_batches(rows, share, self._teacher.pad_id):
            scores = self._of_batch(batch)
            begin = 0
            for row in some.tolist():
                count = int(rows.label_counts[row])
                end = int(ends[place_of[row]])
                ids[end - count : end] = scores.ids[begin : begin + count]
                logs[end - count : end] = scores.logs[begin : begin + count]
                begin += count
            took(begin)
        return Scores(ids=ids, logs=logs)

    def _of_batch(self, batch: Batch | Packed) -> Scores:
        logits, _, learnt = self._teacher.foretold(batch)
        flat = logits.reshape(-1, logits.shape[-1])
        places = learnt.reshape(-1).nonzero().squeeze(1)
        parts = [
            self._of_tokens(flat[some].float())
            for some in places.split(max(1, PIECE_BYTES // (4 * flat.shape[1])))
        ]
        return Scores(
            ids=np.concatenate([part.ids for part in parts]),
            logs=np.concatenate([part.logs for part in parts]),
        )

    def _of_tokens(self, values: torch.Tensor) -> Scores:
        """Of a few tokens' logits, at the temperature. Ids that no token has are in the rest."""
        if self._temperature != 1:
            values = values / self._temperature
        total = values.logsumexp(dim=1, keepdim=True)
        top, ids = values[:, : self.vocabulary].topk(self._top_k, dim=1)
        rest = values.scatter_(1, ids, -torch.inf).logsumexp(dim=1, keepdim=True)
        found = scores_of(
            ids.cpu().numpy().astype(id_type(self.vocabulary)),
            (top - total).cpu().numpy(),
            (rest - total).cpu().numpy(),
        )
        if not np.isfinite(found.logs).all():
            raise TeacherError(
                f"{self._teacher.base_name} says numbers that are not finite, so it cannot teach; "
                "look at its weights, or set quantize: none"
            )
        return found
