"""Tokens are made once, whole or not at all, by whoever comes first; a row's side is its own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from remote.data import tokenfile, tokenising
from remote.data.render import DataError, render_prompt
from remote.data.tokenising import tokenise
from remote.data.tokens import Dataset
from remote.start import workdir_of
from tests.remote.torch.fixtures import files_below

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60
LOOK_S = 0.05  # between two looks at how much memory is held
BUILD = """
import sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from remote.data import tokenising
tokenising.SMALL_BYTES = 1
tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[2])
dataset, folder = Path(sys.argv[1]), Path(sys.argv[3])
tokenising.tokenise(dataset, "auto", tokenizer, 64, folder=folder, processes=int(sys.argv[4]))
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}


def write(path: Path, count: int, start: int = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = ({"prompt": f"row {n}?", "completion": "x" * (n % 7 + 1)} for n in range(start, count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(dataset: Path, tokenizer: Any, folder: Path, **settings: Any) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    settings = {"max_length": 64, "declared": "auto", "folder": folder / "tokens"} | settings
    return tokenise(dataset, tokenizer=tokenizer, say=said.append, **settings), said


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_second_start_takes_the_tokens_of_the_first(tmp_path, tokenizer):
    dataset = write(tmp_path / "rows.jsonl", 50)
    first, _ = made(dataset, tokenizer, tmp_path)
    [folder] = [path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]
    os.utime(folder, (0, 0))
    again, said = made(dataset, tokenizer, tmp_path)
    assert said == ["the tokens of rows.jsonl are here from an earlier start"]
    assert again.training.digest == first.training.digest
    assert isinstance(again.training.tokens, np.memmap)
    assert folder.stat().st_mtime > 0, "nobody can tell that it is still in use"


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 32},
        {"declared": "prompt-completion"},
        {"template": "{% for m in messages %}{{ m.content }}{% endfor %}"},
        {"rows": 51},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_tokens_decides_where_they_are(tmp_path, tokenizer, change):
    dataset = write(tmp_path / "rows.jsonl", 50)
    made(dataset, tokenizer, tmp_path)
    if template := change.pop("template", None):
        tokenizer.chat_template = template
    write(dataset, change.pop("rows", 50))
    _, said = made(dataset, tokenizer, tmp_path, **change)
    assert said[-1].startswith("tokenised rows.jsonl")


@pytest.mark.parametrize("name", ["tokens.npy", "numbers.npy", "manifest.json"])
def test_a_damaged_token_file_is_made_anew(tmp_path, tokenizer, name):
    dataset = write(tmp_path / "rows.jsonl", 50)
    first, _ = made(dataset, tokenizer, tmp_path)
    [file] = (tmp_path / "tokens").glob(f"*/{name}")
    os.truncate(file, file.stat().st_size - 1)
    again, said = made(dataset, tokenizer, tmp_path)
    assert said[-1].startswith("tokenised")
    assert again.training.digest == first.training.digest


def test_several_processes_make_what_one_makes(tmp_path, tokenizer, monkeypatch):
    dataset = write(tmp_path / "rows.jsonl", 9000)
    one, _ = made(dataset, tokenizer, tmp_path / "one")
    monkeypatch.setattr(tokenising, "SMALL_BYTES", 1)
    monkeypatch.setattr(tokenising, "TOLD_EVERY_S", 0.01)
    several, said = made(dataset, tokenizer, tmp_path, processes=2)
    assert said[0].startswith("tokenised about ")
    assert said[-1].endswith("with 2 processes")
    assert several.training.digest == one.training.digest
    assert several.training.numbers.tolist() == list(range(1, 9001))


def test_the_first_bad_row_is_named_whoever_reads_it(tmp_path, tokenizer, monkeypatch):
    dataset = write(tmp_path / "rows.jsonl", 9000)
    lines = dataset.read_text().splitlines()
    lines[5000], lines[8999] = '{"prompt": "q"}', "{"
    dataset.write_text("\n".join(lines))
    monkeypatch.setattr(tokenising, "SMALL_BYTES", 1)
    with pytest.raises(DataError, match=r"rows\.jsonl, row 5001, completion: is missing"):
        made(dataset, tokenizer, tmp_path, processes=2)


@pytest.mark.parametrize(
    ("processes", "most_bytes", "then"),
    [
        (1, 100_000, "tokenised rows.jsonl"),
        (2, 100_000, "tokenised rows.jsonl"),
        (1, 550_000, "rows.jsonl: going on after 3 shards"),  # which were not merged
    ],
)
def test_a_disk_that_refuses_is_told_and_a_later_start_goes_on(
    tmp_path, tokenizer, monkeypatch, processes, most_bytes, then
):
    dataset = write(tmp_path / "rows.jsonl", 9000)
    monkeypatch.setattr(tokenising, "SMALL_BYTES", 1)
    with files_below(most_bytes), pytest.raises(DataError) as refused:
        made(dataset, tokenizer, tmp_path, processes=processes)
    assert "the tokens of rows.jsonl cannot be kept in " in str(refused.value)
    assert ": File too large (" in str(refused.value)
    assert not [*(tmp_path / "tokens").rglob(".0*"), *(tmp_path / "tokens").glob("*.part")]
    _, said = made(dataset, tokenizer, tmp_path)
    assert said[0].startswith(then)


def held_bytes(process: psutil.Process) -> int:
    """What a process holds, with its part of what it shares with others."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def test_a_rank_that_tokenises_on_many_cores_stays_below_600_mb(tmp_path, tokenizer):
    """Else each core holds another 100 MB of libraries and vocabulary."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    answers = (" ".join(map(str, range(n, n + 50))) for n in range(20_000))
    rows = ({"prompt": "count", "completion": answer} for answer in answers)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = [str(tmp_path / name) for name in ("rows.jsonl", "tokenizer", "tokens")]
    rank = psutil.Popen(
        [sys.executable, "-P", "-c", f"import remote.start\n{BUILD}", *arguments, "64"],
        env=ENVIRONMENT,
    )
    most = crew = 0
    while rank.poll() is None:
        family = rank.children(recursive=True)
        crew = max(crew, len(family))
        most = max(most, sum(map(held_bytes, [rank, *family])))
        time.sleep(LOOK_S)
    assert rank.returncode == 0
    assert crew == 4
    assert most < 600 << 20


def test_a_process_that_is_killed_is_told_as_want_of_memory(tmp_path, tokenizer, monkeypatch):
    dataset = write(tmp_path / "rows.jsonl", 60_000)
    monkeypatch.setattr(tokenising, "SMALL_BYTES", 1)
    said: list[Exception] = []

    def make() -> None:
        try:
            made(dataset, tokenizer, tmp_path, processes=2)
        except DataError as error:
            said.append(error)

    maker = threading.Thread(target=make)
    maker.start()
    forks: list[psutil.Process] = []

    def forked() -> bool:
        forks[:] = [
            child
            for child in psutil.Process().children(recursive=True)
            if child.parent() != psutil.Process() and "remote.data.encode" in child.cmdline()
        ]
        return len(forks) == 1  # the other part is that of who forked

    wait_for(forked)
    forks[0].kill()
    maker.join(3 * DEADLINE_S)  # what is left encodes its own half first
    assert "was killed, for want of memory most likely" in str(said[0])
    wait_for(lambda: not processes_with(str(tmp_path / "tokens")))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_start_is_gone_on_with_and_leaves_nobody_behind(
    tmp_path, tokenizer, monkeypatch, processes
):
    dataset = write(tmp_path / "rows.jsonl", 9000)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    arguments = [str(dataset), str(tmp_path / "tokenizer"), str(tmp_path / "tokens")]
    builder = subprocess.Popen(
        [sys.executable, "-P", "-c", BUILD, *arguments, str(processes)],
        env=ENVIRONMENT,
    )

    def finished() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in (tmp_path / "tokens").rglob("0*.npz")}

    wait_for(finished)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    wait_for(lambda: not processes_with(str(tmp_path / "tokens")))
    kept = finished()
    [work] = (tmp_path / "tokens").glob("*.work")
    merged: dict[str, int] = {}

    def merge(shards: list[Path], *rest: Any) -> Any:
        merged.update({path.name: path.stat().st_ino for path in shards})
        return tokenfile.merge(shards, *rest)

    monkeypatch.setattr(tokenising, "merge", merge)
    whole, said = made(dataset, tokenizer, tmp_path)
    assert f"going on after {len(kept)} shards" in said[0]
    assert kept.items() <= merged.items(), "finished shards are made again"
    assert not work.exists()
    undisturbed, _ = made(dataset, tokenizer, tmp_path / "other")
    assert whole.training.digest == undisturbed.training.digest


def processes_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


def test_who_comes_second_waits_says_so_and_makes_nothing(tmp_path, tokenizer):
    dataset = write(tmp_path / "rows.jsonl", 50)
    made(dataset, tokenizer, tmp_path)
    [lock] = (tmp_path / "tokens").glob("*.lock")
    said: list[str] = []
    second = threading.Thread(
        target=tokenise,
        args=(dataset, "auto", tokenizer, 64),
        kwargs={"folder": tmp_path / "tokens", "say": said.append},
    )
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second.start()
        wait_for(lambda: said)
        assert "waiting for it" in said[0]
        assert second.is_alive()
    second.join(DEADLINE_S)
    assert said[1:] == ["the tokens of rows.jsonl are here from an earlier start"]


def prompts(rows: Any, tokenizer: Any) -> set[str]:
    spans = zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    return {tokenizer.decode(rows.tokens[begin:end]) for begin, end in spans}


def test_a_row_is_on_the_same_side_whatever_stands_around_it(tmp_path, tokenizer):
    data, _ = made(write(tmp_path / "rows.jsonl", 2000), tokenizer, tmp_path, val_size=0.1)
    assert len(data.training) + len(data.validation) == 2000
    assert 150 < len(data.validation) < 250
    held_out, learnt = prompts(data.validation, tokenizer), prompts(data.training, tokenizer)
    assert not held_out & learnt
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "other.jsonl").write_text("\n".join(reversed(lines[500:] + lines[1000:])))
    other, _ = made(tmp_path / "other.jsonl", tokenizer, tmp_path, val_size=0.1)
    assert prompts(other.validation, tokenizer) <= held_out
    assert prompts(other.training, tokenizer) <= learnt


