"""What a teacher's scores are worth to a student, and what they cost.

Run by hand with the Python of a worker's environment: `python -m tests.bench.bench_distill CASE..`

  learnt   a 2-layer student with few rows, of a 4-layer teacher of the demo's family: how far the
           student is from the teacher on held-out rows after as many steps with its scores as
           without. Both bases were trained with many other rows, the student's for a third of the
           time, because an adapter needs a base that knows something. Few rows, often seen, because
           that is where a teacher is of use: cross-entropy alone learns them by heart, and the
           longer the farther from what the teacher would say
  step     CPU time of a step with cached scores against one without, taken in turn
  kept     what 32 tokens and the rest keep: the divergence of the teacher from itself, and the
           angle between the gradient and that of the whole distribution
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
import transformers
from peft import PeftModel
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from remote import tiny, train
from remote.base import load_tokenizer
from remote.data.tokens import Dataset, Rows
from remote.distill.divergence import Signal, mixed_loss
from remote.distill.score import score
from remote.distill.shards import scores_of
from remote.errand import carry_out
from remote.events import EventWriter
from remote.run import read_run
from remote.session import Cursor, Session
from remote.start import start, tokens_of, workdir_of
from remote.step import Step, compute, next_step
from sollol_tui.docstrings import docstring_rows, write_rows

ROWS, OF_ALL = 200, 10**6  # the student's; the others are those of the bases
VAL_SIZE = 0.25
LOOK_EVERY = 38  # steps, of a curve
BASE_BATCH = 16
ROUNDS = 12
ALPHAS = {"CE alone": 1.0, "alpha 0.5": 0.5, "alpha 0": 0.0}
TEMPERATURES = (1.0, 1.5, 2.0)
TOP_K = 32
TRAIN = {
    "epochs": 20, "global_batch": 16, "batch_size": 16, "max_length": 64, "val_size": VAL_SIZE,
    "learning_rate": 5e-3, "save_steps": LOOK_EVERY, "save_total_limit": 1000,
    "lora": {"r": 16, "alpha": 32, "modules_to_save": ["embed_tokens", "lm_head"]},
}  # fmt: skip


class Bench:
    """A dataset, a teacher trained on others, its scores, and students with and without them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = folder / "docstrings.jsonl"
        own = docstring_rows(ROWS)
        write_rows(own, self.dataset)
        others = folder / "others.jsonl"
        write_rows([row for row in docstring_rows(OF_ALL) if row not in own], others)
        shape = folder / "tiny"
        self.student, self.teacher = folder / "student", folder / "teacher"
        with redirect_stdout(StringIO()):
            tiny.main([str(shape), "--words-of", str(others)])
        rows = self._tokens("others", others, shape).training
        train_base(shape, self.teacher, rows, layers=4, steps=300, seed=1)
        train_base(shape, self.student, rows, layers=2, steps=100, seed=2)
        self.data = self._tokens("tokens", self.dataset, shape)
        scorer = self.plan("w1.teacher", "distill.score", str(self.teacher))
        with redirect_stdout(StringIO()):
            assert carry_out([str(scorer), "0", "1"], score) == 0
        [done] = told(scorer, "finished")
        print(f"scored {done['scored']:,} tokens")

    def plan(self, name: str, program: str, teacher: str | None, **distill: Any) -> Path:
        run_dir = self.folder / "runs" / "bench" / name
        run_dir.mkdir(parents=True)
        about = {"teacher": teacher, "teacher_name": "teacher", "teacher_hash": "bench"}
        run = {
            "v": 1, "job": "bench", "host": "w1", "generation": 1, "engine": "static",
            "program": program, "main_port": 0, "cpu_cores": 1, "model": str(self.student),
            "world": [{"slot": 0, "rank": 0, "host": "w1", "address": "127.0.0.1", "gpu": None}],
            "dataset": str(self.dataset), "train": TRAIN,
            "distill": None if distill.get("alpha") == 1 else {**about, "top_k": TOP_K, **distill},
        }  # fmt: skip
        (run_dir / "run.json").write_text(json.dumps(run))
        return run_dir

    def _tokens(self, name: str, dataset: Path, model: Path) -> Dataset:
        run_dir = self.plan(name, "train", None)
        run = replace(read_run(run_dir), dataset=str(dataset), model=str(model))
        assert workdir_of(run_dir) == self.folder
        return tokens_of(run, run_dir, load_tokenizer(run.model), lambda message: None)

    def learn(self, name: str, **distill: Any) -> dict[int, Path]:
        """Trains a student to its end; its checkpoints by their step."""
        run_dir = self.plan(name, "train", None, **distill)
        with redirect_stdout(StringIO()):
            assert train.main([str(run_dir), "0", "1"]) == 0
        found = run_dir.glob("checkpoints/checkpoint-*")
        return {int(path.name.removeprefix("checkpoint-")): path for path in found}

    @contextmanager
    def session(self, name: str, **distill: Any) -> Iterator[tuple[Session, Cursor]]:
        run_dir = self.plan(name, "train", None, **distill)
        run = read_run(run_dir)
        events = EventWriter.of_run(run, run_dir, 0, 1)
        with redirect_stdout(StringIO()):
            session, cursor, _ = start(run, run.rank_of_slot(0), run_dir, events)
        yield session, cursor
        session.engine.close()


