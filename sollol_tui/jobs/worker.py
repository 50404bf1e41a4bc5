"""One worker of a job, seen from the coordinator: prepares it, starts, follows and stops its agent.

Each call opens its own connection and may be repeated after any failure. What the job does next
is decided elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from sollol_tui.hosts.commands import clean_up, control, free_port, inspect, start_agent
from sollol_tui.hosts.facts import gather_facts
from sollol_tui.hosts.follow import follow
from sollol_tui.hosts.provision import Environment, Step, provision
from sollol_tui.hosts.ssh import HostConnection, connect
from sollol_tui.hosts.ssh_agent import WAITS, Renewal, asked, renew
from sollol_tui.hosts.steps import Site
from sollol_tui.jobs.delivery import delivery
from sollol_tui.jobs.home import Home
from sollol_tui.model.errors import AuthenticationError, HostError, UnreachableError
from sollol_tui.model.inventory import Host, Packages
from sollol_tui.model.plan import DatasetFacts, PlannedWorker

FACTS_TIMEOUT_S: Final = 20.0
RETRIES: Final = 3  # of a step that a lost connection cut short
T = TypeVar("T")
Ending = Literal["leave", "stop", "kill"]
RECONNECT_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
CLEANUP_LIMIT_S: Final = 60.0  # how long a host that cannot be reached is waited for at the end
LOST_PATIENCE_S: Final = 5.0  # the same for one that has nothing to save
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things lie on a worker: all absolute."""

    environment: Environment
    run_dir: str
    dataset: str
    model: str

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "Place":
        return cls(**data | {"environment": Environment(**data["environment"])})


