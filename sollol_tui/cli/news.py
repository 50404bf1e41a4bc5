"""What a follower of a job has not been told yet: notices, held-out losses, lost workers, and when
a bell is to ring. Prints nothing itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sollol_tui.model.happenings import WORTH_TELLING, occasion
from sollol_tui.model.text import clean

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.records import EventRecord

_MOST: Final = 100  # notices; the log has the rest


class News:
    """Of the held-out losses that were there before, only the last is news; of the notices, those
    of the launch that goes on."""

    def __init__(self, client: "SOLLOLClient", job: str) -> None:
        self._client = client
        self._job = job
        self._told = _of_launches_that_are_over(client.events(job, "notice", "ready", "stopped"))
        self._left = _MOST
        earlier = client.evaluations(job)[:-1]
        self._evaluated = earlier[-1].step if earlier else -1
        self._has_bell = client.job_spec(job).notify.bell
        self._heard = {each.key for each in client.timeline(job, WORTH_TELLING)}
        self.rings = False
        """Whether the last `read` brought what a bell rings for."""

    def read(self) -> list[str]:
        """Lines, in the order in which they were heard. What several ranks say is one of them."""
        lines = []
        for event in self._client.events(self._job, "notice"):
            text = _text(event)
            if text and text not in self._told and self._left:
                self._told.add(text)
                self._left -= 1
                lines.append(f"  {event.host}: {text}")
                if not self._left:
                    lines.append(f"  further notices: sollol logs {self._job}")
        for evaluation in self._client.evaluations(self._job):
            if evaluation.step > self._evaluated:
                self._evaluated = evaluation.step
                lines.append(evaluation.sentence)
        self.rings = False
        for happening in self._client.timeline(self._job, WORTH_TELLING):
            if happening.key in self._heard:
                continue
            self._heard.add(happening.key)
            self.rings = self.rings or (self._has_bell and occasion(happening) is not None)
            if happening.host:
                lines.append(f"  {happening.host} {happening.sentence}")
        return lines


def _of_launches_that_are_over(events: "Sequence[EventRecord]") -> set[str]:
    newest = max((event.generation for event in events), default=0)
    is_over = any(event.kind == "stopped" and event.generation == newest for event in events)
    return {
        _text(event)
        for event in events
        if event.kind == "notice" and (is_over or event.generation < newest)
    }


def _text(notice: "EventRecord") -> str:
    return clean(str(notice.data.get("message") or ""), limit=400)
