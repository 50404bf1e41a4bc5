"""Brings a model of the Hugging Face Hub into this worker's cache. Runs none of the model's code.

    python -m remote.pull revision ORG/NAME
    python -m remote.pull model ORG/NAME REVISION

Reads `{"secrets": {...}}` from stdin. Prints `{"v":1,"kind":"progress","done":..,"total":..}` while
it downloads and at the end `revision`, `model` (with `path`), `no_way` (the Hub cannot be reached,
and the cache does not hold it) or `refused` (the Hub says no), the last two with a `reason`.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

REACH_S = 5.0
PROGRESS_S = 1.0
# Weights in other formats than the one that is loaded would only cost disk and time.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def say(kind: str, **values: Any) -> None:
    print(json.dumps({"v": 1, "kind": kind, **values}), flush=True)


def main(argv: list[str]) -> None:
    what, name, revision = argv[0], argv[1], argv[2] if len(argv) > 2 else None
    os.environ.update(json.loads(sys.stdin.readline())["secrets"])  # before the library reads them
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    cached = cached_model(Path(constants.HF_HUB_CACHE), name, revision)
    if what == "model" and cached is not None:
        say("model", path=str(cached))
        return
    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set there")
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=REACH_S)
    except RepositoryNotFoundError:
        say("refused", reason="the Hub has no such model, or it needs an HF_TOKEN")
        return
    except HfHubHTTPError as error:
        say("refused", reason=f"the Hub answers: {str(error).splitlines()[0]}")
        return
    except Exception as error:  # whatever the network and the libraries below call it
        if what == "revision" and cached is not None:
            say("revision", revision=cached.name)
            return
        reason = str(error).strip().splitlines()
        say("no_way", reason=reason[0] if reason else type(error).__name__)
        return
    if what == "revision":
        say("revision", revision=info.sha)
        return
    download(name, revision, info)


def cached_model(cache: Path, name: str, revision: str | None) -> Path | None:
    """The folder of a revision, by default of the one that `main` was, when it is there whole."""
    folder = cache / ("models--" + name.replace("/", "--"))
    try:
        commit = revision or (folder / "refs" / "main").read_text().strip()
        snapshot = folder / "snapshots" / commit
        return snapshot if commit and is_whole(snapshot) else None
    except (OSError, ValueError):
        return None


def is_whole(snapshot: Path) -> bool:
    """Whether all is there that loading needs. A download that was cut short left some out."""
    shards = [
        shard
        for index in snapshot.glob("*.safetensors.index.json")
        for shard in json.loads(index.read_bytes())["weight_map"].values()
    ]
    return (
        (snapshot / "config.json").is_file()
        and any(snapshot.glob("*.safetensors"))
        and any(
            (snapshot / f).is_file() for f in ("tokenizer.json", "tokenizer.model", "vocab.json")
        )
        and all((snapshot / shard).is_file() for shard in shards)
    )


def download(name: str, revision: str | None, info: Any) -> None:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars, filter_repo_objects

    disable_progress_bars()
    wanted = set(
        filter_repo_objects([file.rfilename for file in info.siblings], allow_patterns=WANTED)
    )
    total = sum(file.size or 0 for file in info.siblings if file.rfilename in wanted)
    blobs = Path(constants.HF_HUB_CACHE) / ("models--" + name.replace("/", "--")) / "blobs"
    is_over = threading.Event()

    def report() -> None:
        while not is_over.wait(PROGRESS_S):
            sizes = [path.stat().st_size for path in blobs.glob("*") if path.exists()]
            say("progress", done=min(sum(sizes), total), total=total)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=WANTED)
    except HfHubHTTPError as error:
        say("refused", reason=f"the Hub answers: {str(error).splitlines()[0]}")
        return
    except Exception as error:  # as above: a full disk, a lost connection
        say("no_way", reason=f"the download failed: {str(error).splitlines()[0]}")
        return
    finally:
        is_over.set()
        reporter.join()
    if is_whole(Path(folder)):
        say("model", path=folder)
    else:
        say("refused", reason="it holds no safetensors weights with config.json and a tokenizer")


if __name__ == "__main__":
    main(sys.argv[1:])