@dataclass(slots=True, kw_only=True)
class Worker:
    """`say(text)` tells people what is happening on this host now."""

    job: str
    nonce: str
    host: Host
    planned: PlannedWorker
    home: Home
    say: Callable[[str], None]
    place: Place | None = None
    role: Literal["", ".teacher"] = ""
    """What tells its run directory from that of the host's students."""
    given_up: str = ""
    """Why it could not be checked when the run was to leave it; "" once it is launched again. It is
    asked no more, because what waits for it has waited already."""

    async def prepare(self, packages: Packages, dataset: DatasetFacts | None, model: str) -> Place:
        """Brings environment, payload, dataset and model to the host. What is there stays."""
        self.place = await self.over_ssh(partial(self._prepare, packages, dataset, model))
        return self.place

    async def choose_port(self, first: int, last: int) -> int | None:
        """A port of the range that can be bound on this worker's address; None: all are taken."""
        environment, address = self._place().environment, self.planned.address
        return await self.over_ssh(
            lambda connection: free_port(connection, environment, address, (first, last))
        )

    async def launch(self, run: dict[str, Any], secrets: dict[str, str]) -> None:
        """Starts the agent, or adopts the one that an earlier try has started."""
        place = self._place()
        await self.over_ssh(
            lambda connection: start_agent(
                connection, place.environment, place.run_dir, run, secrets
            )
        )
        self.given_up = ""

    async def over_ssh(self, act: Callable[[HostConnection], Awaitable[T]]) -> T:
        """Does something over a connection, again after the connection was lost, and once the
        user's ssh-agent is there again where it is the one that is missing."""
        pauses = iter(RECONNECT_S[:RETRIES])
        while True:
            ssh_agent = asked()
            try:
                async with connect(self.host, [self.home.known_hosts]) as connection:
                    return await act(connection)
            except AuthenticationError as error:
                if not await self._other_ssh_agent(ssh_agent, error, self.say):
                    raise
            except UnreachableError as error:
                if (pause_s := next(pauses, None)) is None:
                    raise
                self.say(f"{error.message}; trying again")
                await asyncio.sleep(pause_s)

    async def _other_ssh_agent(
        self, failed: str, error: AuthenticationError, say: Callable[[str], None]
    ) -> bool:
        """Returns True once there is another ssh-agent to try, however long that takes, and False
        at once when the one that `failed` is the only one. Nobody is asked to let us in meanwhile:
        hosts shut out who fails again and again."""
        was_away = False
        while (renewal := await renew(self.home.ssh_agent, failed)) is Renewal.AWAY:
            was_away = True
            say(f"{error.message}; {WAITS}")
            await asyncio.sleep(RECONNECT_S[1])
        return was_away or renewal is Renewal.NEW

    async def _prepare(
        self,
        packages: Packages,
        dataset: DatasetFacts | None,
        model: str,
        connection: HostConnection,
    ) -> Place:
        facts = await gather_facts(connection, timeout_s=FACTS_TIMEOUT_S)
        site = await Site.read(
            connection, facts, packages, accelerator=self.planned.accelerator, env=self.host.env
        )
        environment = await provision(site, report=self._report)
        delivered, workdir = delivery(self.home, self.job), facts.workdir
        data = ""
        if dataset is not None:
            data = await delivered.bring_dataset(connection, workdir, dataset, self.say)
        folder = await delivered.bring_model(connection, workdir, environment, model, self.say)
        run_dir = f"{facts.workdir}/runs/{self.job}/{self.host.name}{self.role}"
        return Place(environment=environment, run_dir=run_dir, dataset=data, model=folder)

    def _report(self, step: Step) -> None:
        self.say(f"{step.name}: {step.detail or step.state}")

    async def watch(
        self,
        on_data: Callable[[str, str, Path], None],
        on_seen: Callable[[str, str], None],
        on_over: Callable[[str], None],
        on_stopped: Callable[[str, int | None], None] = lambda host, pid: None,
    ) -> None:
        """Follows the run for ever, through lost connections. `on_seen(host, reason)` is called
        with "" when the worker is seen, with the reason when it is not; `on_over(host)` when its
        agent is gone and all that the run wrote there has been copied; `on_stopped(host, pid)` with
        the pid of an agent that a signal has stopped, None for one that works."""
        place, failures, copies = self._place(), 0, self.copies

        def seen(is_agent_alive: bool, stopped_pid: int | None) -> None:
            nonlocal failures
            failures = 0
            on_seen(self.host.name, "")
            on_stopped(self.host.name, stopped_pid)
            if not is_agent_alive:
                on_over(self.host.name)

        while True:
            ssh_agent = asked()
            try:
                async with connect(self.host, [self.home.known_hosts]) as connection:
                    await follow(
                        connection,
                        place.environment,
                        place.run_dir,
                        copies,
                        on_beat=seen,
                        on_data=lambda file, path: on_data(self.host.name, file, path),
                    )
            except AuthenticationError as error:
                await self._other_ssh_agent(ssh_agent, error, partial(on_seen, self.host.name))
                on_seen(self.host.name, error.message)
            except HostError as error:
                on_seen(self.host.name, error.message)
            await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
            failures += 1

    async def watch_until(
        self,
        over: asyncio.Event,
        on_data: Callable[[str, str, Path], None],
        on_seen: Callable[[str, str], None],
    ) -> None:
        """Follows the run until `over` is set, which the end of its agent does."""
        watching = asyncio.create_task(self.watch(on_data, on_seen, lambda host: over.set()))
        ending = asyncio.create_task(over.wait())
        try:
            await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for task in (watching, ending):
                task.cancel()
            await asyncio.gather(watching, ending, return_exceptions=True)

    async def stop(
        self,
        action: Ending,
        grace_s: float,
        hurry: asyncio.Event,
        patience_s: float = CLEANUP_LIMIT_S,
        is_needed: Callable[[], bool] = lambda: True,
    ) -> str:
        """Makes the run leave the host and verifies it. Returns "" when nothing of it is left, else
        a sentence on what could not be verified. `stop` and `leave` wait for a host that is out of
        reach, and turn into `kill` after `grace_s`, when `hurry` is set, or when it is not needed;
        `kill` gives such a host up after `patience_s`, or earlier where it is not needed."""
        if self.place is None or self.given_up:
            return self.given_up
        clock = asyncio.get_running_loop().time
        began = clock()
        hurried_at = began if action == "kill" else None
        while True:
            try:
                async with connect(self.host, [self.home.known_hosts]) as connection:
                    return await self._stop(connection, action, grace_s, hurry)
            except HostError as error:
                if not is_needed():
                    patience_s = LOST_PATIENCE_S
                is_late = hurry.is_set() or not is_needed() or clock() - began > grace_s
                if hurried_at is None and is_late:
                    action, hurried_at = "kill", clock()
                if hurried_at is not None and clock() - hurried_at > patience_s:
                    self.given_up = f"{self.host.name} could not be checked ({error.message})"
                    return self.given_up
                self.say(f"stopping: {error.message}; trying again")
                await asyncio.sleep(RECONNECT_S[0])

    async def _stop(
        self, connection: HostConnection, action: Ending, grace_s: float, hurry: asyncio.Event
    ) -> str:
        environment, run_dir = self._place().environment, self._place().run_dir
        loop = asyncio.get_running_loop()
        deadline, is_told = loop.time() + grace_s, False
        while True:
            left = await inspect(connection, environment, run_dir)
            if left.nonce not in ("", self.nonce):
                return ""  # another coordinator's job of the same id: not ours to touch
            if left.processes and not left.agent:
                left = await clean_up(connection, environment, run_dir)
            if left.is_clean:
                return ""
            if not is_told:  # only now: a run that never began has no folder for the word
                await control(connection, environment, run_dir, action)
                is_told = True
            if loop.time() > deadline or (hurry.is_set() and action != "kill"):
                if action == "kill":
                    names = ", ".join(f"{p.pid} ({p.role})" for p in left.processes)
                    return f"{self.host.name} still runs {names or 'its agent'}"
                self.say("killing it")
                action, deadline = "kill", loop.time() + CLEANUP_LIMIT_S
                await control(connection, environment, run_dir, action)
            await asyncio.sleep(_POLL_S)

    @property
    def run_dir(self) -> str:
        """The run directory there."""
        return self._place().run_dir

    @property
    def workdir(self) -> str:
        """The folder there under which everything lies."""
        return self.run_dir.partition(f"/runs/{self.job}/")[0]

    @property
    def copies(self) -> Path:
        """Where the coordinator keeps its copies of what the run writes there."""
        return self.home.copies(self.job, f"{self.host.name}{self.role}")

    def _place(self) -> Place:
        if self.place is None:
            raise HostError(self.host.name, "was never prepared")
        return self.place
