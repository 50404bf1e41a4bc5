"""One worker's training on a CPU: layouts of micro-batches, our loop against a bare one, TRL.

Every figure is a ratio of CPU seconds of runs taken in turn, one thread each, so that a busy
machine changes little. Run: make bench
"""

import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import pytest

pytest.importorskip("torch", reason="the worker's environment runs this")

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from remote import tiny, train
from remote.base import load_tokenizer
from remote.batches import Layout
from remote.data.order import samples_of_step
from remote.data.tokens import Batch
from remote.model import load_model
from remote.session import Session
from remote.step import Step, compute
from tests.remote.torch.fixtures import World, started

pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]

ROUNDS = 3
ROWS = 128
MAX_LENGTH = 512
SETTINGS = {
    "global_batch": 32, "batch_size": 4, "max_length": MAX_LENGTH, "learning_rate": 1e-3,
    "save_steps": 0, "lora": {"r": 16, "alpha": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Rows as long as those of alpaca, in tokens of one byte: mean 136, at most 512. The head has
    the share of the weights that it has in small models: a fifth."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bench")
    tokenizer = tiny.learn_tokenizer(())
    config = LlamaConfig(
        vocab_size=3072, hidden_size=256, intermediate_size=704, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=MAX_LENGTH,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    chance = np.random.default_rng(1)
    lengths = np.clip(chance.lognormal(4.68, 0.7, ROWS), 24, MAX_LENGTH).astype(int) - 3
    rows = [{"instruction": "q" * (n * 2 // 5), "output": "a" * (n - n * 2 // 5)} for n in lengths]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    world = World(folder / "run", None)
    return world.plan(folder / "model", folder / "rows.jsonl", 1, **SETTINGS)


def in_turn(runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The seconds of each, round by round, so that the machine's moods hit all."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            taken[name].append(run())
    return taken


def times_faster(slow: list[float], fast: list[float]) -> float:
    return median(a / b for a, b in zip(slow, fast, strict=True))


@dataclass(slots=True, kw_only=True)
class InOrder(Layout):
    """Micro-batches in the order of the share, padded to their longest or further."""

    to: int = 0

    def micro_batches(self, rows: Any, share: np.ndarray, pad_id: int) -> Iterator[Any]:
        for begin in range(0, len(share), self.size):
            some = share[begin : begin + self.size]
            batch = rows.batch(some, pad_id)
            missing = ((0, 0), (0, max(0, self.to - batch.ids.shape[1])))
            yield (
                some,
                Batch(
                    ids=np.pad(batch.ids, missing, constant_values=pad_id),
                    attention=np.pad(batch.attention, missing),
                    labelled=np.pad(batch.labelled, missing),
                ),
            )


def test_layouts_of_micro_batches(world: World) -> None:
    for session in started(world):
        layouts = {
            "pad to 512": InOrder(size=4, to=MAX_LENGTH),
            "pad to longest": InOrder(size=4),
            "packed": Layout(size=1, packed=True),
            "by length": Layout(size=4),
        }
        runs = {
            name: partial(epoch, replace(session, layout=layout))
            for name, layout in layouts.items()
        }
        taken = in_turn(runs)
        mean = session.rows.lengths.mean()
    print(f"\n{ROWS} rows of {mean:.0f} tokens on average, micro-batches of 4; by length is")
    for name in ("pad to 512", "pad to longest", "packed"):
        print(f"  {times_faster(taken[name], taken['by length']):.2f} x the speed of {name}")


def epoch(session: Session) -> float:
    began = process_time()
    for step in steps(session):
        compute(session, step)
    session.gradients.clear()
    return process_time() - began


def steps(session: Session) -> Iterator[Step]:
    settings, rows = session.settings, session.rows
    for number in range(session.max_steps):
        samples = samples_of_step(settings.seed, len(rows), settings.global_batch, 1, number)
        tokens = int(rows.label_counts[samples].sum())
        yield Step(number=number + 1, samples=samples, share=samples, tokens=tokens, lr=1e-3)


def test_our_loop_against_a_bare_one_and_trl(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {
        "ours": partial(ours, world, tmp_path, monkeypatch, waited := []),
        "bare": partial(bare, world),
        "TRL": partial(trl, world, tmp_path, packing=False),
        "TRL packing": partial(trl, world, tmp_path, packing=True),
    }
    taken = in_turn(runs)
    best = min(("TRL", "TRL packing"), key=lambda name: median(taken[name]))
    print(f"\nour loop is {times_faster(taken['bare'], taken['ours']):.2f} x as fast as a bare one")
    print(f"it waits for data {median(waited):.2%} of the time")
    faster = times_faster(taken[best], taken["ours"])
    print(f"it trains {faster:.2f} x the samples per CPU second of {best}")
    for name, values in taken.items():
        print(f"  {name}: {ROWS / median(values):.1f} samples per CPU second")


def ours(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> float:
    """The whole loop as a rank runs it, from its first step to its last word."""
    spent = 0.0
    plain = Layout.micro_batches

    def timed(*arguments: Any) -> Iterator[Any]:
        nonlocal spent
        batches = plain(*arguments)
        while True:
            began = process_time()
            item = next(batches, None)
            spent += process_time() - began
            if item is None:
                return
            yield item

    marks = []
    plain_start, plain_finish = train.start, train.finish

    def started_at(*arguments: Any) -> Any:
        outcome = plain_start(*arguments)
        marks.append(process_time())
        return outcome

    def finished_at(*arguments: Any) -> None:
        marks.append(process_time())
        plain_finish(*arguments)

    run = world.run()
    again = World(folder / f"run{len(waited)}", None)
    again.plan(Path(run.model), Path(run.dataset), 1, **SETTINGS)
    with monkeypatch.context() as patched, redirect_stdout(StringIO()):
        patched.setattr(Layout, "micro_batches", timed)
        patched.setattr(train, "start", started_at)
        patched.setattr(train, "finish", finished_at)
        assert train.main([str(again.run_dir()), "0", "1"]) == 0
    began, ended = marks
    waited.append(spent / (ended - began))
    return ended - began


def bare(world: World) -> float:
    for session in started(world):
        model = session.model
        layout, rows = session.layout, session.rows
        batches = [
            (step, [batch for _, batch in layout.micro_batches(rows, step.share, model.pad_id)])
            for step in steps(session)
        ]
        optimizer = torch.optim.AdamW(model.parameters, lr=1e-3, fused=True)
        began = process_time()
        for step, micro_batches in batches:
            for batch in micro_batches:
                (model.token_loss(batch) / step.tokens).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        return process_time() - began
    raise AssertionError


def trl(world: World, folder: Path, *, packing: bool) -> float:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    run = world.run()
    tokenizer = load_tokenizer(run.model)
    rows = map(json.loads, Path(run.dataset).read_text().splitlines())
    conversations = [
        {
            "prompt": [{"role": "user", "content": row["instruction"]}],
            "completion": [{"role": "assistant", "content": row["output"]}],
        }
        for row in rows
    ]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        trainer = SFTTrainer(
            model=load_model(run, tokenizer, torch.device("cpu")).network,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(conversations),
            args=SFTConfig(
                output_dir=str(folder / "trl"),
                num_train_epochs=1,
                # A packed line holds about four samples.
                per_device_train_batch_size=1 if packing else 4,
                gradient_accumulation_steps=8,
                packing=packing,
                max_length=MAX_LENGTH,
                learning_rate=1e-3,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
        )
        began = process_time()
        trainer.train()
        return process_time() - began
