"""What is said of students who learned apart, at the end of their job."""

from sollol_tui.jobs.students import best_student
from sollol_tui.model.ranking import Ranked, in_order


def student(host: str, loss: float | None) -> Ranked:
    return Ranked(host=host, loss=loss, step=6, settings="seed 42", folder=f"/out/{host}")


def test_the_best_is_named_only_where_somebody_measured_it() -> None:
    measured = in_order([student("w1", 1.5), student("w2", None), student("w3", 1.25)])
    assert best_student(measured) == "best student: w3  held-out loss 1.2500  (seed 42)"
    said = best_student(in_order([student("w1", None), student("w2", None)]))
    assert said.startswith("all 2 students are here, in /out; none is called the best")
    assert said.endswith("no held-out loss was measured: hold rows out with val_size")
