"""What a job has told stands in `sollol show` and is said once to whoever follows it."""

import json

import jsonschema

from sollol_tui.jobs.events import add_events
from sollol_tui.jobs.store import Store
from sollol_tui.model.events import decode
from sollol_tui.model.output_schema import output_schema
from sollol_tui.model.spec import JobSpec, Mode, Student, StudentLora
from sollol_tui.model.states import JobState
from tests.cli.shell import sollol
from tests.jobs.samples import INVENTORY, add_job, line


def test_held_out_losses_are_on_the_screen(store: Store) -> None:
    job = add_job(store, "host w1")
    said = [(2, 1.5), (4, 1.25), (6, 1.75), (4, 1.3), ("x", 1.0), (8, None)]
    lines = [line("evaluation", 0, step=s, loss=x, perplexity=4.48, rows=1500) for s, x in said]
    heard = [(n, event) for n, event in enumerate(map(decode, lines)) if event is not None]
    add_events(store, job, "w1", "events.0.1.jsonl", heard, 99)
    shown = sollol("show", job)[1]
    assert "held out   loss 1.750 (perplexity 4.48) on 1,500 rows after step 6" in shown
    assert "; best 1.300 after step 4" in shown
    data = json.loads(sollol("show", job, "--json")[1])
    assert [(each["step"], each["loss"]) for each in data["evaluations"]] == [
        (2, 1.5), (4, 1.3), (6, 1.75),
    ]  # fmt: skip
    store.move_job(job, JobState.FAILED, "over")
    assert (
        "held-out loss 1.750 (perplexity 4.48) on 1,500 rows after step 6"
        in sollol("attach", job)[1]
    )


def test_students_who_learn_apart_are_ranked_for_whoever_looks(store: Store) -> None:
    job = add_job(store, "host w1")
    students = (Student(lora=StudentLora(r=4)), Student(seed=7))
    spec = JobSpec(model="m", dataset="d", mode=Mode.TEACHER_STUDENT, students=students)
    store.note_wish(job, spec=spec, inventory=INVENTORY, same_hosts=())
    lines = ["PLACE  STUDENT  HELD-OUT LOSS  STEP  SETTINGS"]
    lines += ["-      w1       -              -     seed 42, lora.r 4"]
    lines += ["-      w2       -              -     seed 7"]
    assert sollol("show", job)[1].splitlines()[-3:] == lines
    for slot, losses in enumerate([(1.9, 1.5), (2.0, 1.25)]):
        said = [line("evaluation", slot, step=n, loss=x, rows=9) for n, x in enumerate(losses, 5)]
        heard = [(n, event) for n, event in enumerate(map(decode, said)) if event is not None]
        add_events(store, job, f"w{slot + 1}", f"events.{slot}.1.jsonl", heard, 99)
    lines[1:] = ["1      w2       1.2500         6     seed 7"]
    lines += ["2      w1       1.5000         6     seed 42, lora.r 4"]
    assert sollol("show", job)[1].splitlines()[-3:] == lines
    told = json.loads(sollol("show", job, "--json")[1])
    assert [(each["host"], each["loss"]) for each in told["ranking"]] == [("w2", 1.25), ("w1", 1.5)]
    jsonschema.validate(told, output_schema("sollol.job/1"))
    for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING, JobState.FINISHING):
        store.move_job(job, state)
    store.move_job(job, JobState.DONE)
    assert sollol("attach", job)[1].splitlines()[-5:-2] == lines


def test_damaged_settings_are_a_sentence_to_whoever_looks(store: Store) -> None:
    job = add_job(store, "host w1")
    with store.transaction():
        store.connection.execute("UPDATE jobs SET spec = '{' WHERE id = ?", (job,))
    code, _, error = sollol("show", job)
    assert code == 1
    assert "the state holds what nobody has written" in error


def test_what_the_ranks_say_is_told_once_and_clean_to_whoever_follows(store: Store) -> None:
    job = add_job(store, "host w1")
    said = ["9 skipped", "9 skipped", "\x1b[2Jtwo\n", None]
    events = [decode(line("notice", slot, message=text)) for slot, text in enumerate(said)]
    heard = [(number, event) for number, event in enumerate(events) if event is not None]
    add_events(store, job, "w1", "events.0.1.jsonl", heard, 99)
    store.move_job(job, JobState.FAILED, "over")
    assert sollol("attach", job)[1].splitlines()[-2:] == ["  w1: 9 skipped", "  w1: two"]


def test_who_attaches_after_a_resume_is_not_told_again_what_the_first_launch_said(
    store: Store,
) -> None:
    job = add_job(store, "host w1")
    said = [
        line("notice", 0, message="tokenised"),
        line("stopped", 0, step=3, samples_done=9),
        line("notice", 0, generation=2, message="continuing from checkpoint-3"),
    ]
    for number, text in enumerate(said):
        event = decode(text)
        assert event is not None
        add_events(store, job, "w1", "events.0.1.jsonl", [(number, event)], number)
    store.move_job(job, JobState.FAILED, "over")
    told = sollol("attach", job)[1]
    assert told.endswith("  w1: continuing from checkpoint-3\n")
    assert "tokenised" not in told
