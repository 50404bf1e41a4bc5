"""What is said of students who learned apart, at the end of their job."""

from sollol_tui.jobs.students import best_student
from sollol_tui.model.ranking import Ranked, in_order, ranking_lines


def student(host: str, loss: float | None, away: str = "") -> Ranked:
    settings, folder = "seed 42", f"/out/{host}"
    return Ranked(host=host, loss=loss, step=6, settings=settings, folder=folder, away=away)


def test_the_best_is_named_only_where_somebody_measured_it() -> None:
    measured = in_order([student("w1", 1.5), student("w2", None), student("w3", 1.25)])
    assert best_student(measured) == "best student: w3  held-out loss 1.2500  (seed 42)"
    said = best_student(in_order([student("w1", None), student("w2", None)]))
    assert said.startswith("all 2 students are here, in /out; none is called the best")
    assert said.endswith("no held-out loss was measured: hold rows out with val_size")


def test_a_student_whose_worker_is_lost_stays_in_the_table_and_is_never_the_best() -> None:
    ranked = in_order([student("w1", 0.5, "lost"), student("w2", 1.5), student("w3", None)])
    assert best_student(ranked) == (
        "best student: w2  held-out loss 1.5000  (seed 42); w1 is lost: its student rests there"
    )
    assert [line.split()[:2] for line in ranking_lines(ranked)[1:]] == [
        ["1", "w2"],
        ["-", "w3"],
        ["-", "w1"],
    ]
    assert "w1 (lost)  0.5000" in ranking_lines(ranked)[-1]
