"""What a rank remembers of who shares the job, and of that what outlives its process. Asks nobody.

It is on disk before it is told to anybody: a process that starts again must not take an old plan
for the members, and itself for a majority of them.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from remote.engine.voice import Record
from remote.files import write_atomic
from remote.run import Run, RunError, read_run

FILE = "members.{slot}.json"


class Memory:
    def __init__(self, run: Run, run_dir: Path, slot: int) -> None:
        self._run_dir = run_dir
        self._slot = slot
        self.record = self._read(run.generation) or _planned(run)
        self.holds = False  # has the weights from a group of this generation
        self.dropped = False  # met a higher generation: its own weights no longer count
        self.attempt = 0  # the highest of a group that it knows of

    def keep(self, record: Record) -> None:
        old, self.record = self.record, record
        if replace(old, attempt=0) != replace(record, attempt=0):
            write_atomic(self._file, json.dumps(asdict(record)).encode())

    def confirm(self, record: Record) -> None:
        """A majority is seen to hold what we hold. That stays true if the step comes to nothing;
        and who was let go on the strength of it will not come back to bear it out."""
        own = self.record
        if self.holds and (record.attempt, record.members) == (own.attempt, own.members):
            self.keep(replace(own, before=record.before))

    def released(self) -> Record | None:
        """What a supervisor lets a minority go on as: a higher generation in run.json."""
        try:
            run = read_run(self._run_dir)
        except (OSError, RunError, ValueError):
            return None
        if run.generation <= self.record.generation:
            return None
        return replace(_planned(run), attempt=self.record.attempt)

    def follow(self, record: Record) -> None:
        """Goes over to a higher generation: with its weights when that counts on this slot, else
        without, because it has begun from something else."""
        if self._slot not in record.members:
            self.holds = False
            self.dropped = True
        self.keep(record)

    def _read(self, generation: int) -> Record | None:
        """What an earlier process of this slot left about this generation or a higher one."""
        try:
            said = json.loads(self._file.read_bytes())
            record = Record(
                generation=said["generation"],
                attempt=said["attempt"],
                members=tuple(said["members"]),
                before=tuple(said["before"]),
                group=tuple(said["group"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if record.generation >= generation else None

    @property
    def _file(self) -> Path:
        return self._run_dir / FILE.format(slot=self._slot)


def _planned(run: Run) -> Record:
    slots = tuple(sorted(rank.slot for rank in run.world))
    return Record(generation=run.generation, members=slots, before=slots)
