"""`.ci/setup`, behind every make target: right errors, and done once. A made-up interpreter stands in for Python."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="make and bash are not on this system")

FAKE = """#!/bin/sh
# A Python that makes environments whose Python is itself, and notes what pip was asked.
case "$*" in
  *"import sys; sys.exit"*) exit {old} ;;
  *"import sys, pip; sys.exit"*) exit {old} ;;
  *ensurepip*) exit {novenv} ;;
  *"%d.%d"*) echo 3.12 ;;
  --version) echo "Python 3.12.0" ;;
  "-m venv "*) mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; ln -sf "$0" "$3/bin/python" ;;
  "-m pip "*) echo "$*" >> "{log}"; exit {pip} ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


@pytest.fixture
def place(root: Path, tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(root / ".ci/setup", tmp_path / ".ci/setup")
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    return tmp_path


def setup(place: Path, kind: str = "test", **fate: int) -> subprocess.CompletedProcess:
    fake = place / "fake-python"
    fake.write_text(FAKE.format(**{"old": 0, "novenv": 0, "pip": 0, **fate}, log=place / "log"), encoding="utf-8")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    return subprocess.run(
        [place / ".ci/setup", kind],
        env={"PATH": os.environ["PATH"], "PYTHON": str(fake)},
        capture_output=True,
        text=True,
        check=False,
    )


def asked(place: Path) -> list[str]:
    log = place / "log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_a_missing_venv_names_the_package(place):
    done = setup(place, novenv=1)
    assert done.returncode == 2
    assert "python3.12-venv" in done.stderr
    assert "apt install python3-venv" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (place / ".venv").exists()


def test_an_old_python_is_refused_with_the_mend(place):
    done = setup(place, old=1)
    assert done.returncode == 2
    assert "no Python 3.11 or newer" in done.stderr
    assert "PYTHON=" in done.stderr


def test_it_is_done_once_and_again_when_pyproject_changes(place):
    assert setup(place).returncode == 0
    assert len(asked(place)) == 1
    assert asked(place)[0].endswith("--editable .[test]")
    again = setup(place)
    assert (again.returncode, again.stdout) == (0, "")
    assert len(asked(place)) == 1
    assert setup(place, "demo").returncode == 0, "what the tests need includes what the demo needs"
    assert len(asked(place)) == 1
    (place / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    assert setup(place).returncode == 0
    assert len(asked(place)) == 2


def test_the_demo_installs_no_test_tools(place):
    assert setup(place, "demo").returncode == 0
    assert asked(place)[0].endswith("--editable .[train]")
    assert setup(place, "test").returncode == 0
    assert len(asked(place)) == 2


def test_a_failed_installation_is_not_taken_for_done(place):
    done = setup(place, pip=1)
    assert done.returncode == 1
    assert "installation failed" in done.stderr
    assert setup(place).returncode == 0
    assert len(asked(place)) == 2


def test_a_folder_that_is_no_environment_is_left_alone(place):
    (place / ".venv").mkdir()
    (place / ".venv/precious").touch()
    done = setup(place)
    assert done.returncode == 2
    assert "move it away" in done.stderr
    assert (place / ".venv/precious").exists()


def test_a_word_it_does_not_know(place):
    assert setup(place, "everything").returncode == 2
