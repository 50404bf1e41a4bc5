"""What about a plan is worth a question before it starts. Pure; asks nobody, forbids nothing.

What is a person's own wish is not odd: a number of workers is met by any of them, and a job that
waits in the queue does what a queue is for."""

from collections.abc import Iterator
from typing import Final

from sollol_tui.model.plan import BYTES_PER_TOKEN, Plan
from sollol_tui.model.prediction import Prediction
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.units import GIB, format_bytes
from sollol_tui.model.weights import Memory

TIGHT: Final = 0.9  # of a memory or a disk: what is estimated may be that far off
_NAMED: Final = 3  # hosts that are told one by one


def oddities(plan: Plan, spec: JobSpec) -> Iterator[str]:
    """A short sentence for each: who was meant to take part and does not, who is in the way, what
    hardly suffices, what most rows lose, and a run of a single step."""
    if not _is_met(plan, spec):
        yield from _missing(plan)
    if plan.prediction is not None:
        yield from _in_the_way(plan.prediction)
    if plan.memory is not None:
        yield from _tight(plan.memory)
    tokens = plan.dataset.mean_chars / BYTES_PER_TOKEN
    if tokens > spec.max_length:
        yield (
            f"rows are mostly cut: ~{tokens:,.0f} tokens each on average, and max_length keeps "
            f"{spec.max_length:,}"
        )
    if 0 < (samples := plan.rows * spec.epochs) < plan.global_batch:
        yield (
            f"a single step is all of it: fewer samples ({samples}) than the global batch "
            f"({plan.global_batch})"
        )


def _is_met(plan: Plan, spec: JobSpec) -> bool:
    """Whether as many workers as were asked for take part, whichever they are."""
    return spec.workers.isdecimal() and len(plan.workers) >= int(spec.workers)


def _missing(plan: Plan) -> Iterator[str]:
    missing = list(plan.left_out.items())
    for host, reason in missing[:_NAMED]:
        yield f"{host} does not take part: {reason}"
    if (more := len(missing) - _NAMED) > 0:
        yield f"and {more} more {'does' if more == 1 else 'do'} not"


def _in_the_way(prediction: Prediction) -> Iterator[str]:
    if slow := prediction.in_the_way:
        makes = "makes" if len(slow) == 1 else "make"
        pattern = ",".join(f"!{host}" for host in slow)
        yield f"{', '.join(slow)} {makes} the job slower than without (--workers '{pattern}')"


def _tight(memory: Memory) -> Iterator[str]:
    if memory.peak_bytes > TIGHT * memory.of_bytes:
        verdict = "is tight" if memory.peak_bytes <= memory.of_bytes else "may not suffice"
        yield (
            f"memory {verdict} on {memory.host}: ~{memory.peak_bytes / GIB:.1f} of "
            f"{memory.of_bytes / GIB:.1f} GiB"
        )
    if memory.disk_bytes > TIGHT * memory.disk_free_bytes:
        yield (
            f"checkpoints nearly fill a disk: ~{format_bytes(memory.disk_bytes)} of "
            f"{format_bytes(memory.disk_free_bytes)} free"
        )
