"""A rank of the loop that bench_gap.py has torchrun restart: adds up a buffer each step, keeps in a
file what it has, and writes down when it committed. Knows nothing of sollol."""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist


def main(folder: Path, step_s: float, floats: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    kept, told = folder / "step", folder / f"told.{os.getpid()}"
    step = int(kept.read_text()) if kept.exists() else 0
    buffer = torch.ones(floats)
    with told.open("a") as file:
        while True:
            time.sleep(step_s)
            dist.all_reduce(buffer)
            buffer.fill_(1.0)
            step += 1
            file.write(json.dumps({"step": step, "t": time.monotonic()}) + "\n")
            file.flush()
            if dist.get_rank() == 0:
                kept.with_suffix(".new").write_text(str(step))
                kept.with_suffix(".new").rename(kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
