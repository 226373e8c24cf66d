"""Progress of jobs, tables and amounts as the terminal shows them."""

import itertools

import pytest

from advbench.benchmark.cli import console
from advbench.benchmark.cli.progress import Display
from advbench.benchmark.protocol import published
from advbench.benchmark.runs import amounts
from advbench.benchmark.runs.executors.base import JobEvent
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.meter import Meter

DIGITS = published()["digits-linf/1"]


# Progress -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def jobs() -> list[Job]:
    run = RunSpec(DIGITS, "pgd_at", {}, 0)
    return [Job("train", run), Job("evaluate", run, "best", "cw", (0,))]


def test_the_meter_knows_the_share_and_the_time_left(jobs):
    meter = Meter({jobs[0].id: 30.0, jobs[1].id: 10.0}, workers=2)
    meter.began = 100.0
    assert meter.fraction == 0
    assert meter.left(100.0) == 20.0, "two at once"
    meter.update(JobEvent("progress", jobs[0], done=6, total=12, unit="epoch"))
    assert meter.fraction == pytest.approx(15 / 40)
    assert meter.left(130.0) == pytest.approx(30 / 15 * 25), "from the speed so far"
    meter.update(JobEvent("finished", jobs[0], seconds=30))
    assert meter.counts == "1/2"
    meter.update(JobEvent("failed", jobs[1]))
    assert (meter.fraction, meter.left(), meter.counts) == (1.0, 0.0, "2/2")


def test_the_time_left_goes_over_from_the_estimate_to_the_speed_without_a_jump(jobs):
    """Sixty jobs, ten times slower than estimated: after ten minutes the estimate is forgotten."""
    meter = Meter({jobs[0].id: 60.0, "rest": 59 * 60.0}, workers=1)
    meter.began, found = 0.0, []
    for second in range(601):
        meter.update(JobEvent("progress", jobs[0], done=second / 10, total=60, unit="step"))
        found.append(meter.left(float(second)))
    assert found[0] == 3600.0
    assert found[600] == pytest.approx(35_400)
    assert all(1 < later / sooner < 1.01 for sooner, later in itertools.pairwise(found[10:]))


def test_the_meter_of_nothing_is_done():
    assert Meter({}, 1).fraction == 1.0


def test_plain_lines_where_there_is_no_terminal(jobs, capsys):
    with Display(Meter({job.id: 10.0 for job in jobs}, 1)) as display:
        assert display.live is None
        display(JobEvent("started", jobs[0]))
        display(JobEvent("progress", jobs[0], done=1, total=12, unit="epoch"))
        display(JobEvent("waiting", jobs[1], detail="another process is at it"))
        display(JobEvent("finished", jobs[0], seconds=12.3))
        display(JobEvent("failed", jobs[1], detail="out of memory"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] train digits-linf/1 pgd_at seed 0: done in 12 s; about ")
    assert lines[1] == "[2/2] failed: cw on best of digits-linf/1 pgd_at seed 0: out of memory"
    assert len(lines) == 2


def test_a_long_wait_is_said_once(jobs, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Display(Meter({jobs[0].id: 10.0}, 1)) as display:
        for second in range(100):
            clock[0] = float(second)
            display(JobEvent("waiting", jobs[0], detail="another process is at it"))
    said = "waiting: train digits-linf/1 pgd_at seed 0: another process is at it"
    assert capsys.readouterr().err.splitlines() == [said]


def test_a_long_job_is_heard_of_now_and_then(jobs, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Display(Meter({jobs[0].id: 10.0}, 1)) as display:
        display(JobEvent("started", jobs[0]))
        for second in range(1, 70):
            clock[0] = float(second)
            display(JobEvent("progress", jobs[0], done=second / 10, total=12, unit="epoch"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "epoch 3 of 12; about 90 s left" in lines[0] or "epoch 3 of 12; about 2 min left" in lines[0]


def test_bars_in_a_terminal(jobs, monkeypatch):
    import io

    from rich.console import Console

    screen = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr("advbench.benchmark.cli.progress.console", lambda *, stderr: screen)
    with Display(Meter({job.id: 10.0 for job in jobs}, 1)) as display:
        assert display.live is not None
        display(JobEvent("started", jobs[0]))
        display(JobEvent("progress", jobs[0], done=6, total=12, unit="epoch", detail="loss 1.2"))
        task = display.live.tasks[1]
        assert (task.completed, task.fields["message"]) == (0.5, "epoch 6/12 loss 1.2")
        display(JobEvent("finished", jobs[0], seconds=5))
        assert len(display.live.tasks) == 1
        assert display.live.tasks[0].completed == 0.5
    assert "train digits-linf/1 pgd_at seed 0: done in 5 s" in screen.file.getvalue()


# Amounts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3600, "60 min"),
        (5400, "1 h 30 min"),
        (7200, "2 h"),
        (200_000, "2 d 7 h"),
        (86_400 * 3, "3 d"),
    ],
)
def test_durations(seconds, said):
    assert amounts.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")]
)
def test_sizes(count, said):
    assert amounts.size(count) == said


def test_tables_are_not_folded_outside_terminals(capsys):
    console.print_table(("name", "long"), [("x", "word " * 60)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["x", *["word"] * 60]


def test_brackets_are_text(capsys):
    console.print_table(("name",), [("[bold]x[/bold]",)])
    assert "[bold]x[/bold]" in capsys.readouterr().out
