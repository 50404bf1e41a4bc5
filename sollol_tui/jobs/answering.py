"""A teacher's answers, for students whose tokens are others: written once on its host, kept here as
a file that people may read and edit, and from then on the job's dataset. Trains nothing."""

import asyncio
import hashlib
import json
import logging
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path as File

from sollol_tui.hosts.shards import MOST_BYTES, SHA256, fetch_file
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.jobs.attended import Attended, job_secrets
from sollol_tui.jobs.dataset import check_dataset
from sollol_tui.jobs.events import note
from sollol_tui.jobs.home import Home
from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.runfile import distill
from sollol_tui.jobs.teacher_run import CRASHES, TeacherRun
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.jobs.worker import RECONNECT_S
from sollol_tui.model.errors import HostError, UnreachableError
from sollol_tui.model.events import Event
from sollol_tui.model.plan import Plan
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.teacher import Path

log = logging.getLogger("sollol.supervisor")


async def have_answers(case: Attended) -> None:
    """Where the students learn answers, these are the job's dataset when this returns. Raises
    RunFailedError when there will be none."""
    teacher = case.crew.plan.teacher
    if teacher is None or teacher.lesson.path is not Path.ANSWERS or teacher.answers:
        return
    await case.crew.identify_teacher()
    file = await _write(case)
    plan = case.crew.plan
    assert plan.teacher is not None
    dataset = await check_dataset(file, "auto")
    rows = dataset.rows
    teacher = replace(plan.teacher, answers=str(file))
    case.crew.follow_plan(
        replace(
            plan,
            teacher=teacher,
            dataset=dataset,
            rows=rows,
            max_steps=-(-rows * case.spec.epochs // plan.global_batch),
        )
    )
    case.store.note_plan(case.job, case.crew.plan)


def answers_file(home: Home, spec: JobSpec, plan: Plan) -> File:
    """Where the answers lie here: found by all that decides them."""
    assert plan.teacher is not None
    asked = distill(spec, plan.teacher)
    parts = [asked["teacher_hash"], asked["quantize"], asked["answers"], spec.format]
    parts += [plan.dataset.sha256 or plan.dataset.path]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return home.answers / f"{key}.jsonl"


async def _write(case: Attended) -> File:
    """Has the teacher write them, as often as it takes, unless it did so before; where they are."""
    if (file := _written(case)) is not None:
        return file
    [worker] = case.crew.teachers
    run = TeacherRun(
        store=case.store,
        worker=worker,
        plan=case.crew.plan,
        spec=case.spec,
        inventory=case.crew.inventory,
        secrets=job_secrets(),
        launching=case.launching,
        hear=lambda event: _hear(case, run, event),
    )
    crashes = 0
    for pause_s in chain(RECONNECT_S, repeat(RECONNECT_S[-1])):
        try:
            await run.prepare()
            await case.crew.identify_teacher(worker)
            run.plan = case.crew.plan
            if (file := _written(case)) is not None:
                return file
            await run.launch()
            await run.follow()
            assert run.finished is not None
            file = answers_file(case.home, case.spec, run.plan)
            await worker.over_ssh(partial(_fetch, run.finished, worker.workdir, file))
        except HostError as error:
            crashes += not isinstance(error, UnreachableError)
            if crashes == CRASHES:
                raise RunFailedError(Failure(host=error.host, reason=error.message)) from error
            case.stage(f"{error}; the teacher starts again")
            if run.over.is_set():
                run.give_up_launch()
            await asyncio.sleep(pause_s)
        else:
            run.note(state="done", tokens_per_s=None, eta_s=None)
            return file
    raise AssertionError("unreachable")


def _written(case: Attended) -> File | None:
    """The answers where they are here."""
    teacher = case.crew.plan.teacher
    if teacher is None or not teacher.content:
        return None
    file = answers_file(case.home, case.spec, case.crew.plan)
    if not file.exists():
        return None
    note(case.store, case.job, "notice", message=f"the teacher's answers are here: {file}")
    return file


async def _fetch(said: Event, workdir: str, file: File, connection: HostConnection) -> None:
    name, sha256 = f"{said.text('key')}.jsonl", said.text("sha256")
    size = said.count("size") or 0
    if not SHA256.fullmatch(sha256) or "/" in name or not 0 < size <= MOST_BYTES:
        raise HostError(connection.host.name, "says nonsense of its teacher's answers")
    file.parent.mkdir(mode=0o700, exist_ok=True)
    await fetch_file(connection, f"{workdir}/answers", name, size, sha256, file)


def _hear(case: Attended, run: TeacherRun, event: Event) -> None:
    match event.kind:
        case "answering":
            run.note(
                state="answering",
                total=event.count("prompts") or 0,
                hits=event.count("present") or 0,
            )
        case "progress":
            done, total = event.count("prompts_done") or 0, event.count("prompts_total") or 0
            run.note(
                done=done,
                total=total,
                tokens_per_s=event.number("tokens_per_s"),
                eta_s=event.number("eta_s"),
            )
            case.stage(f"the teacher has answered {done:,} of {total:,} questions")
        case "notice":
            run.tell(event)
        case "finished" if event.slot is not None:
            rows, left_out = event.count("rows") or 0, event.count("prompts") or 0
            told = f"the teacher's answers: {rows:,} rows of {left_out:,} questions"
            note(case.store, case.job, "notice", host=event.host, message=told)
