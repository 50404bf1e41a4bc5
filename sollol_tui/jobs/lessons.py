"""What a job's teacher can teach its student, found out before any host is asked: who is which, and
whether their tokens are the same. Compares files only; loads no model."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path as File
from typing import Final

from sollol_tui.hosts.hub import cached_snapshot
from sollol_tui.hosts.payload import payload_root
from sollol_tui.jobs.dataset import resolve_model
from sollol_tui.jobs.weights import read_weights
from sollol_tui.model.errors import InputError, concerning
from sollol_tui.model.spec import STUDENT, JobSpec, Mode
from sollol_tui.model.teacher import Lesson, Path
from sollol_tui.model.text import clean

HELD_OUT: Final = 0.05  # of the rows, where students are compared by them and nobody said how many
_REFUSED: Final = 3


def with_roles(spec: JobSpec, folder: File) -> JobSpec:
    """The spec in which `model` is who learns, and `teacher.model` whom it learns from, a whole
    path or a Hub id. Raises InputError and NotFoundError."""
    if not spec.mode.has_teacher:
        return spec
    if spec.mode is Mode.TEACHER_STUDENT and not spec.val_size:
        spec = replace(spec, val_size=HELD_OUT)
    if spec.teacher.model is None:
        teacher = replace(spec.teacher, model=spec.model)
        spec = replace(spec, model=spec.student or STUDENT, student=None, teacher=teacher)
    assert spec.teacher.model is not None
    with concerning("teacher.model"):
        model = resolve_model(spec.teacher.model, folder)
    return replace(spec, teacher=replace(spec.teacher, model=model))


async def lesson_of(asked: JobSpec, spec: JobSpec, student: str) -> Lesson | None:
    """The lesson of a job whose roles are known, `student` its resolved model; None without a
    teacher. `asked` is what a person wrote. Raises InputError."""
    if not spec.mode.has_teacher:
        return None
    model = spec.teacher.model
    assert model is not None
    weights = await asyncio.to_thread(read_weights, model)
    with concerning("teacher.model"):
        path, why = await _path(spec, model, student)
    roles = ""
    if asked.teacher.model is None:
        chosen = "student" if asked.student else "the default, which student: changes"
        roles = f"{_name(model)} (model) is the teacher, {_name(spec.model)} ({chosen}) learns"
    return Lesson(
        model=model,
        path=path,
        why=why,
        roles=roles,
        parameters=weights.parameters if weights else None,
        vocabulary=weights.vocabulary if weights else None,
    )


async def _path(spec: JobSpec, teacher: str, student: str) -> tuple[Path, str]:
    """How the student hears of the teacher, and why so."""
    if spec.teacher.text:
        return Path.ANSWERS, "teacher.text asks for that"
    folders = [await asyncio.to_thread(_folder, model) for model in (teacher, student)]
    missing = [_name(m) for m, f in zip((teacher, student), folders, strict=True) if f is None]
    if missing:
        return Path.SCORES, (
            f"whether their tokens are the same is found out on the teacher's host, because "
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not here yet"
        )
    return await _compare(*(folder for folder in folders if folder is not None))


def _folder(model: str) -> File | None:
    if File(model).is_absolute():
        return File(model)
    snapshot = cached_snapshot(model)
    return snapshot.folder if snapshot else None


async def _compare(teacher: File, student: File) -> tuple[Path, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "remote.distill.vocabulary", str(teacher), str(student)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(payload_root())},
    )
    out, err = await process.communicate()
    try:
        said = json.loads(out)
        sentence = clean(str(said["reason" if process.returncode == _REFUSED else "sentence"]))
    except (ValueError, KeyError, TypeError):
        last = (err.splitlines() or [b"it ended without a word"])[-1]
        raise InputError.single(str(teacher), f"cannot be compared: {clean(last)}") from None
    if process.returncode == _REFUSED:
        raise InputError.single(str(teacher), f"its tokens are not known: {sentence}")
    return (Path.SCORES if said["equal"] else Path.ANSWERS), sentence


def _name(model: str) -> str:
    return File(model).name if File(model).is_absolute() else model
