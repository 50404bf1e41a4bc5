"""Runs the payload's self-check in an environment on a host. Judges nothing and keeps nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.commands import last_answer
from sollol_tui.hosts.shell import assignments, quote
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.text import clean, clean_lines

SELFCHECK_S: Final = 300.0  # the first import of torch from a cold disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Selfcheck:
    """`answer` is what it said, python, torch, accelerator and devices; `complaint` is "" when all
    is well."""

    answer: Mapping[str, Any] = field(default_factory=dict)
    complaint: str = ""


async def run_selfcheck(connection: HostConnection, python: str) -> Selfcheck:
    """Imports what training needs with this Python of an environment, and multiplies on every
    device. The program travels along, so no payload need be there; what torch leaves behind while
    it is imported stays in the workdir."""
    exports = {
        "TORCHINDUCTOR_CACHE_DIR": f"{python.rpartition('/envs/')[0]}/torch-cache",
        **connection.host.env,
    }
    done = await connection.run(
        f"export {assignments(exports)}; {quote(python, '-I', '-')}",
        input=await asyncio.to_thread(_program),
        timeout_s=SELFCHECK_S,
        check=False,
    )
    answer = last_answer(done.stdout) or {}
    if done.exit_status == 0 and answer and "error" not in answer:
        return Selfcheck(answer=answer)
    lines = [line for line in clean_lines(done.stderr[-4000:], limit=400) if line.strip()]
    last = lines[-1] if lines else f"said nothing, exit status {done.exit_status}"
    return Selfcheck(answer=answer, complaint=clean(str(answer.get("error") or last), limit=400))


def _program() -> bytes:
    return (payloads.payload_root() / payloads.SELFCHECK).read_bytes()
