"""The agent of one run on one host: starts its ranks, says what happens to them, obeys the control
file, and leaves nothing behind. Holds the run's lock for life; never talks to the network."""

import contextlib
import os
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from remote import cores, processes, remains
from remote.attempts import events_file, log_file, next_attempt
from remote.control import Action, read_control, write_control
from remote.ending import (
    describe_exit,
    last_event,
    last_traceback,
    port_is_taken,
    rank_code,
    tail,
)
from remote.events import EventWriter
from remote.health import Health, Problem, Verdict
from remote.launch import Launch, prepare_launch, prepare_lighthouse
from remote.limits import Kills, Memory
from remote.monitor import INTERVAL_S, Monitor
from remote.run import Lighthouse, Rank, Run, RunError
from remote.shutdown import host_is_stopping

CONTROL_INTERVAL_S = 0.25
STOP_TIMEOUT_S = 120.0  # a step, a checkpoint and a slow disk fit in
TERMINATION_S = 8.0  # from a SIGTERM on; whoever sends one seldom waits for more than 10 s
CRASH_GRACE_S = 5.0  # the others may still be writing why they fail too
RESTART_AFTER_S = (1.0, 2.0, 4.0)  # a crashed rank of an elastic run, each time
OUT_OF_MEMORY_RESTARTS = 1  # the same settings need the same memory again
_PARTINGS = {Action.STOP: "stopped", Action.LEAVE: "left"}  # and how ranks end that obey
_WAKING = {signal.SIGCHLD, signal.SIGTERM}