def told(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run_dir / "events.0.1.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def train_base(
    shape: Path, folder: Path, rows: Rows, *, layers: int, steps: int, seed: int
) -> None:
    """A model of the demo's kind, all weights trained."""
    config = transformers.AutoConfig.from_pretrained(shape)
    config.num_hidden_layers = layers
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    source = np.random.default_rng(0)
    loss = torch.zeros(())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        batch = rows.batch(source.choice(len(rows), BASE_BATCH, replace=False), 0)
        logits, targets = labelled(model, batch)
        loss = cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    load_tokenizer(str(shape)).save_pretrained(folder)
    print(f"{folder.name}'s base: {layers} layers, {steps} steps, loss {loss.item():.3f}")


def labelled(model: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the learnt tokens, and these tokens."""
    ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.labelled[:, 1:])
    output = model(input_ids=ids, attention_mask=torch.from_numpy(batch.attention))
    return output.logits[:, :-1][mask], ids[:, 1:][mask]


@torch.no_grad()
def apart(teacher: Any, student: Any, rows: Rows) -> tuple[float, float]:
    """KL(teacher || student) over the whole vocabulary and the student's cross-entropy, a token."""
    divergence, entropy, tokens = 0.0, 0.0, 0
    for begin in range(0, len(rows), 16):
        batch = rows.batch(np.arange(begin, min(begin + 16, len(rows))), 0)
        (taught, targets), (own, _) = labelled(teacher, batch), labelled(student, batch)
        log_own, log_taught = log_softmax(own, dim=1), log_softmax(taught, dim=1)
        divergence += kl_div(log_own, log_taught, log_target=True, reduction="sum").item()
        entropy += cross_entropy(own, targets, reduction="sum").item()
        tokens += len(targets)
    return divergence / tokens, entropy / tokens


def learnt(bench: Bench) -> None:
    teacher = AutoModelForCausalLM.from_pretrained(bench.teacher).eval()
    rows = bench.data.validation
    _, floor = apart(teacher, teacher, rows)
    begun, loss = apart(teacher, AutoModelForCausalLM.from_pretrained(bench.student).eval(), rows)
    print(
        f"{len(bench.data.training)} rows to learn, {len(rows)} held out, where the teacher's own "
        f"loss is {floor:.3f}; the student before: KL {begun:.3f}, loss {loss:.3f}"
    )
    found: dict[str, dict[int, float]] = {}
    for name, alpha in ALPHAS.items():
        found[name] = {}
        for step, adapter in sorted(bench.learn(name.replace(" ", "-"), alpha=alpha).items()):
            base = AutoModelForCausalLM.from_pretrained(bench.student)
            student = PeftModel.from_pretrained(base, adapter).eval()
            found[name][step], loss = apart(teacher, student, rows)
        print(f"{name}: held-out loss after the last step {loss:.3f}", flush=True)
    print("held-out KL to the teacher, and how much that is of CE alone's:")
    print(f"{'steps':>6}" + "".join(f"{name:>18}" for name in ALPHAS))
    for step, alone in found["CE alone"].items():
        cells = (f"{found[name][step]:.3f} ({found[name][step] / alone:.3f})" for name in ALPHAS)
        print(f"{step:>6}" + "".join(f"{cell:>18}" for cell in cells))


def step(bench: Bench) -> None:
    """The same rows in turn, on one network: what differs is the loss and the scores' way in."""
    with bench.session("step") as (session, cursor):
        plain = replace(session, scores=None, run=replace(session.run, distill=None))
        whole = next_step(session, cursor)
        compute(session, whole)
        times: dict[str, list[float]] = {"scores": [], "ce": []}
        for _ in range(ROUNDS):
            for name, one in (("scores", session), ("ce", plain)):
                times[name].append(time_of(one, whole))
        middle = {name: median(some) for name, some in times.items()}
        pairs = [a / b for a, b in zip(times["scores"], times["ce"], strict=True)]
        print(
            f"step of {len(whole.samples)} rows, {whole.tokens} learnt tokens, vocabulary "
            f"{session.model.network.config.vocab_size}: {1000 * middle['ce']:.0f} ms with CE, "
            f"{1000 * middle['scores']:.0f} ms with scores; ratio {median(pairs):.3f}"
        )


def time_of(session: Session, whole: Step) -> float:
    began = process_time()
    compute(session, whole)
    session.gradients.clip(1.0)
    session.optimizer.step()
    session.gradients.clear()
    return process_time() - began


def kept(bench: Bench) -> None:
    teacher = AutoModelForCausalLM.from_pretrained(bench.teacher).eval()
    student = AutoModelForCausalLM.from_pretrained(bench.student).eval()
    rows = bench.data.validation
    batch = rows.batch(np.arange(len(rows)), 0)
    with torch.no_grad():
        (taught, targets), (own, _) = labelled(teacher, batch), labelled(student, batch)
    for temperature in TEMPERATURES:
        chances = log_softmax(taught / temperature, dim=1)
        top, ids = chances.topk(TOP_K, dim=1)
        rest = chances.scatter(1, ids, -torch.inf).logsumexp(dim=1, keepdim=True)
        scores = scores_of(ids.numpy().astype(np.uint16), top.numpy(), rest.numpy())
        log_chances, log_rest = map(torch.from_numpy, scores.chances())
        signal = Signal(ids=ids, log_chances=log_chances, log_rest=log_rest)

        def gradient_of(logits: torch.Tensor, told: Signal, at: float) -> tuple[Any, float]:
            logits = logits.clone().requires_grad_()
            everywhere = torch.ones(len(targets), dtype=torch.bool)
            mixed = mixed_loss(logits, targets, everywhere, told, alpha=0.0, temperature=at)
            mixed.loss.backward()
            return logits.grad, mixed.divergence.item() / len(targets)

        exact = own.clone().requires_grad_()
        kl_div(
            log_softmax(exact / temperature, dim=1), chances, log_target=True, reduction="sum"
        ).backward()
        gradient, _ = gradient_of(own, signal, temperature)
        cosine = torch.cosine_similarity(gradient.flatten(), exact.grad.flatten(), dim=0).item()
        _, itself = gradient_of(taught, signal, temperature)
        print(
            f"temperature {temperature:g}: the rest holds {rest.exp().mean().item():.4f} of what "
            f"is said; cosine {cosine:.5f}; KL of the teacher from itself {itself:.1e}"
        )


CASES = {"learnt": learnt, "step": step, "kept": kept}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.bench_distill", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES, metavar="CASE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for case in options.cases:
            CASES[case](bench)


if __name__ == "__main__":
    main(sys.argv[1:])
