"""The words of the tables, and which of their columns stay when there is little room."""

from sollol_tui.model.columns import (
    GAP,
    HOST_COLUMNS,
    fit_columns,
    headline,
    host_cells,
    job_cells,
    job_columns,
    job_sentence,
    jobs_in_order,
    progress_bar,
)
from tests.ui.sample import DONE, FAILED, HOSTS, NOW, QUEUED, RUNNING, snapshot


def test_a_bar_is_full_only_when_all_is_done() -> None:
    assert progress_bar(0.45, 18) == "########.........."
    assert progress_bar(0.9999, 18) == "#" * 17 + "."
    assert progress_bar(1.0, 18) == "#" * 18
    assert progress_bar(7.0, 4) == "####"


def test_a_job_row_reads_like_the_status_command() -> None:
    assert job_cells(RUNNING, NOW) == (
        "j-7f3a", "tools-621k", "running", "45%  ########.......... 280K/621K", "1.214",
        "14.9 smp/s", "hydra desktop attic", "6h 21m",
    )  # fmt: skip
    assert job_cells(QUEUED, NOW)[3] == "#1: waits for 2 GPU hosts"
    assert job_cells(DONE, NOW)[-1] == "23h ago"


def test_a_host_row_shows_its_fullest_gpu_and_a_dead_one_its_reason() -> None:
    assert host_cells(HOSTS[0], NOW) == (
        "hydra", "up", "2x RTX 3090", "97%", "21.4/24 GiB", "71C", "31%", "28.0/64 GiB",
        "j-7f3a", "62%",
    )  # fmt: skip
    assert host_cells(HOSTS[-1], NOW) == (
        "pi01", "down", *["-"] * 7, "no route to host, 4m",
    )  # fmt: skip


def test_what_runs_comes_first_and_what_ended_last() -> None:
    order = [job.id for job in jobs_in_order((QUEUED, DONE, RUNNING, FAILED))]
    assert order == ["j-7f3a", "j-81c0", "j-1c55", "j-3b02"]


def test_the_headline_gives_way_to_a_narrow_terminal() -> None:
    whole = (
        "SOLLOL  lab (inventory.yaml)   4/5 hosts up   1 running  1 queued   "
        "coordinator free (CPU 5%, RAM 20%)"
    )
    assert headline(snapshot()) == whole
    for width in range(40, 110):
        line = headline(snapshot(), width=width)
        assert len(line) <= width
        assert "4/5 hosts up   1 running  1 queued" in line


def test_columns_fit_and_the_important_ones_stay() -> None:
    jobs = [job_cells(job, NOW) for job in (RUNNING, QUEUED, FAILED, DONE)]
    hosts = [host_cells(host, NOW) for host in HOSTS]
    for width in range(76, 200):
        for columns, rows in ((job_columns(13), jobs), (HOST_COLUMNS, hosts)):
            widths = fit_columns(columns, rows, width)
            kept = [size for size in widths if size]
            assert sum(kept) + GAP * (len(kept) - 1) <= width
            assert all(
                size for column, size in zip(columns, widths, strict=True) if not column.drops
            )


def test_columns_without_a_value_leave_before_a_reason_is_cut() -> None:
    widths = fit_columns(HOST_COLUMNS, [host_cells(host, NOW) for host in HOSTS[3:]], 78)
    shown = [column.key for column, size in zip(HOST_COLUMNS, widths, strict=True) if size]
    assert shown == ["host", "state", "util", "cpu", "ram", "job", "share"]
    assert widths[-1] == len("no route to host, 4m")


def test_a_job_in_one_sentence() -> None:
    assert job_sentence(RUNNING, NOW) == (
        "running: step 2187/4852, loss 2.310 -> 1.214, on hydra desktop attic"
    )
    assert job_sentence(FAILED, NOW).startswith("failed 2h ago: attic/2 died at import")
