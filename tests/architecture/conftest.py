"""Fixtures of the architecture tests: the repository and its tracked files."""

import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = ("api", "benchmark", "leaderboards", "methods", "reports")
IGNORED = {".git", ".venv", "__pycache__", "build", "dist", "runs", "data", "demo"}


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """Paths, relative to the root, of the files of the project; outside a git checkout all that are not ignored."""
    if (root / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        files = [Path(name) for name in listed if name]
    else:
        files = [path.relative_to(root) for path in root.rglob("*")]
        files = [path for path in files if not IGNORED & set(path.parts) and not path.name.startswith(".coverage")]
    return sorted(path for path in files if (root / path).is_file())


@pytest.fixture(scope="session")
def modules(tracked: list[Path]) -> list[Path]:
    """The Python files of the packages, relative to the root."""
    return [path for path in tracked if path.suffix == ".py" and path.parts[0] in PACKAGES]


@pytest.fixture(scope="session")
def plain_environment() -> dict[str, str]:
    """The environment without coverage's hooks: tools of others that run in a subprocess are not to be measured."""
    import os

    return {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_"))}