class Daemon:
    """Looks after one run from start to `agent_finished`, on the main thread of its process."""

    def __init__(
        self, run_dir: Path, run: Run, *, attempt: int, secrets: Mapping[str, str]
    ) -> None:
        self._run_dir = run_dir
        self._run = run
        self._attempt = attempt
        self._secrets = secrets
        self._events = EventWriter.of_run(run, run_dir, None, attempt)
        self._running: dict[int, Launch] = {}  # by the pid of the rank's launcher
        self._lighthouses: dict[int, Lighthouse] = {}  # by pid
        self._restarts: dict[int, float] = {}  # when a crashed slot is started again
        self._crashes: Counter[int] = Counter()  # of each slot, and of each lighthouse by its port
        self._shortages: Counter[int] = Counter()  # of memory, of each slot
        self._endings: list[str] = []  # "finished", "stopped" or "left", as each rank itself said
        self._failure: str | None = None
        self._problem: Problem | None = None  # of the failure, where it is one of these
        self._verdicts: dict[int, Verdict] = {}  # on ranks that are being ended, by launcher
        self._kills: dict[int, Kills] = {}  # what the kernel had counted when a rank began
        self._action = Action.RUN
        self._give_up_at: float | None = None
        self._removing = False
        self._is_terminated = False
        self._host_stops = False
        self._seen: set[processes.Identity] = set()

    def work(self) -> None:
        """The whole life of the agent. Whatever goes wrong in it, no process is left."""
        # Before there is a second thread, which would take a SIGTERM that this one waits for.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
        processes.become_subreaper()
        self._events.emit("agent_started", pid=os.getpid(), boot_id=processes.boot_id())
        # Before anything is started, because what is started inherits it.
        self._memory = Memory(self._run_dir, self._run.host, self._run.ram_bytes)
        self._cores = cores.deal(self._run)
        self._health = Health(self._run_dir, self._run, self._events, self._memory)
        self._monitor = Monitor()
        for message in filter(None, [self._memory.sentence, self._cores.sentence]):
            self._events.emit("notice", message=message)
        try:
            for lighthouse in self._run.own_lighthouses:
                self._light(lighthouse)
            for rank in self._run.own_ranks:
                self._start(rank)
            self._supervise()
        except RunError as error:
            self._failure = str(error)
        except Exception as error:
            traceback.print_exc()
            self._failure = f"the agent failed: {type(error).__name__}: {error}"
        self._finish()

    def _start(self, rank: Rank) -> None:
        attempt = next_attempt(self._run_dir, str(rank.slot))
        launch = prepare_launch(
            self._run_dir,
            self._run,
            rank,
            attempt,
            self._secrets,
            os.getpid(),
            self._cores.of_slot.get(rank.slot),
        )
        kills = self._memory.kills()
        pid = self._spawn(launch.argv, launch.env, launch.log, f"rank.{rank.slot}", attempt)
        self._running[pid], self._kills[pid] = launch, kills
        self._events.emit("rank_started", of_slot=rank.slot, of_attempt=attempt, pid=pid)

    def _light(self, lighthouse: Lighthouse) -> None:
        argv, env = prepare_lighthouse(self._run_dir, self._run, lighthouse, os.getpid())
        log = log_file(self._run_dir, "agent", self._attempt)
        pid = self._spawn(argv, env, log, "lighthouse", self._attempt)
        self._lighthouses[pid] = lighthouse

    def _spawn(
        self, argv: list[str], env: Mapping[str, str], log: Path, role: str, attempt: int
    ) -> int:
        # The kernel closes everything else: Python's own descriptors are close-on-exec. Started
        # from this thread, because a rank dies with the thread that started it.
        pid = os.posix_spawn(
            argv[0],
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=[],
            setsigdef=[signal.SIGHUP, signal.SIGPIPE],
        )
        if identity := processes.identify(pid):
            self._seen.add(identity)
            remains.record(self._run_dir, identity, role, attempt=attempt)
        return pid

    def _supervise(self) -> None:
        """Returns when no rank runs any more, or when those that do have to be killed."""
        metrics_at = time.monotonic()
        while self._running or self._restarts:
            woken = signal.sigtimedwait(_WAKING, CONTROL_INTERVAL_S)
            if woken and woken.si_signo == signal.SIGTERM:
                self._save_and_leave()
            self._reap()
            if self._action is not Action.KILL:
                self._obey(read_control(self._run_dir))
            now = time.monotonic()
            if self._action is Action.KILL or (self._give_up_at and now >= self._give_up_at):
                return
            self._start_again(now)
            for verdict in self._health.look(self._running, now):
                self._end(verdict)
            if self._health.shortage and self._action is Action.RUN:
                write_control(self._run_dir, Action.STOP)  # the ranks of all hosts hear of it
            if now >= metrics_at:
                metrics_at = now + INTERVAL_S
                self._report_metrics()

    def _save_and_leave(self) -> None:
        """Takes a SIGTERM for what it mostly is: the host is wanted for something else, soon. What
        was learnt is kept, as far as a few seconds allow; a second one allows none."""
        if self._is_terminated or self._action is not Action.RUN:
            self._action = Action.KILL
            return
        self._is_terminated = True
        others_go_on = self._run.is_elastic and len(self._run.own_ranks) < len(self._run.world)
        action = Action.LEAVE if others_go_on else Action.STOP
        write_control(self._run_dir, action)
        self._obey(action)
        self._give_up_at = time.monotonic() + TERMINATION_S
        self._host_stops = host_is_stopping()

    def _obey(self, action: Action) -> None:
        if action in _PARTINGS and self._action is Action.RUN:
            # The ranks read the same file between steps and leave by themselves.
            self._give_up_at = time.monotonic() + STOP_TIMEOUT_S
        if action is Action.STOP and self._restarts:
            self._endings += ["stopped" for _ in self._restarts]
            self._restarts.clear()
        self._action = action

    def _start_again(self, now: float) -> None:
        for slot in [slot for slot, due in self._restarts.items() if due <= now]:
            del self._restarts[slot]
            self._start(self._run.rank_of_slot(slot))

    def _end(self, verdict: Verdict) -> None:
        """Kills one rank with all that it started."""
        self._verdicts[verdict.launcher] = verdict
        table = processes.process_table()
        for pid in (verdict.launcher, *processes.descendants([verdict.launcher], table)):
            if pid in table:
                processes.send_signal(table[pid].identity, signal.SIGKILL)

    def _report_metrics(self) -> None:
        table = processes.process_table()
        own = processes.descendants([os.getpid()], table)
        self._events.emit("host_metrics", **self._monitor.sample(own))
        # Recorded so that `clean` finds them should this agent be killed: a child that left its
        # session and cleared its environment can be told from a stranger's by nothing else.
        for identity in {table[pid].identity for pid in own} - self._seen:
            self._seen.add(identity)
            remains.record(self._run_dir, identity, "descendant")

    def _reap(self) -> None:
        """Collects every dead child: ranks, and orphans that became ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if launch := self._running.pop(pid, None):
                self._rank_exited(pid, launch, os.waitstatus_to_exitcode(status))
            elif lighthouse := self._lighthouses.pop(pid, None):
                self._lighthouse_ended(lighthouse, os.waitstatus_to_exitcode(status))

    def _rank_exited(self, pid: int, launch: Launch, code: int) -> None:
        slot = launch.rank.slot
        log = tail(launch.log)
        said = last_event(
            events_file(self._run_dir, str(slot), launch.attempt),
            *("finished", "stopped", "left", "failed"),
        )
        code = rank_code(code, log)
        verdict, kills = self._verdicts.pop(pid, None), self._kills.pop(pid)
        cause: str | None = None
        problem: Problem | None = None
        if self._removing:
            reason = "ended by the agent"
        elif verdict:
            reason, problem = verdict.reason, verdict.problem
        elif code != 0 and (lack := self._memory.blame(kills, was_killed=code == -signal.SIGKILL)):
            reason, problem = lack, Problem.OUT_OF_MEMORY
        elif said and said["kind"] == "failed":
            reason, cause = str(said.get("error")), said.get("traceback") or last_traceback(log)
        elif code == 0 and not said and self._action is Action.RUN:
            reason = "ended without an error and without having finished"
        else:
            cause = last_traceback(log) if code != 0 else None
            reason = describe_exit(code, cause)
        # Only rank 0 and its launcher listen there; what others meet is another port.
        if launch.rank.rank == 0 and port_is_taken(self._run.main_port, f"{reason}\n{cause}"):
            reason = f"main port {self._run.main_port} is in use: {reason}"
        self._events.emit(
            "rank_exited",
            of_slot=slot,
            of_attempt=launch.attempt,
            code=code,
            reason=reason,
            problem=problem,
            traceback=cause,
        )
        if self._removing or self._action is Action.KILL:
            return  # it ends because we ended it
        if said and said["kind"] != "failed":
            # Its files are complete by then, so a crash while its libraries unload does not matter.
            self._endings.append(said["kind"])
        elif code == 0 and self._action in _PARTINGS:
            self._endings.append(_PARTINGS[self._action])  # it was asked to before it had begun
        else:
            foreseen = problem is None and bool(said and said.get("foreseen"))
            self._rank_crashed(slot, reason, problem, foreseen=foreseen)

    def _rank_crashed(
        self, slot: int, reason: str, problem: Problem | None, *, foreseen: bool
    ) -> None:
        """What a crash means. A static world cannot go on without a rank, so the run ends here. Of
        an elastic one the others go on, and the rank is started again, unless it said by itself
        what is wrong: that would be so again."""
        crashes, most = self._crashes[slot], len(RESTART_AFTER_S)
        if problem is Problem.OUT_OF_MEMORY:
            self._shortages[slot] += 1
            most = crashes + (self._shortages[slot] <= OUT_OF_MEMORY_RESTARTS)
        if self._run.is_elastic and not foreseen and crashes < most and self._action is Action.RUN:
            self._crashes[slot] += 1
            pause_s = RESTART_AFTER_S[crashes]
            self._restarts[slot] = time.monotonic() + pause_s
            self._events.emit(
                "notice",
                message=f"slot {slot} is started again in {pause_s:g} s ({crashes + 1} of {most}): "
                f"{reason}",
            )
            return
        if self._failure is None:
            self._failure = f"slot {slot} on {self._run.host}: {reason}"
            self._problem = problem
            if not self._run.is_elastic:
                self._give_up_at = time.monotonic() + CRASH_GRACE_S

    def _lighthouse_ended(self, lighthouse: Lighthouse, code: int) -> None:
        """One that was killed is started again; one that left by itself has said why it cannot
        work here, and no rank of this host would find it."""
        if self._removing or self._action is Action.KILL:
            return
        port, reason = lighthouse.port, describe_exit(code, None)
        self._crashes[port] += 1
        if code < 0 and self._crashes[port] <= len(RESTART_AFTER_S):
            self._events.emit("notice", message=f"the lighthouse is started again: {reason}")
            self._light(lighthouse)
        elif code > 0:
            said = tail(log_file(self._run_dir, "agent", self._attempt)).strip().splitlines()
            reason = said[-1] if said else reason
            if port_is_taken(port, reason):
                reason = f"main port {port} is in use: {reason}"
            self._failure = self._failure or f"the lighthouse on {self._run.host}: {reason}"
            self._give_up_at = time.monotonic()

    def _finish(self) -> None:
        """Ends what is left of the run, makes sure, and says how it ended: its last event."""
        overdue = bool(self._running)
        self._removing = True
        leftovers = remains.remove(
            self._everything,
            term_grace_s=remains.TERM_GRACE_S if overdue else 0.0,
            reap=self._reap,
        )
        self._reap()
        gpus = [rank.gpu for rank in self._run.own_ranks if rank.gpu is not None]
        pids = {identity.pid for identity in self._seen}
        held = self._monitor.wait_for_gpus(gpus, pids) if gpus else []
        for holder in held or ():
            message = (
                f"GPU {holder['index']} of {self._run.host} still holds memory for process "
                f"{holder['pid']}, which is gone: its driver may need `nvidia-smi --gpu-reset`"
            )
            self._events.emit("notice", message=message)
        self._memory.release()
        shutil.rmtree(self._run_dir / remains.TEMPORARY, ignore_errors=True)
        outcome, reason = self._outcome(overdue)
        self._health.close()
        self._events.emit(
            "agent_finished",
            outcome=outcome,
            leftover_processes=len(leftovers),
            gpus_held=held,
            reason=reason,
            problem=self._parting_problem,
        )
        self._events.close()

    @property
    def _is_cut_short(self) -> bool:
        """Whether a SIGTERM ended the run before its end."""
        return self._is_terminated and set(self._endings) != {"finished"}

    @property
    def _parting_problem(self) -> Problem | None:
        if self._is_cut_short:
            return None if self._host_stops else Problem.WANTED_BACK
        return self._problem

    def _outcome(self, overdue: bool) -> tuple[str, str | None]:
        if self._is_cut_short and self._host_stops:
            return "killed", f"{self._run.host} shuts down or restarts"
        if self._is_cut_short:
            return "killed", f"somebody on {self._run.host} ended it with SIGTERM"
        if self._action is Action.KILL:
            return "killed", "asked to leave at once"
        if self._failure:
            return "failed", self._failure
        if overdue:
            return "killed", f"ranks still ran {STOP_TIMEOUT_S:.0f} s after `{self._action}`"
        if "left" in self._endings:
            return "left", "asked to leave"
        if "stopped" not in self._endings:
            return "done", None
        return "stopped", self._health.shortage or "asked to stop"

    def _everything(self) -> list[remains.Remnant]:
        """The run's living processes: what was recorded and what became ours as orphans."""
        found = {remnant.identity: remnant for remnant in remains.living(self._run_dir)}
        table = processes.process_table()
        for pid in processes.descendants([os.getpid()], table):
            identity = table[pid].identity
            found.setdefault(identity, remains.Remnant(identity=identity, role="descendant"))
        return list(found.values())


def detach(log: Path, *, keep: set[int]) -> None:
    """Leaves the session and the streams of whoever called: from here on only files are left, and
    the descriptors in `keep`. Ignores SIGHUP, which a closing login sends."""
    os.setsid()
    if os.fork():
        os._exit(0)  # a session leader could be given a terminal; its child never
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")  # keeps no file system busy
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # An SSH channel stays open as long as anyone holds an end of it.
    for descriptor in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed already
                os.close(descriptor)
