"""Tokenising 621,000 rows in a process that has loaded what a rank loads: rows per second, and the
most memory that it and its processes hold. Run: make bench"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
WORKER = ROOT / ".venv-worker" / "bin" / "python"
ROWS, FEW = 621_000, 20_000
PROCESSES = 2
RANK = """
import sys
from pathlib import Path
from time import perf_counter
import remote.start  # torch, transformers, peft: what a rank holds
from remote.base import load_tokenizer
from remote.data.tokenising import tokenise
dataset, model, folder, processes = sys.argv[1:]
tokenizer = load_tokenizer(model)
began = perf_counter()
data = tokenise(dataset, "auto", tokenizer, 512, folder=Path(folder), processes=int(processes))
print(len(data.training), len(data.training.tokens), perf_counter() - began)
"""
MODEL = """
import json, sys
from itertools import islice
from pathlib import Path
from remote import tiny
tiny.VOCABULARY = 32_000
rows = islice(Path(sys.argv[1]).open(), 20_000)
texts = (turn["content"] for row in rows for turn in json.loads(row)["messages"])
tokenizer = tiny.learn_tokenizer(texts)
tokenizer.save_pretrained(sys.argv[2])
"""

pytestmark = pytest.mark.timeout(3600)


def write_rows(path: Path, count: int) -> None:
    """Questions and answers of made-up words; one of a hundred answers is long."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(5000)]
    with path.open("w") as file:
        for number in range(count):
            length = 400 if number % 100 == 0 else chance.randint(3, 40)
            question = f"{number} {' '.join(chance.choices(words, k=chance.randint(4, 20)))}"
            answer = " ".join(chance.choices(words, k=length))
            turns = [("user", question), ("assistant", answer)]
            messages = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"messages": messages}) + "\n")


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [WORKER, "-P", "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
        stdout=subprocess.PIPE,
        text=True,
    )


def peak_bytes(process: subprocess.Popen[str]) -> int:
    """The most that a process and those below it held together, looked at ten times a second."""
    root, most = psutil.Process(process.pid), 0
    while process.poll() is None:
        held = 0
        for member in [root, *root.children(recursive=True)]:
            try:
                held += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        most = max(most, held)
        time.sleep(0.1)
    return most


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_rows(folder / "rows.jsonl", FEW)
    with python(MODEL, folder / "rows.jsonl", folder) as process:
        assert process.wait() == 0
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_processes_share_the_work(tmp_path: Path, model: Path) -> None:
    seconds = []
    for processes in (1, PROCESSES):
        arguments = (model / "rows.jsonl", model, tmp_path / f"by {processes}", processes)
        with python(RANK, *arguments) as process:
            done, _ = process.communicate()
        seconds.append(float(done.split()[-1]))
    print(
        f"\n{FEW:,} rows: {PROCESSES} processes are {seconds[0] / seconds[1]:.2f} x as fast as one"
    )


def test_memory_of_a_large_dataset(tmp_path: Path, model: Path) -> None:
    dataset = tmp_path / "rows.jsonl"
    write_rows(dataset, ROWS)
    arguments = (dataset, model, tmp_path / "tokens", PROCESSES)
    for what in ("made", "taken again"):
        with python(RANK, *arguments) as process:
            most = peak_bytes(process)
            assert process.stdout is not None
            rows, tokens, seconds = process.stdout.read().split()[-3:]
        size = dataset.stat().st_size >> 20
        print(
            f"\n{what}: {int(rows):,} rows, {int(tokens):,} tokens of {size} MiB in "
            f"{float(seconds):.1f} s, {int(rows) / float(seconds):,.0f} rows/s, at most "
            f"{most >> 20} MiB in memory, Python {sys.version_info[0]}.{sys.version_info[1]}"
        )