def test_both_sides_are_the_rows_of_the_one_token_file(tmp_path, tokenizer):
    dataset = write(tmp_path / "rows.jsonl", 300)
    whole, _ = made(dataset, tokenizer, tmp_path)
    data, said = made(dataset, tokenizer, tmp_path, val_size=0.3)
    assert "are here from an earlier start" in said[0], "nothing is tokenised again"
    found = {}
    for side in (data.training, data.validation):
        assert side.numbers.tolist() == sorted(side.numbers.tolist())
        for row, number in enumerate(side.numbers.tolist()):
            span = slice(side.offsets[row], side.offsets[row + 1])
            assert side.lengths[row] == span.stop - span.start
            assert side.label_counts[row] == side.labelled[span].sum()
            found[number] = side.tokens[span].tolist()
    in_order = [token for number in sorted(found) for token in found[number]]
    assert in_order == whole.training.tokens.tolist()
    assert len({data.training.digest, data.validation.digest, whole.training.digest}) == 3
    with pytest.raises(DataError, match="leaves no row to train on"):
        made(dataset, tokenizer, tmp_path, val_size=0.9999999999)


def test_rows_of_several_files_are_told_by_file_and_number(tmp_path, tokenizer):
    write(tmp_path / "parts" / "b.jsonl", 5, start=3)
    write(tmp_path / "parts" / "a.jsonl", 3)
    data, _ = made(tmp_path / "parts", tokenizer, tmp_path)
    rows = data.training
    assert [rows.place(row) for row in range(len(rows))] == [
        *("a.jsonl row 1", "a.jsonl row 2", "a.jsonl row 3", "b.jsonl row 1", "b.jsonl row 2")
    ]
    (tmp_path / "parts" / "b.jsonl").write_text('{"prompt": "q", "completion": "a"}\n{"prompt": 1}')
    with pytest.raises(DataError, match=r"parts \(2 files\), b\.jsonl, row 2, completion: is miss"):
        made(tmp_path / "parts", tokenizer, tmp_path)


