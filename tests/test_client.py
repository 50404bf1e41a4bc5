"""Both clients over real state: from scripts, threads, a notebook's running loop and a program's
own loop. No host is needed here; whole jobs are tests/jobs."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

import sollol_tui.client
from sollol_tui import AsyncSOLLOLClient, SOLLOLClient
from sollol_tui.jobs.events import add_events
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import JobError, NotFoundError, WaitError
from sollol_tui.model.events import decode
from sollol_tui.model.states import JobState
from tests.jobs.samples import add_job, copy_lines, line

DEADLINE_S = 90.0
# What only the screens and commands use, or what is a property and asks nobody.
NOT_AWAITED = {"inventory_file", "inventory_problem", "open_logs", "open_metrics",
               "state_version", "events_after"}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The state that the clients of a test share; its jobs need no supervisor."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sollol_tui.client, "revive", lambda store: [])
    host = f"{{connection: local, workdir: {tmp_path}/work}}"
    (tmp_path / "inventory.yaml").write_text(f"hosts: {{one: {host}}}\n")
    with SOLLOLClient() as client, Store(client.home) as opened:
        yield opened


def running(store: Store, name: str = "tiny") -> str:
    job = add_job(store, f"{name} cpu", name=name)
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
        store.move_job(job, state)
    return job


def note_steps(store: Store, job: str, *steps: int) -> None:
    copy_lines(store, job, *(line("step", 0, step=step, loss=1 / step) for step in steps))


def note_checkpoints(store: Store, job: str, *steps: int, at: int = 0) -> None:
    said = [line("checkpoint", 0, step=step) for step in steps]
    heard = [(at + n, event) for n, event in enumerate(map(decode, said)) if event is not None]
    add_events(store, job, "w1", "events.0.1.jsonl", heard, at + len(heard))


def write_log(store: Store, job: str, text: str) -> None:
    copies = store.home.copies(job, "w1")
    copies.mkdir(parents=True, exist_ok=True)
    with (copies / "log.0.1").open("a") as log:
        log.write(text)


def later(act: Callable[[], object], after: Callable[[], bool]) -> threading.Thread:
    """Acts in a thread once something holds."""

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not after() and time.monotonic() < deadline:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_everything_a_client_shows_answers_by_key_too(store: Store) -> None:
    job = running(store)
    note_steps(store, job, 1)
    note_checkpoints(store, job, 1)
    write_log(store, job, "hello\n")
    with SOLLOLClient() as client:
        (view,) = client.list_jobs()
        (event,), (point,), (said,) = client.events(job), client.metrics(job), client.logs(job)
        snapshot = client.snapshot()
    assert (view["id"], view["state"], view["workers"][0]["host"]) == (job, "running", "w1")
    assert (snapshot["hosts"][0]["name"], snapshot["coordinator"]["takes_part"]) == ("one", False)
    assert (event["kind"], point["loss"], said["text"]) == (("checkpoint", 1.0, "hello"))
    for wrong in ("nothing", "__class__", 0):
        with pytest.raises(KeyError):
            view[wrong]  # type: ignore[index]


def test_each_of_the_public_methods_can_be_awaited() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    hosts_only = {name for name in public(SOLLOLClient) if name.endswith(("_host", "_hosts"))}
    assert public(SOLLOLClient) - NOT_AWAITED - hosts_only <= public(AsyncSOLLOLClient)
    for name in public(AsyncSOLLOLClient) - {"close"}:
        method = getattr(AsyncSOLLOLClient, name)
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name
        given, own = (
            inspect.signature(getattr(c, name)) for c in (SOLLOLClient, AsyncSOLLOLClient)
        )
        assert list(given.parameters) == list(own.parameters), name


async def test_a_notebook_may_block_though_its_loop_runs(store: Store) -> None:
    job = running(store)
    write_log(store, job, "one\ntwo\n")
    note_steps(store, job, 1, 2)
    with SOLLOLClient() as client:
        assert [host["state"] for host in client.list_nodes()] == ["up"]
        assert client.wait(job, "running")["id"] == job
        assert [line["text"] for line in client.logs(job)] == ["one", "two"]
        assert [point["step"] for point in client.metrics(job)] == [1, 2]
        store.move_job(job, JobState.FAILED, "over")
        with pytest.raises(JobError, match="is failed: over"):
            client.wait(job)


def test_many_threads_share_a_client(store: Store) -> None:
    jobs = [running(store, f"job-{number}") for number in range(4)]
    with SOLLOLClient() as client, ThreadPoolExecutor(8) as pool:

        def steer(number: int) -> str:
            job = jobs[number % len(jobs)]
            client.pause_job(job)
            assert client.is_pausing(job)
            assert len(client.list_jobs()) == len(jobs)
            return client.wait(job, "running")["id"]

        assert list(pool.map(steer, range(32))) == jobs * 8
    assert [store.open_requests(job) for job in jobs] == [["pause"]] * len(jobs)


def test_logs_are_followed_until_the_job_has_ended(store: Store) -> None:
    job = running(store)
    write_log(store, job, "first\n")
    seen: list[str] = []

    def end() -> None:
        with Store(store.home) as own:
            write_log(own, job, "last\n")
            own.move_job(job, JobState.FAILED, "over")

    with SOLLOLClient() as client:
        thread = later(end, after=lambda: seen == ["first"])
        seen.extend(said.text for said in client.logs(job, follow=True))
        thread.join()
    assert seen == ["first", "last"]


def test_who_stops_reading_leaves_no_thread_behind(store: Store) -> None:
    job = running(store)
    write_log(store, job, "first\nsecond\n")
    before = threading.active_count()
    with SOLLOLClient() as client:
        lines = client.logs(job, follow=True)
        assert next(lines).text == "first"
        assert threading.active_count() > before
        lines.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_waiting_ends_in_time_and_says_what_goes_on(store: Store) -> None:
    job = running(store)
    with SOLLOLClient() as client:
        with pytest.raises(WaitError, match=f"{job} is running and not done after 0.3 s"):
            client.wait(job, timeout_s=0.3)
        with pytest.raises(NotFoundError):
            client.wait("j-none")


def test_a_pausing_job_is_waited_for_before_it_goes_on(store: Store) -> None:
    job = running(store)
    with SOLLOLClient() as client:
        client.pause_job(job)

        def pause() -> None:
            with Store(store.home) as own:
                own.move_job(job, JobState.PAUSING)
                own.move_job(job, JobState.PAUSED, "at step 3")

        pausing = later(pause, after=lambda: True)
        client.resume_job(job)
        pausing.join()
        assert client.get_job_status(job).state is JobState.QUEUED


async def test_a_program_with_a_loop_of_its_own_awaits_all_of_it(store: Store) -> None:
    job = running(store)
    write_log(store, job, "one\n")
    note_steps(store, job, 1)
    note_checkpoints(store, job, 1)
    async with AsyncSOLLOLClient() as client:
        assert [host["state"] for host in await client.list_nodes()] == ["up"]
        assert (await client.get_job_status(job))["name"] == "tiny"
        assert [line["text"] async for line in client.logs(job)] == ["one"]
        assert [point["step"] async for point in client.metrics(job)] == [1]
        with pytest.raises(NotFoundError):
            await client.get_job_status("j-none")
        followed = []
        async with aclosing(client.follow_events(job)) as events:
            async for event in events:
                followed.append((event["kind"], event["data"].get("step")))
                if len(followed) == 1:
                    note_checkpoints(store, job, 2, at=1)
                else:
                    store.move_job(job, JobState.FAILED, "over")
        assert followed[:2] == [("checkpoint", 1), ("checkpoint", 2)]


async def test_a_wait_that_is_cancelled_ends_at_once(store: Store) -> None:
    job = running(store)
    async with AsyncSOLLOLClient() as client:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.wait(job), 0.2)
        assert time.monotonic() - began < DEADLINE_S / 3


def test_a_step_done_again_counts_once_with_its_last_word(store: Store) -> None:
    from sollol_tui.model.metrics import curve

    job = running(store)
    note_steps(store, job, 1, 2, 3)
    redone = line("step", 0, step=3, loss=0.25, generation=2)
    copy_lines(store, job, redone, file="events.0.2.jsonl")
    with SOLLOLClient() as client:
        points = curve(client.metrics(job))
    assert [(point.step, point.loss) for point in points] == [(1, 1.0), (2, 0.5), (3, 0.25)]
