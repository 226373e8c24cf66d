"""Arrays and their dependencies; nothing is queued twice."""

import os

from advbench.benchmark.runs.executors.slurm import commands, dispatch
from advbench.benchmark.runs.executors.slurm.arrays import waves
from advbench.benchmark.runs.executors.slurm.registry import Registry


def test_jobs_that_wait_for_the_same_are_an_array(world):
    jobs = world.suite()
    found = waves(jobs, stages=False)
    assert [(len(group.jobs), group.needs) for group in found] == [
        (1, ()),
        (4, (jobs[0].id,)),
        (2, (jobs[1].id,)),
        (2, (jobs[2].id,)),
    ]
    seen: set[str] = set()
    for group in found:
        assert set(group.needs) <= seen
        seen |= {job.id for job in group.jobs}
    assert seen == {job.id for job in jobs}


def test_stages_are_arrays_where_only_so_many_may_run(world):
    jobs = world.suite()
    found = waves(jobs, stages=True)
    assert [len(group.jobs) for group in found] == [1, 4, 4]
    assert found[0].jobs == (jobs[0],)
    assert all(group.needs == () for group in found)


def test_dependencies_are_slurms_own(world):
    jobs = world.suite()
    queued = world.slurm().submit(jobs, world.function)
    assert (queued.jobs, queued.before, queued.unsent) == (len(jobs), 0, 0)
    arrays = world.cluster.arrays
    waits = [array["options"].get("dependency", "") for array in arrays.values()]
    first = next(iter(arrays))
    assert waits[0] == ""
    assert waits[1] == f"afterok:{first}_0"  # students, and the attacks on the teacher, wait for the teacher
    second = list(arrays)[1]
    keys = {
        f"afterok:{second}_{index}"
        for index, job in enumerate(waves(jobs, stages=False)[1].jobs)
        if job.kind == "train"
    }
    assert set(waits[2:]) == keys
    assert all(array["options"]["kill-on-invalid-dep"] == "yes" for array in list(arrays.values())[1:])
    assert all("requeue" in array["options"] for array in arrays.values())


def test_with_a_throttle_stages_come_one_after_the_other(world):
    world.slurm(parallel=2).submit(world.suite(), world.function)
    arrays = list(world.cluster.arrays.items())
    assert [array["options"]["array"] for _, array in arrays] == ["0-0%1", "0-3%2", "0-3%2"]
    assert [array["options"].get("dependency") for _, array in arrays] == [
        None, f"afterany:{arrays[0][0]}", f"afterany:{arrays[1][0]}",
    ]  # fmt: skip


def test_every_job_is_advbench_job_file(world, monkeypatch):
    monkeypatch.setenv("ADVBENCH_METHODS", "/a b.py")
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    made = world.slurm(
        setup=("module load cuda",), sbatch={"mail-user": "me", "exclusive": ""}, mem="4G", gpus_per_node="a100:1"
    )
    made.submit([world.train(seed) for seed in range(3)], world.function)
    array = next(iter(world.cluster.arrays.values()))
    batch = next(iter(Registry(made.store).submissions()))
    lines = array["script"].splitlines()
    assert f"exec advbench job '{batch.path / 'batch.json'}' --part $SLURM_ARRAY_TASK_ID" in lines
    assert lines.index("module load cuda") < lines.index("export ADVBENCH_METHODS='/a b.py'")
    for line in (
        "--partition=debug", "--time=60", "--mem=4G", "--gpus-per-node=a100:1", "--mail-user=me", "--exclusive",
        "--signal=B:USR2@90", "--array=0-2%3", "--cpus-per-task=1", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    assert not any("srun" in line or "submitit.core" in line for line in lines)
    assert "SBATCH_PARTITION" in os.environ  # only sbatch does not see it


def test_arrays_stay_under_the_clusters_limit(world):
    world.cluster.set(array=4)
    made = world.slurm()
    made.submit([world.train(seed) for seed in range(10)], world.function)
    assert [array["count"] for array in world.cluster.arrays.values()] == [4, 4, 2]
    scripts = [array["script"] for array in world.cluster.arrays.values()]
    assert "--part $((4 + SLURM_ARRAY_TASK_ID))" in scripts[1]
    assert "--part $((8 + SLURM_ARRAY_TASK_ID))" in scripts[2]
    batch = Registry(made.store).submissions()[0]
    assert sorted(batch.keys()) == list(range(10))
    assert len(list(batch.path.iterdir())) < 8  # few files, however many jobs


def test_what_finds_no_room_is_left_for_later(world):
    world.cluster.set(room=5)
    jobs = [world.train(seed) for seed in range(8)]
    queued = world.slurm().submit(jobs, world.function)
    assert (queued.jobs, queued.unsent) == (5, 3)
    world.cluster.set(room=None)
    queued = world.slurm().submit(jobs, world.function)
    assert (queued.jobs, queued.before, queued.unsent) == (3, 5, 0)


def test_no_more_is_queued_than_the_profile_says(world):
    queued = world.slurm(max_queued=3).submit([world.train(seed) for seed in range(5)], world.function)
    assert (queued.jobs, queued.unsent) == (3, 2)


def test_nothing_is_queued_twice(world):
    jobs = world.suite()
    world.slurm().submit(jobs, world.function)
    tasks = len(world.cluster.read()["tasks"])
    again = world.slurm().submit(jobs, world.function)
    assert (again.jobs, again.before) == (0, len(jobs))
    assert len(world.cluster.read()["tasks"]) == tasks


def test_only_shards_that_nobody_has_queued_are_queued(world):
    training = world.train()
    world.slurm().submit([world.attack(training, (0, 1, 2))], world.function)
    made = world.slurm()
    made.submit([world.attack(training, (1, 2, 3, 4))], world.function)
    assert Registry(made.store).submissions()[-1].jobs[0].shards == (3, 4)


def test_a_student_waits_for_a_teacher_that_somebody_else_queued(world):
    teacher = world.train(0)
    world.slurm().submit([teacher], world.function)
    key = next(iter(world.cluster.read()["tasks"]))
    world.slurm().submit([teacher, world.train(1, (teacher.id,))], world.function)
    assert list(world.cluster.arrays.values())[-1]["options"]["dependency"] == f"afterok:{key}"


def test_a_lost_answer_queues_nothing_twice(world, monkeypatch):
    """sbatch was heard, its answer was not: the array is found by its name."""
    real = commands.ask

    def deaf(*command: str) -> str:
        said = real(*command)
        if "sbatch" in command and "Submitted" in said:
            raise commands.SlurmAwayError("Socket timed out on send/recv operation")
        return said

    monkeypatch.setattr("advbench.benchmark.runs.executors.slurm.engine.ask", deaf)
    world.asleep(dispatch)
    queued = world.slurm().submit([world.train(seed) for seed in range(3)], world.function)
    assert queued.jobs == len(world.cluster.read()["tasks"]) == 3
