"""What a record says of software and hardware."""

import importlib.metadata
import subprocess
from pathlib import Path

import pytest
import torch

from advbench.benchmark.runs import environment


@pytest.fixture
def checkout(tmp_path):
    """A small repository with a package in it."""
    package = tmp_path / "project" / "benchmark"
    package.mkdir(parents=True)
    (package / "code.py").write_text("x = 1\n")
    for arguments in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "first"),
    ):
        subprocess.run(["git", *arguments], cwd=package.parent, check=True)
    return package


def head(package) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=package, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_machine_is_described():
    found = environment.describe("cpu")
    assert found.advbench == importlib.metadata.version("advbench")
    assert found.libraries["torch"] == importlib.metadata.version("torch")
    assert found.libraries["pyautoattack"] == "0.2.0"
    assert (found.device, found.threads, found.precision) == ("cpu", torch.get_num_threads(), "fp32")
    assert torch.backends.cpu.get_cpu_capability() in found.cpu


@pytest.mark.skipif(not (Path(__file__).parents[2] / ".git").exists(), reason="not a checkout")
def test_a_record_made_in_this_checkout_names_its_commit():
    environment.commit.cache_clear()
    assert environment.commit().removesuffix("-dirty") == head(Path(__file__).parents[2])


def test_threads_are_those_of_the_moment():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert environment.describe().threads == before + 1
    finally:
        torch.set_num_threads(before)


class TestCommit:
    def test_a_checkout_has_its_commit_and_says_when_it_differs(self, checkout):
        environment.commit.cache_clear()
        assert environment.commit(checkout) == head(checkout)
        environment.commit.cache_clear()
        (checkout / "untracked.py").write_text("")
        assert environment.commit(checkout) == head(checkout)
        environment.commit.cache_clear()
        (checkout / "code.py").write_text("x = 2\n")
        assert environment.commit(checkout) == f"{head(checkout)}-dirty"

    def test_an_installation_inside_another_repository_has_none(self, checkout):
        installed = checkout / "lib" / "advbench" / "benchmark"
        installed.mkdir(parents=True)
        assert environment.commit(installed) is None

    def test_this_checkout_has_a_commit_wherever_the_module_lies(self):
        top = Path(__file__).parents[2]
        if not (top / ".git").exists():
            pytest.skip("not a checkout")
        environment.commit.cache_clear()
        assert (environment.commit() or "").removesuffix("-dirty") == head(top)

    def test_no_repository_no_commit(self, tmp_path):
        assert environment.commit(tmp_path) is None

    def test_no_git_no_commit(self, checkout, monkeypatch):
        environment.commit.cache_clear()
        monkeypatch.setenv("PATH", "")
        assert environment.commit(checkout) is None


class TestCores:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("200000 100000\n", 2), ("150000 100000\n", 2), ("max 100000\n", None), ("", None), ("1 0\n", None)],
    )
    def test_a_quota_is_read(self, tmp_path, text, expected):
        path = tmp_path / "cpu.max"
        path.write_text(text)
        assert environment._quota(path) == expected

    def test_without_a_quota_there_is_none(self, tmp_path):
        assert environment._quota(tmp_path / "none") is None

    def test_the_quota_counts_and_one_core_is_always_there(self, monkeypatch):
        monkeypatch.setattr(environment, "_quota", lambda _: 1)
        assert environment.usable_cores() == 1
        monkeypatch.setattr(environment, "_quota", lambda _: None)
        assert environment.usable_cores() >= 1
