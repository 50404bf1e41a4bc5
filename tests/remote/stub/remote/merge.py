"""A merge that lays no weights anywhere: it leaves a folder of the shape of a model.
`python -m remote.merge RUN_DIR SLOT ATTEMPT`."""

import hashlib
import json
import sys
from pathlib import Path

from remote.adapter_here import adapter_of

from remote.events import EventWriter
from remote.launch import die_with_launcher
from remote.run import read_run


def main(arguments: list[str]) -> int:
    run_dir, slot, attempt = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    run = read_run(run_dir)
    events = EventWriter(
        run_dir / f"events.{slot}.{attempt}.jsonl",
        job=run.job,
        host=run.host,
        slot=slot,
        attempt=attempt,
        generation=run.generation,
    )
    events.emit("loading", what=run.base_name)
    files = {"model.safetensors": f"base and {adapter_of(run_dir)}".encode(), "config.json": b"{}"}
    result = run_dir / "result"
    result.mkdir()
    for name, data in files.items():
        (result / name).write_bytes(data)
    entries = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }
    (result / "manifest.json").write_text(json.dumps({"v": 1, "files": entries}))
    events.emit("finished", result=str(result), size_bytes=sum(map(len, files.values())))
    return 0


if __name__ == "__main__":
    die_with_launcher(Path(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
