"""Says whether this environment can train: imports what training needs, multiplies on every device.

Imports nothing of ours: `python -I - <selfcheck.py` runs it where no payload is. It prints one JSON
line.
"""

import json
import platform
import sys
import traceback
from typing import Any

VERSION = 1


def selfcheck() -> dict[str, Any]:
    import accelerate
    import peft
    import torch
    import transformers

    devices = []
    for device in _devices(torch):
        ones = torch.ones(64, 64, device=device)
        if float((ones @ ones).sum()) != 64.0**3:
            raise ArithmeticError(f"{device} multiplies wrongly")
        devices.append(_described(torch, device))
    return {
        "v": VERSION,
        "torch": torch.__version__,
        "accelerator": _accelerator(torch),
        "devices": devices,
        "python": platform.python_version(),
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "accelerate": accelerate.__version__,
    }


def _devices(torch: Any) -> list[Any]:
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [torch.device("cpu"), *gpus]


def _described(torch: Any, device: Any) -> dict[str, Any]:
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return {"device": "cpu", "name": capability, "memory_bytes": None, "bf16": False}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": str(device),
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
    }


def _accelerator(torch: Any) -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return "rocm" if torch.version.hip else "cuda"


def main() -> int:
    try:
        report = selfcheck()
    except Exception as error:  # a broken environment may raise anything while it is imported
        traceback.print_exc()
        print(json.dumps({"v": VERSION, "error": f"{type(error).__name__}: {error}"}))
        return 1
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
