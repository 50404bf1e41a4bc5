"""Writes a worker's run.json (docs/architecture.md): the strict side of the contract. Pure."""

from dataclasses import asdict
from typing import Any

from sollol_tui.jobs.worker import Place
from sollol_tui.model.inventory import Host
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec

_TRAIN_KEYS = (
    *("format", "epochs", "batch_size", "max_length", "learning_rate", "schedule", "warmup_ratio"),
    *("warmup_steps", "weight_decay", "max_grad_norm", "lora", "seed", "wire", "save_steps"),
    *("packing", "quantize", "gradient_checkpointing", "torch_compile", "val_size", "eval_steps"),
    *("report_to", "loss_watchdog", "loss_watchdog_steps", "sample_prompts", "sample_tokens"),
    "save_total_limit",
)


def run_file(
    *,
    job: str,
    nonce: str,
    spec: JobSpec,
    plan: Plan,
    host: Host,
    place: Place,
    generation: int,
    main_port: int,
) -> dict[str, Any]:
    """What the agent of `host` is told. A slot stays with its device; ranks are counted anew."""
    asked = spec.as_data()
    ranks = [(worker, rank) for worker in plan.workers for rank in worker.ranks]
    return {
        "v": 1,
        "job": job,
        "nonce": nonce,
        "python": place.environment.python,
        "payload": place.environment.payload,
        "host": host.name,
        "generation": generation,
        "engine": plan.engine,
        "world": [
            {
                "slot": rank.slot,
                "rank": number,
                "host": worker.host,
                "address": worker.address,
                "gpu": rank.gpu,
            }
            for number, (worker, rank) in enumerate(ranks)
        ],
        "main_port": main_port,
        "lighthouses": [asdict(light) for light in plan.lighthouses(main_port)],
        "start_timeout_s": spec.start_timeout,
        "cpu_cores": plan.worker(host.name).cpu_cores,
        "ram_gb": plan.worker(host.name).ram_gb,
        "nice": host.nice,
        "env": host.env,
        "model": place.model,
        "model_name": spec.model,
        "dataset": place.dataset,
        "train": {key: asked[key] for key in _TRAIN_KEYS} | {"global_batch": plan.global_batch},
    }
