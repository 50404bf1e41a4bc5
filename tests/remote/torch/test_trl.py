"""The loss curve is that of TRL's SFTTrainer on the same rows, in the same order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from remote import tiny
from remote.base import load_tokenizer
from remote.data.order import samples_of_step, steps_of_run
from remote.model import load_model
from remote.run import Run
from remote.train import main
from sollol_tui.docstrings import docstring_rows

ROWS = 400
SETTINGS = {
    "global_batch": 16, "batch_size": 4, "max_length": 96, "learning_rate": 5e-3,
    "warmup_ratio": 0.0, "schedule": "cosine", "weight_decay": 0.01, "save_steps": 0,
    "lora": {"r": 16, "alpha": 32, "modules_to_save": ["embed_tokens", "lm_head"]},
}  # fmt: skip


def losses_of_trl(run: Run, rows: list[dict[str, str]], folder: Path) -> list[float]:
    """Trains the adapter that our rank begins with, on our order of the rows."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    settings = run.train
    steps = range(steps_of_run(len(rows), settings.global_batch, settings.epochs))
    order = np.concatenate(
        [samples_of_step(settings.seed, len(rows), settings.global_batch, 1, k) for k in steps]
    )
    conversations = [
        {
            "prompt": [{"role": "user", "content": rows[row]["instruction"]}],
            "completion": [{"role": "assistant", "content": rows[row]["output"]}],
        }
        for row in order
    ]
    tokenizer = load_tokenizer(run.model)
    trainer = SFTTrainer(
        model=load_model(run, tokenizer, torch.device("cpu")).network,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(conversations),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.global_batch // settings.batch_size,
            num_train_epochs=settings.epochs,
            max_length=settings.max_length,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.filterwarnings("ignore")  # what another library warns of while it trains
def test_the_loss_of_every_step_is_that_of_trl(make_world: Any, tmp_path: Path) -> None:
    rows = docstring_rows(ROWS)
    dataset = tmp_path / "docstrings.jsonl"
    dataset.write_text("\n".join(map(json.dumps, rows)))
    tiny.main([str(tmp_path / "model"), "--words-of", str(dataset)])
    world = make_world("alone").plan(tmp_path / "model", dataset, 1, **SETTINGS)
    assert main([str(world.run_dir()), "0", "1"]) == 0
    ours = list(world.losses().values())
    theirs = losses_of_trl(world.run(), rows, tmp_path / "trl")
    assert len(ours) == len(theirs) == ROWS / SETTINGS["global_batch"]
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert ours[-1] < ours[0] - 1
