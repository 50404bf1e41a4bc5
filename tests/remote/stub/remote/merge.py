"""A merge that lays no weights anywhere: it leaves a folder of the shape of a model.
`python -m remote.merge RUN_DIR SLOT ATTEMPT`."""

import hashlib
import json
import sys
from pathlib import Path

from remote.adapter_here import adapter_of

from remote.events import EventWriter
from remote.program import begin, carry_out
from remote.run import Rank, Run


def merge(run: Run, own: Rank, run_dir: Path, events: EventWriter) -> None:
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


if __name__ == "__main__":
    begin(sys.argv[1:])
    sys.exit(carry_out(sys.argv[1:], merge))
