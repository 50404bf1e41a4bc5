"""Brings the plan of what stands in a form, and the first rows of its dataset, to the pane beside
it: a moment after the last key, by the planner that `sollol train` asks. Starts nothing."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from textual.screen import Screen
from textual.worker import WorkType

from sollol_tui.model.errors import InputError, NoWorkersError, SollolError
from sollol_tui.model.form import job_fields, spec_of_form, value_of
from sollol_tui.ui.widgets.draft_pane import DraftPane

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient
    from sollol_tui.jobs.submit import Prepared

_QUIET_S: Final = 0.35  # without a key
Typed = Mapping[str, str]


class DraftFeed:
    """`mark` hears what is wrong by the key of the field, after each plan and each refusal."""

    def __init__(
        self,
        client: "SOLLOLClient",
        screen: Screen[Any],
        pane: DraftPane,
        mark: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._client, self._screen, self._pane, self._mark = client, screen, pane, mark
        self._survey = client.open_survey()
        self._rows_of: tuple[str, str] | None = None

    def plan(self, typed: Typed, resume: str | None = None) -> None:
        """Plans what was typed, begun at the newest checkpoint of the job `resume` where one is
        named; what is shown counts as old until then."""
        self._pane.grow_old("being made anew")
        work: WorkType[None] = partial(self._plan, typed, resume)
        self._screen.run_worker(work, group="plan", exclusive=True, exit_on_error=False)
        rows_of = typed.get("dataset", ""), typed.get("format", "")
        if rows_of != self._rows_of:
            self._rows_of = rows_of
            rows: WorkType[None] = partial(self._show_rows, *rows_of)
            self._screen.run_worker(rows, group="rows", exclusive=True, exit_on_error=False)

    def ask_anew(self, typed: Typed, resume: str | None = None) -> None:
        """Plans with nothing that was heard before."""
        self.close()
        self._survey = self._client.open_survey()
        self._rows_of = None
        self.plan(typed, resume)

    def close(self) -> None:
        self._survey.close()

    async def _plan(self, typed: Typed, resume: str | None) -> None:
        await asyncio.sleep(_QUIET_S)
        try:
            spec = await asyncio.to_thread(spec_of_form, typed)
            prepared = await self._client.prepare_job(spec, survey=self._survey, resume=resume)
        except Exception as error:  # whatever it is, the form stays and says it
            self.refuse(error, typed)
        else:
            self.show(prepared)

    def show(self, prepared: "Prepared") -> None:
        """Its plan, and what of it is odd, so that nobody hears that only when it is to start."""
        self._mark({})
        self._pane.show_plan(prepared.parts(), prepared.oddities)

    def refuse(self, error: Exception, typed: Typed) -> None:
        """Says why there is no plan, also of which fields that tells. What nobody has typed yet is
        nobody's mistake."""
        marks: dict[str, str] = {}
        told = [str(error) or type(error).__name__]
        if isinstance(error, SollolError) and error.key:
            marks = {error.key: told[0]}
        elif isinstance(error, InputError):
            keys = {field.key for field in job_fields()}
            marks = {p.file: p.message for p in error.problems if p.file in keys}
            awaited = [key for key in marks if key not in typed]
            if len(awaited) == len(error.problems):
                self._mark({})
                self._pane.await_fields(awaited)
                return
            marks = {key: why for key, why in marks.items() if key in typed}
            told = [
                f"{p.file}: {p.message}" if p.file in keys else str(p)
                for p in error.problems
                if p.file not in awaited
            ]
        self._mark(marks)
        self._pane.refuse(told, error.reasons if isinstance(error, NoWorkersError) else {})

    async def _show_rows(self, dataset: str, fmt: str) -> None:
        await asyncio.sleep(_QUIET_S)
        try:
            checked = await self._client.preview_dataset(dataset, value_of("format", fmt))
        except Exception:  # the plan is refused for the same reason, and says it
            self._pane.show_rows(())
        else:
            self._pane.show_rows(checked.examples)
