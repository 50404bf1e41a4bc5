"""What devices compute, as their makers say: the source of speeds that nobody has measured yet.

Refuses to guess a device that it does not know: that one has no speed.
"""

import re
from typing import Final

# Dense bf16 or fp16 products with fp32 sums, in TFLOPS (NVIDIA's and AMD's data sheets). The first
# that fits counts, so longer names stand before those that they begin with.
_TFLOPS: Final = (
    ("B200", 2250), ("B100", 1750), ("H200|H100|GH200", 989), ("H20", 148), ("GB10", 125),
    ("A100", 312), ("A800", 312), ("L40S", 362), ("L40", 181), ("L4", 121), ("A40", 150),
    ("A30", 165), ("A10G", 70), ("A10", 125), ("A16", 18), ("A2", 18), ("V100", 125), ("T4", 65),
    ("RTX PRO 6000", 500), ("RTX 6000 Ada", 364), ("RTX 5000 Ada", 261), ("RTX 4000 Ada", 107),
    ("RTX A6000", 155), ("RTX A5000", 111), ("RTX A4500", 95), ("RTX A4000", 77),
    ("RTX A2000", 32), ("5090", 210), ("5080", 113), ("5070 Ti", 88), ("5070", 62),
    ("5060 Ti", 47), ("5060", 38), ("4090", 165), ("4080", 97), ("4070 Ti", 80), ("4070", 58),
    ("4060 Ti", 44), ("4060", 30), ("3090 Ti", 80), ("3090", 71), ("3080 Ti", 68), ("3080", 60),
    ("3070 Ti", 43), ("3070", 41), ("3060 Ti", 32), ("3060", 25), ("3050", 18), ("TITAN RTX", 65),
    ("2080 Ti", 54), ("2080", 42), ("2070", 30), ("2060", 26), ("1080 Ti|TITAN Xp?", 11),
    ("1080|P100", 9), ("1070", 6), ("1060", 4),
    ("MI355", 2300), ("MI325|MI300", 1307), ("MI250", 362), ("MI210", 181), ("MI100", 184),
    ("9070 XT", 195), ("9070", 145), ("7900 XTX", 123), ("7900 XT", 103), ("7900 GRE", 92),
    ("7800", 75), ("7700", 70), ("7600", 43), ("6900|6950|6800", 40), ("W7900", 123),
)  # fmt: skip
_GPU_PART: Final = 0.35  # of the data sheet, that training an adapter gets
_CORE_FLOPS: Final = 12e9  # fp32, of a core that trains


def flops_of_gpu(name: str) -> float | None:
    """What training gets of a GPU per second, or None for one that is not known."""
    for pattern, tflops in _TFLOPS:
        if re.search(rf"(?<![0-9A-Za-z])({pattern})(?![0-9])", name):
            return tflops * 1e12 * _GPU_PART
    return None


def flops_of_cpu(cores: int) -> float:
    return cores * _CORE_FLOPS


def tokens_per_s(flops: float, parameters: int) -> float:
    """Of training an adapter: 4 operations per parameter and token, two on the way there and two
    back, because a frozen base needs no gradients of its own (Kaplan et al. 2020 count 6 with
    them)."""
    return flops / (4 * parameters)
