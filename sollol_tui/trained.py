"""What is done with an adapter once it is trained, as SOLLOLClient has it: evaluated, merged, given
to other programs. Trains nothing."""

from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from sollol_tui.keeping import Keeping
from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.inventory import Inventory

if TYPE_CHECKING:  # loaded by what needs it: a reading command starts without SSH and pydantic
    from sollol_tui.model.evaluation import Evaluation
    from sollol_tui.model.export import Exported

Checkpoint = int | Literal["newest"]
P = ParamSpec("P")
T = TypeVar("T")


def _nothing(text: str) -> None:
    pass


def _no_part(part: str, done: int, total: int) -> None:
    pass


def _no_bytes(done: int, total: int) -> None:
    pass


def _blocking(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The same method for callers that block, with the same arguments and the same words."""

    @wraps(method)
    def wait(*args: P.args, **kwargs: P.kwargs) -> T:
        from sollol_tui.blocking import run

        return run(method(*args, **kwargs))

    return wait


class Trained(Keeping):
    """A part of SOLLOLClient, which opens and closes the state."""

    if TYPE_CHECKING:

        def inventory(self) -> Inventory: ...

    async def evaluation_of(
        self,
        adapter: str | Path,
        *,
        dataset: str | Path | None = None,
        checkpoint: Checkpoint | None = None,
        host: str | None = None,
        samples: int = 3,
        say: Callable[[str], None] = _nothing,
        progress: Callable[[str, int, int], None] = _no_part,
        report: Callable[[int, int], None] = _no_bytes,
    ) -> "Evaluation":
        """Measures a job's adapter, one of its checkpoints, or the adapter in a folder, on the rows
        that the job held out, or on those of `dataset`: losses of base and adapter, and `samples`
        answers of both. A worker does it, the first of the job's that is free, or `host`. `say`
        hears what happens, `progress` how many rows of "before", "after" and "answers" are done,
        `report` bytes of an adapter on its way here. Kept beside the job; see `evaluated`.
        Whoever interrupts it leaves nothing on the worker."""
        from sollol_tui.jobs.evaluating import Wanted, evaluate

        wanted = Wanted(
            adapter=str(adapter),
            dataset=None if dataset is None else str(dataset),
            checkpoint=checkpoint,
            host=host,
            samples=samples,
        )
        return await evaluate(
            self._store,
            self._inventory_if_any(),
            wanted,
            Path.cwd(),
            say=say,
            progress=progress,
            report=report,
        )

    evaluate = _blocking(evaluation_of)

    def evaluated(self, job_id: str) -> "tuple[Evaluation, ...]":
        """The evaluations of the job's adapter and checkpoints that are kept here, oldest first."""
        from sollol_tui.jobs.evaluations import read_kept

        with self._lock:
            return read_kept(self.home, self._store.find_job(job_id))

    async def export_of(
        self,
        job_id: str,
        *,
        checkpoint: Checkpoint | None = None,
        to: str | Path | None = None,
        merge: bool = False,
        host: str | None = None,
        ollama: str | None = None,
        base: str | None = None,
        say: Callable[[str], None] = _nothing,
        notice: Callable[[str], None] = _nothing,
        report: Callable[[int, int], None] = _no_bytes,
    ) -> "Exported":
        """Puts the adapter alone, or with `merge` one model with it merged in, into the folder `to`
        or beside the job's output_dir. `ollama` names a model that Ollama makes of it, where it is
        installed; the adapter is laid on `base` there, by default the base model's folder. Only a
        merge needs a worker: the first of the job's that is free, or `host`. `say` hears what
        happens, `notice` what one should know, `report` bytes on their way here. Whoever
        interrupts it leaves nothing on the worker."""
        from sollol_tui.jobs.exporting import export
        from sollol_tui.model.export import ExportWish

        wish = ExportWish(
            job=job_id,
            checkpoint=checkpoint,
            to=None if to is None else str(to),
            merge=merge,
            host=host,
            ollama=ollama,
            base=base,
        )
        return await export(
            self._store,
            self._inventory_if_any(),
            wish,
            Path.cwd(),
            say=say,
            notice=notice,
            report=report,
        )

    export = _blocking(export_of)

    def _inventory_if_any(self) -> Inventory | None:
        """None where there is none: a job brings its own."""
        try:
            return self.inventory()
        except NotFoundError:
            return None
