"""Style and types of one file, with the tools and rules of the repository, wherever the file lies."""

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from advbench.benchmark.review.finding import CheckError

RUFF_RULES = "A,ANN,ARG,B,BLE,C4,D,E,ERA,F,FURB,I,N,NPY,PERF,PIE,PL,PTH,RET,RUF,S,SIM,SLF,T20,TRY,UP,W"
IGNORED = "D105,D107,D203,D213,PLR2004,PLR0913,TRY003,RUF001,RUF002,RUF003,N803,N806,N812,COM812,RUF009,FBT003"
_MYPY = ["--strict", "--namespace-packages", "--explicit-package-bases", "--follow-imports", "silent"]
_MYPY += ["--no-error-summary", "--ignore-missing-imports", "--config-file", ""]
_LINT = ["--config", 'lint.isort.known-first-party=["advbench"]', "--config", 'lint.pydocstyle.convention="google"']


class ToolMissingError(RuntimeError):
    """A tool that is not installed; the message says how to get it."""


def repository(file: Path) -> Path | None:
    """Return the root of the checkout that a file lies in, or None."""
    for folder in file.resolve().parents:
        if (folder / "pyproject.toml").is_file() and (folder / "benchmark" / "method.py").is_file():
            return folder
    return None


def _complaints(words: list[str], folder: Path, **environment: str) -> list[str]:
    """Return the lines that a tool prints in a folder, none if it has nothing to complain of."""
    tool = words[0]
    if importlib.util.find_spec(tool) is None:
        raise ToolMissingError(f"{tool} is not installed: pip install {tool}, or make test, which installs all tools")
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return (lines or [f"{tool} ends with exit code {done.returncode}"]) if done.returncode else []


def style(file: Path) -> None:
    """Hold a file to ruff and its formatter.

    Raises:
        CheckError: with the first complaint.
        ToolMissingError: without ruff.
    """
    root, path = repository(file), str(file.resolve())
    common = ["--no-cache"] if root else ["--no-cache", "--isolated", "--config", "line-length=120"]
    rules = [] if root else ["--select", RUFF_RULES, "--ignore", IGNORED, *_LINT]
    folder = root or file.parent
    lines = _complaints(["ruff", "check", "--output-format", "concise", *common, *rules, path], folder)
    if lines:
        raise CheckError(f"ruff: {lines[0]} ({max(1, len(lines) - 1)} in all)", f"ruff check {file}")
    if _complaints(["ruff", "format", "--check", *common, path], folder):
        raise CheckError("the formatter would change the file", f"ruff format --line-length 120 {file}")


def types(file: Path) -> None:
    """Hold a file to mypy --strict.

    The folder X/ is the package advbench.X, which mypy cannot learn from an editable install: it is shown links.

    Raises:
        CheckError: with the first complaint.
        ToolMissingError: without mypy, or on a system without symbolic links.
    """
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "advbench"
        tree.mkdir()
        for package in ("benchmark", "methods", "leaderboards", "reports"):
            folder = Path(next(iter(importlib.import_module(f"advbench.{package}").__path__)))
            try:
                (tree / package).symlink_to(folder, target_is_directory=True)
            except OSError:
                raise ToolMissingError("this system makes no symbolic links: the types are not checked") from None
        ours = file.resolve().parent == (tree / "methods").resolve()
        target = ["-m", f"advbench.methods.{file.stem}"] if ours else [str(file.resolve())]
        cache = os.environ.get("MYPY_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "advbench-mypy")
        lines = _complaints(["mypy", *_MYPY, "--cache-dir", cache, *target], Path(place), MYPYPATH=place)
    if lines:
        errors = [line for line in lines if file.name in line] or lines
        raise CheckError(f"mypy: {errors[0].replace(place, '').lstrip('/')}", f"mypy --strict {file}")
