"""What a host does for us, where one looks at it: it teaches, evaluates, is provisioned."""

from dataclasses import replace

import pytest

from sollol_tui.hosts.steps import Step, StepState
from sollol_tui.model.metrics import StepPoint
from sollol_tui.model.ranking import Ranked
from sollol_tui.model.snapshot import JobWorkerView, TeacherView
from sollol_tui.ui.widgets.host_work import Work
from tests.ui.pilot import driven
from tests.ui.sample import HOSTS, RUNNING, SampleClient, gpu, snapshot

TEACHER = TeacherView(
    host="old-xeon", state="scoring", done=1200, total=2294, hits=300, tokens_per_s=810.0, eta_s=81
)
DUTIES = {
    "old-xeon": {"job": "j-7f3a", "errand": TEACHER.duty},
    "pi01": {"errand": "an old one"},  # which nobody sees while it is down
    "spare": {"errand": "the evaluation of [b]j-1c55[/b]\x1b[31m"},
}


async def test_a_teacher_and_an_errand_are_told_where_one_looks_at_their_host() -> None:
    slow = JobWorkerView(host="hydra", state="lost", reason="[/b] says the worker")
    taught = replace(RUNNING, teachers=(TEACHER,), workers=(slow, *RUNNING.workers[1:]))
    named = gpu("[/b] RTX", util=1, used=1, total=2, temp=40)
    hosts = [*HOSTS, replace(HOSTS[3], name="spare", gpus=(named,))]
    hosts = [replace(host, **DUTIES.get(host.name, {})) for host in hosts]
    client = SampleClient(shown=snapshot(jobs=[taught], hosts=hosts))
    client.points = {"j-7f3a": [StepPoint(step=n, loss=2.3, ce=1.9, kl=0.4) for n in (1, 2)]}
    fares = "scoring, 1,200 of 2,294 scored, 300 of them found in a cache, 810 tok/s, 1m 21s to go"
    async with driven(client, size=(160, 48)) as screen:
        await screen.press("3")
        await screen.sees("teaches, 52% scored")
        await screen.sees("the evaluation of [b]j-1c55[/b]")
        await screen.press("j", "j", "j")
        await screen.sees("works for j-7f3a tools-621k")
        await screen.sees(f"its teacher: {fares}")
        await screen.press("G")
        await screen.sees("busy with the evaluation of [b]j-1c55[/b]")
        await screen.sees("0    [/b] RTX")
        await screen.press("2")
        await screen.sees(f"52% ######......  old-xeon {fares}")
        await screen.sees("cross-entropy 1.900, divergence from the teacher 0.400")
        await screen.sees("old-xeon (teacher)")
        await screen.sees("lost: [/b] says the worker")


def test_a_teacher_that_is_done_teaches_no_more() -> None:
    assert replace(TEACHER, done=2294).duty == "teaches, 100% scored"
    assert replace(TEACHER, done=2294, state="done").duty == "has taught"


async def test_students_who_learn_apart_stand_on_the_job_s_page_in_their_order() -> None:
    client = SampleClient()
    best, none = ("attic", 1.2041, 40), ("[b]hydra[/b]\x1b[31m", None, None)
    client.ranked = tuple(
        Ranked(host=host, loss=loss, step=step, settings="seed 43, lora.r 8", folder="out")
        for host, loss, step in (best, none)
    )
    async with driven(client, size=(120, 40)) as screen:
        await screen.press("2")
        await screen.sees("PLACE  STUDENT       HELD-OUT LOSS  STEP  SETTINGS")
        await screen.sees("1      attic         1.2041         40    seed 43, lora.r 8")
        await screen.sees("-      [b]hydra[/b]  -              -     seed 43, lora.r 8")


@pytest.mark.parametrize(
    ("steps", "counted", "fraction", "newest"),
    [
        ([], (0, 5), 0.0, "connecting"),
        ([("workdir", "done", None)], (1, 5), 0.2, "workdir done"),
        ([("workdir", "done", None), ("uv", "working", None)], (1, 6), 1 / 6, "uv working"),
        ([("uv", "done", None), ("wheels", "working", 0.5)], (1, 7), 1.5 / 7, "wheels working 50%"),
    ],
)  # fmt: skip
def test_a_percentage_is_told_only_of_a_step_whose_size_is_known(
    steps: list[tuple[str, str, float | None]],
    counted: tuple[int, int],
    fraction: float,
    newest: str,
) -> None:
    told = {
        name: Step(name=name, state=StepState(state), fraction=part) for name, state, part in steps
    }
    work = Work(title="provisioning: begun", steps=told)
    assert work.counted == counted
    assert work.fraction == pytest.approx(fraction)
    assert work.newest == newest
