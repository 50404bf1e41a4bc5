"""A control group that holds one lab machine: its CPU quota and its freezer, on cgroup v1 and v2.

Refuses: memory and device limits; the lab needs none.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
DEADLINE_S = 10.0


def controllers_missing() -> str | None:
    """Says what this machine's control groups lack, or None when they will do."""
    if _unified():
        try:
            (MOUNT / "cgroup.subtree_control").write_text("+cpu")
        except OSError as error:
            return (
                f"the cpu controller cannot be handed to child groups in {MOUNT} ({error.strerror})"
            )
        return None
    absent = [name for name in ("cpu", "freezer") if not (MOUNT / name / "cgroup.procs").exists()]
    return f"no cgroup v1 hierarchy for {' and '.join(absent)} under {MOUNT}" if absent else None


def groups_of(prefix: str) -> list[str]:
    """Names of the groups, on any hierarchy, that start with `prefix`."""
    return sorted({path.name for root in _roots() for path in root.glob(f"{prefix}*")})


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroup:
    name: str

    def create(self) -> None:
        for folder in self._folders():
            folder.mkdir(exist_ok=True)

    def entered(self, argv: list[str]) -> list[str]:
        """The command line that runs `argv` inside this group."""
        joins = "; ".join(f"echo $$ >{folder}/cgroup.procs" for folder in self._folders())
        return ["sh", "-ec", f'{joins}; exec "$@"', "sh", *argv]

    def limit_cpu(self, percent: int) -> None:
        """100 is one core."""
        quota_us = percent * PERIOD_US // 100
        if _unified():
            (MOUNT / self.name / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            folder = MOUNT / "cpu" / self.name
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))

    def freeze(self) -> None:
        self._set_frozen(True)

    def thaw(self) -> None:
        self._set_frozen(False)

    def remove(self) -> None:
        """Removes the group with all that runs in it; what was just killed holds it a moment."""
        deadline = time.monotonic() + DEADLINE_S
        for folder in self._folders():
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    for pid in (folder / "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                    time.sleep(0.01)
                else:
                    break

    def _folders(self) -> list[Path]:
        return [root / self.name for root in _roots()]

    def _set_frozen(self, frozen: bool) -> None:
        if _unified():
            folder = MOUNT / self.name
            (folder / "cgroup.freeze").write_text("1" if frozen else "0")
            state, wanted = folder / "cgroup.events", f"frozen {int(frozen)}"
        else:
            state = MOUNT / "freezer" / self.name / "freezer.state"
            wanted = "FROZEN" if frozen else "THAWED"
            # A v1 group with a process in the middle of a fork settles only when told again.
            state.write_text(wanted)
        deadline = time.monotonic() + DEADLINE_S
        while wanted not in state.read_text():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{state} did not say {wanted!r} within {DEADLINE_S:g} s")
            if not _unified():
                with contextlib.suppress(OSError):
                    state.write_text(wanted)
            time.sleep(0.01)


def _unified() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def _roots() -> list[Path]:
    return [MOUNT] if _unified() else [MOUNT / "cpu", MOUNT / "freezer"]
