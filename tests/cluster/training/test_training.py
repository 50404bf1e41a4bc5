"""The main job with real ranks: torch, transformers, peft and accelerate on two OpenSSH hosts."""

import json
from pathlib import Path

import pytest

from sollol_tui.jobs.home import open_home
from tests.cluster.conftest import CHECKOUT, UV_CACHE_ON_HOSTS
from tests.cluster.coordinator import Coordinator, fill_cache
from tests.cluster.lab import Lab
from tests.cluster.training.environment import judge, needs_worker_python, tiny_model

WORDS = ("red", "green", "blue", "seven", "eight", "nine")


@needs_worker_python
@pytest.mark.timeout(600)
def test_two_hosts_train_one_adapter_in_one_world(lab: Lab, tmp_path: Path) -> None:
    fill_cache(CHECKOUT, tmp_path / "cache")
    coordinator = Coordinator(
        lab=lab,
        home=open_home(tmp_path / "home"),
        folder=tmp_path,
        cache_on_hosts=UV_CACHE_ON_HOSTS,
    )
    coordinator.knows_hosts()
    coordinator.lay_out({"HF_HUB_OFFLINE": "1"})
    tiny_model(tmp_path / "model")
    rows = [
        {"instruction": f"say {word}", "output": f"{word} {word} {word}"}
        for number in range(300)
        for word in [WORDS[number % len(WORDS)]]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    settings = {
        "max_length": 64, "batch_size": 8, "global_batch": 32, "lr": 5e-3, "lora.r": 8,
        "lora.modules_to_save": "[embed_tokens, lm_head]", "schedule": "constant",
    }  # fmt: skip
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = coordinator.train("--workers", "2", "--name", "tiny", *flags)
    said = coordinator.sollol(*command, timeout_s=400)

    [job] = coordinator.jobs()
    assert job.first_loss is not None
    assert job.loss is not None
    assert job.loss < 0.7 * job.first_loss, said
    assert (job.samples_done, job.step, job.world_size) == (300, 10, 2)
    client = coordinator.client()
    ready = client.events(job.id, "ready")
    finished = client.events(job.id, "finished")
    evaluation = client.evaluate(job.id, dataset=tmp_path / "rows.jsonl", host="w2", samples=1)
    merged = client.export(job.id, merge=True, host="w1", to=tmp_path / "merged").path
    client.close()
    assert {(e.host, e.data["rank"], e.data["world_size"]) for e in ready} == {
        ("w1", 0, 2),
        ("w2", 1, 2),
    }
    assert {e.data["torch"] for e in ready} == {f"{pinned_torch()}+cpu"}
    assert len({e.data["digest"] for e in finished}) == 1
    judged = judge(tmp_path / "model", job.output_dir, merged)
    assert judged["rank"] == 8
    assert judged["trained"] > 0
    assert (evaluation.host, evaluation.rows, len(evaluation.examples)) == ("w2", 300, 1)
    assert evaluation.loss_before == pytest.approx(job.first_loss, rel=0.1)
    assert evaluation.loss < 1.1 * job.loss
    assert judged["apart"] < 1e-5
    assert coordinator.copies_are_equal(job.id, *lab.hosts[:2])
    coordinator.assert_clean()


def pinned_torch() -> str:
    lines = (CHECKOUT / "remote" / "worker.lock").read_text().splitlines()
    pin = next(line for line in lines if line.startswith("torch=="))
    return pin.removeprefix("torch==").split()[0]
