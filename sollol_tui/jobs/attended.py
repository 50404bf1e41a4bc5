"""One job as its supervisor has it in hand: its crew, and how it is told. Decides nothing."""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Final

from sollol_tui.jobs.crew import Crew
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.jobs.worker import Worker
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.states import JobState

log = logging.getLogger("sollol.supervisor")
SAY_EVERY_S: Final = 0.2
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


def job_secrets() -> dict[str, str]:
    """What ranks get of this machine's environment, never written anywhere."""
    return {name: os.environ[name] for name in _SECRETS if name in os.environ}


class Attended:
    """`launching` is held while agents are started; `arrivals` are prepared hosts that take part
    from the next generation on."""

    def __init__(self, home: Home, store: Store, job: str) -> None:
        self.home, self.store, self.job = home, store, job
        self.launching = asyncio.Lock()
        self.arrivals: dict[str, Worker] = {}
        self._said_at = 0.0
        self.meet_crew()

    def meet_crew(self) -> None:
        """The crew as the state has it now."""
        record = self.store.job(self.job)
        self.spec = load(JobSpec, record.spec)
        self.output_dir = Path(record.output_dir)
        self.crew = Crew(self.store, record, self._say)

    @property
    def state(self) -> JobState:
        return self.store.job(self.job).state

    @property
    def is_launched(self) -> bool:
        return self.store.job(self.job).main_port is not None

    def move(self, state: JobState, reason: str = "") -> None:
        log.info("%s%s", state, f": {reason}" if reason else "")
        self.store.move_job(self.job, state, reason)

    def stage(self, text: str) -> None:
        log.info("%s", text)
        self.store.note_stage(self.job, text)

    def _say(self, host: str, text: str) -> None:
        """What happens on a host now; transfers say it often, the state takes some of it."""
        now = time.monotonic()
        if now - self._said_at > SAY_EVERY_S:
            self._said_at = now
            self.store.note_stage(self.job, f"{host}: {text}")
        log.debug("%s: %s", host, text)
