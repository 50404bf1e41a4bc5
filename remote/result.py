"""What a run leaves on disk: checkpoints on its way, and the finished adapter that peft loads."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from remote.checkpoint import STATE, Snapshot, link_tree, write_adapter, write_folder
from remote.progress import logging_steps
from remote.reports import FOLDER as REPORTS
from remote.session import Cursor, Session, order_of

CARD = """\
---
base_model: {model}
library_name: peft
tags: [lora, sollol]
---

# {job}

A LoRA adapter (r = {r}, alpha = {alpha:g}, target {target}), trained with sollol on {ranks} worker
rank{plural}.

| | |
|---|---|
| samples | {samples} ({epochs} epoch{epochs_plural}), {global_batch} per step |
| steps | {step} |
| loss per token, last step | {loss} |
| loss per token, held-out rows | {held_out} |
| learning rate | {learning_rate:g}, {schedule} |
| longest sample | {max_length} tokens |
| seed | {seed} |
| versions | torch {torch}, transformers {transformers}, peft {peft} |

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{model}")
model = PeftModel.from_pretrained(base, "THIS FOLDER")
```
"""


def save_checkpoint(session: Session, cursor: Cursor) -> None:
    """Copies the state now and has it written while training goes on. A disk that refuses is a
    notice: the steps are worth more than this checkpoint."""
    step, samples_done, events = cursor.step, cursor.samples_done, session.events

    def report(outcome: Path | OSError) -> None:
        if isinstance(outcome, OSError):
            message = (
                f"the checkpoint of step {step} could not be written ({outcome}); training goes on"
            )
            events.emit("notice", message=message)
        elif session.engine.members().is_first:
            events.emit("checkpoint", step=step, samples_done=samples_done, path=str(outcome))

    moments = session.optimizer.state_dict()
    moments["state"] = {
        number: {name: value.detach().to("cpu", copy=True) for name, value in entry.items()}
        for number, entry in moments["state"].items()
    }
    snapshot = Snapshot(
        step=step,
        adapter=session.model.adapter(),
        optimizer=moments,
        state=_trainer_state(session, cursor),
        cursor={
            "samples_done": cursor.samples_done,
            "samples_total": session.samples_total,
            "order": order_of(session.run, session.rows),
        },
    )
    session.checkpoints.save(snapshot, report)


def write_result(session: Session, cursor: Cursor) -> Path:
    """Writes adapter, tokenizer, model card, trainer_state.json, the checkpoints that are kept and
    the manifest: the folder that HF's Trainer leaves."""
    model, state = session.model, _trainer_state(session, cursor)
    curves = session.run_dir / REPORTS

    def fill(folder: Path) -> None:
        write_adapter(model.adapter(), folder)
        model.write_config(folder)
        model.tokenizer.save_pretrained(folder)
        (folder / STATE).write_text(json.dumps(state, indent=1))
        (folder / "README.md").write_text(_card(session, cursor))
        for step in session.checkpoints.steps():
            link_tree(session.checkpoints.path(step), folder / session.checkpoints.path(step).name)
        if curves.is_dir():
            shutil.copytree(curves, folder / REPORTS)

    folder = session.run_dir / "result"
    write_folder(folder, fill)
    return folder


def _trainer_state(session: Session, cursor: Cursor) -> dict[str, Any]:
    """trainer_state.json: HF's TrainerState takes these keys and refuses others."""
    settings = session.settings
    evaluations = [entry for entry in cursor.history if "eval_loss" in entry]
    best = min(evaluations, key=lambda entry: entry["eval_loss"], default=None)
    return {
        "global_step": cursor.step,
        "max_steps": session.max_steps,
        "epoch": cursor.samples_done / len(session.rows),
        "num_train_epochs": settings.epochs,
        "train_batch_size": settings.global_batch,
        "logging_steps": logging_steps(session.max_steps),
        "save_steps": settings.save_steps,
        "eval_steps": settings.evaluated_every,
        "best_metric": best["eval_loss"] if best else None,
        "best_global_step": best["step"] if best else None,
        "log_history": list(cursor.history),
    }


def _card(session: Session, cursor: Cursor) -> str:
    run = session.run
    train, lora = run.train, run.train.lora
    last = {key: value for entry in cursor.history for key, value in entry.items()}
    return CARD.format(
        job=run.job,
        model=run.base_name,
        r=lora.r,
        alpha=lora.alpha,
        target=lora.target if isinstance(lora.target, str) else ", ".join(lora.target),
        ranks=len(run.world),
        plural="" if len(run.world) == 1 else "s",
        samples=cursor.samples_done,
        epochs=train.epochs,
        epochs_plural="" if train.epochs == 1 else "s",
        global_batch=train.global_batch,
        step=cursor.step,
        loss=f"{last['loss']:.4f}" if "loss" in last else "-",
        held_out=f"{last['eval_loss']:.4f}" if "eval_loss" in last else "none held out",
        learning_rate=train.learning_rate,
        schedule=train.schedule,
        max_length=train.max_length,
        seed=train.seed,
        torch=version("torch"),
        transformers=version("transformers"),
        peft=version("peft"),
    )
