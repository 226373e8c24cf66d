"""What becomes of jobs: states of the queue, lost jobs, watching, cancelling."""

import itertools

import pytest
from click.testing import CliRunner

from advbench.benchmark.runs.executors.slurm import commands, executor, queue
from advbench.benchmark.runs.executors.slurm.executor import Slurm
from advbench.benchmark.runs.executors.slurm.profile import Profile
from advbench.benchmark.runs.executors.slurm.registry import Registry


def test_the_states_of_the_queue_are_those_of_the_jobs(world):
    world.slurm().submit([world.train(seed) for seed in range(3)], world.function)
    keys = list(world.cluster.read()["tasks"])
    world.cluster.tasks("RUNNING", keys[0])
    world.cluster.tasks("PENDING", keys[1], reason="Resources")
    world.first.set_live(0, {"done": 3.2, "total": 10, "unit": "epoch"})
    said = [entry.text for entry in queue.jobs_in_queue(Registry(world.store))]
    assert said == ["RUNNING on n1, epoch 3/10", "PENDING (Resources)", "PENDING (Priority)"]


@pytest.mark.parametrize(
    "case",
    [
        ("OUT_OF_MEMORY", "OutOfMemory", "0:125", "failed", "Slurm ended it as OUT_OF_MEMORY: raise --mem"),
        ("TIMEOUT", "TimeLimit", "0:0", "failed", "raise --time"),
        ("CANCELLED", "None", "0:15", "cancelled", "cancelled in Slurm"),
        ("CANCELLED", "DependencyNeverSatisfied", "0:0", "blocked", "it needs what failed"),
    ],
)
def test_a_job_that_left_the_queue_without_a_word(world, case):
    state, reason, code, end, said = case
    world.slurm().submit([world.train()], world.function)
    world.cluster.tasks(state, reason=reason, code=code)
    assert queue.jobs_in_queue(Registry(world.store)) == []
    settled = world.first.settled()[0]
    assert settled.end == end
    assert said in settled.reason
    failures = world.store.folder(world.train().run).failures()
    assert [failure.reason for failure in failures] == ([settled.reason] if end == "failed" else [])


def test_a_job_that_slurm_has_forgotten_is_lost(world):
    world.slurm().submit([world.train()], world.function)
    world.cluster.forget(*world.cluster.read()["tasks"])
    assert queue.jobs_in_queue(Registry(world.store)) == []
    assert "it left Slurm's queue without a word" in world.first.settled()[0].reason
    assert world.slurm().submit([world.train()], world.function).jobs == 1  # and can be queued again


def test_while_the_controller_is_away_nothing_is_lost(world):
    world.slurm().submit([world.train()], world.function)
    world.cluster.set(away=True)
    with pytest.raises(commands.SlurmAwayError):
        queue.jobs_in_queue(Registry(world.store))
    assert not world.first.settled()


def test_watching_ends_when_all_is_settled(world):
    """Pending, running, away, lost and queued again, done: what the watcher says of it all."""
    jobs = [world.train(0), world.train(1)]
    lines: list[str] = []
    events: list[tuple[str, str]] = []
    made = Slurm(world.store, Profile(partition="debug", time="60", retries=1), ("advbench",), None, lines.append)

    def away() -> None:
        world.cluster.tasks("RUNNING")
        world.cluster.set(away=True)

    def lost() -> None:
        world.cluster.set(away=False)
        world.cluster.tasks("NODE_FAIL", "101_1", reason="NodeDown", code="1:0")
        world.first.set_live(0, {"key": "101_0", "done": 2, "total": 3, "unit": "epoch", "detail": "two"})

    def done() -> None:
        world.cluster.tasks("COMPLETED")
        world.first.settle([0, 1], "done")

    script = iter([lambda: world.cluster.tasks("RUNNING"), away, lost, lambda: None, lambda: None, done, lambda: None])
    world.asleep(executor, lambda: [step() for step in itertools.islice(script, 1)])
    outcome = made.execute(jobs, world.function, lambda event: events.append((event.kind, event.job.id)))
    assert outcome.clean
    assert [kind for kind, job in events if job == jobs[0].id] == ["started", "progress", "finished"]
    assert any("does not answer" in line for line in lines)
    assert any("answers again" in line for line in lines)
    assert list(world.cluster.arrays)[-1] == "102"  # the lost one, once more
    assert world.first.keys()[1] == "102_0"


def test_a_job_is_not_queued_again_for_ever(world):
    world.cluster.set(born="FAILED")
    world.asleep(executor)
    outcome = world.slurm(retries=2).execute([world.train()], world.function, lambda _: None)
    assert len(world.cluster.arrays) == 3
    assert "Slurm ended it as FAILED" in outcome.failed[0][1]
    assert world.store.folder(world.train().run).failures()


def test_cancel_cancels_ours_only(world):
    from advbench.benchmark.cli.cancel import cancel

    world.cluster.set(tasks={"7_0": {"state": "RUNNING", "reason": "None", "user": commands.me()}})
    jobs = [world.train(seed) for seed in range(3)]
    world.slurm().submit(jobs, world.function)
    root = str(world.store.root)
    one = CliRunner().invoke(cancel, ["--store", root, jobs[1].run.id[:8]])
    assert (one.exit_code, one.output) == (0, "cancelled 1 jobs\n")
    assert world.cluster.calls("scancel") == [["scancel", "101_1"]]
    rest = CliRunner().invoke(cancel, ["--store", root])
    assert rest.output == "cancelled 2 jobs\n"
    assert {key: task["state"] for key, task in world.cluster.read()["tasks"].items()} == {
        "7_0": "RUNNING", "101_0": "CANCELLED", "101_1": "CANCELLED", "101_2": "CANCELLED",
    }  # fmt: skip
    assert "nothing to cancel" in CliRunner().invoke(cancel, ["--store", root]).output
    assert {one.end for one in world.first.settled().values()} == {"cancelled"}


def test_what_others_queued_is_theirs_to_cancel(world):
    from advbench.benchmark.cli.cancel import cancel

    world.cluster.set(user="somebody")
    world.slurm().submit([world.train()], world.function)
    found = CliRunner().invoke(cancel, ["--store", str(world.store.root)])
    assert found.exit_code == 1
    assert "1 jobs were queued by somebody, who alone can cancel them" in found.output
    assert not [call for call in world.cluster.calls("scancel") if len(call) > 1]