def test_parquet_and_jsonl_of_the_same_rows_are_the_same_tokens(tmp_path, tokenizer):
    import pyarrow
    import pyarrow.parquet

    tokenizer.chat_template = None  # plain headings show calls with all of their arguments
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "añ"}]},
        *(
            {"messages": [{"role": "assistant", "content": "b", "tool_calls": [
                {"function": {"name": "f", "arguments": {argument: 1}}}]}]}
            for argument in ("x", "y")
        ),
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    ours, theirs = (
        made(tmp_path / name, tokenizer, tmp_path)[0].training.digest
        for name in ("rows.jsonl", "rows.parquet")
    )
    assert ours == theirs
    texts = pyarrow.map_(pyarrow.string(), pyarrow.string())
    said = [[[("role", "user"), ("content", "q")], [("role", "assistant"), ("content", "añ")]]]
    maps = pyarrow.table({"messages": pyarrow.array(said, type=pyarrow.list_(texts))})
    pyarrow.parquet.write_table(maps, tmp_path / "maps.parquet")
    rows_of_maps, _ = made(tmp_path / "maps.parquet", tokenizer, tmp_path)
    (tmp_path / "first.jsonl").write_text(json.dumps(rows[0]))
    first, _ = made(tmp_path / "first.jsonl", tokenizer, tmp_path)
    assert rows_of_maps.training.digest == first.training.digest
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"bad\.parquet, the file: cannot be read"):
        made(tmp_path / "bad.parquet", tokenizer, tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache as its library leaves it, and no network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "datasets--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee" * 6 + "c0ff")
    files = repository / "snapshots" / ("c0ffee" * 6 + "c0ff")
    files.mkdir(parents=True)
    write(files / "train-00000-of-00002.jsonl", 4)
    write(files / "train-00001-of-00002.jsonl", 7, start=4)
    write(files / "test.jsonl", 3)
    (files / "README.md").write_text("words")
    return files


def test_a_dataset_on_the_hub_is_the_files_of_its_split(tmp_path, tokenizer, hub):
    data, said = made("hub:org/name", tokenizer, tmp_path)
    assert "fetching the dataset org/name from the hub" in said[0]
    assert len(data.training) == 7
    assert data.training.place(6) == "train-00001-of-00002.jsonl row 3"
    assert len(made("hub:org/name@main:test", tokenizer, tmp_path)[0].training) == 3
    with pytest.raises(DataError, match="hub:org/name:dev: the repository has no split 'dev'"):
        made("hub:org/name:dev", tokenizer, tmp_path)
    with pytest.raises(DataError, match="hub:org/none: cannot be fetched from the hub"):
        made("hub:org/none", tokenizer, tmp_path)


def test_a_template_that_tells_the_date_tells_the_same_every_day(tokenizer):
    tokenizer.chat_template = (
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    assert render_prompt("q", tokenizer) == "26 Jul 2024q"


def test_tokens_lie_in_the_workdir_or_beside_a_run_that_has_none(tmp_path):
    assert workdir_of(tmp_path / "runs" / "j-1" / "w1") == tmp_path
    assert workdir_of(tmp_path / "by hand") == tmp_path / "by hand"
