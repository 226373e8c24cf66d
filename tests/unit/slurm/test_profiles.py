"""Cluster profiles, and what the options of Slurm make of them."""

import pytest

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.cluster_options import read_placement
from advbench.benchmark.runs.executors.slurm.profile import ProfileError, minutes, profile


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 30), ("30:30", 30.5), ("4:00:00", 240), ("2-12", 3600), ("1-00:30", 1470), ("1-00:00:00", 1440)],
)
def test_times_are_read_as_slurm_reads_them(text, expected):
    assert minutes(text) == expected


def test_the_command_line_changes_the_file(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text(
        'partition = "gpu"\ntime = 90\ngpus-per-node = 2\nsetup = ["module load cuda"]\n[sbatch]\nmail-user = "me"\n'
        "exclusive = true\n"
    )
    found = profile(file, {"partition": "long", "setup": ("source env",), "sbatch": {"mail-user": "you"}})
    assert (found.partition, found.minutes, found.gpus_per_node) == ("long", 90, "2")
    assert found.setup == ("module load cuda", "source env")
    assert found.sbatch == {"mail-user": "you", "exclusive": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('partitoin = "gpu"', "partitoin: unknown key; did you mean partition?"),
        ("zzz = 1", "zzz: unknown key; there are: partition, account"),
        ('cpus_per_task = "8"', "cpus_per_task: Input should be a valid integer"),
        ('time = "soon"', "time: 'soon' is no time"),
        ("parallel = 0", "parallel: Input should be greater than or equal to 1"),
        ('setup = "module load cuda"', "setup: Input should be a valid tuple"),
        ('[sbatch]\ndependency = "afterok:1"', "sbatch: dependency: leave it out: advbench makes the dependencies"),
        ('[sbatch]\npartition = "x"', "sbatch: partition: use the key partition instead"),
        ("partition =", "not valid TOML"),
    ],
)
def test_a_profile_that_cannot_be_understood_is_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(ProfileError) as caught:
        profile(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_profile_of_the_documentation_is_one(request):
    found = profile(request.config.rootpath / "docs" / "examples" / "cluster.toml")
    assert found.partition == "gpu"
    assert found.sbatch["mail-type"] == "FAIL"


def test_options_of_slurm_need_slurm():
    with pytest.raises(Refused, match="--partition is for --executor slurm"):
        read_placement(executor="local", detach=False, profile=None, partition="gpu", sbatch=())
    chosen = read_placement(executor="slurm", detach=False, profile=None, partition="gpu", retries=0)
    assert chosen is not None
    assert chosen.profile.retries == 0


def test_a_job_computes_on_what_it_asks_for():
    on_cpu = read_placement(executor="slurm", detach=False, cpus_per_task=16)
    on_gpu = read_placement(executor="slurm", detach=False, cpus_per_task=16, gpus_per_node="a100:1")
    assert on_cpu is not None
    assert on_gpu is not None
    assert (on_cpu.device("auto"), on_cpu.threads) == ("cpu", 16)
    assert (on_gpu.device("auto"), on_gpu.threads) == ("cuda", 8)
    assert on_gpu.device("cpu") == "cpu"
