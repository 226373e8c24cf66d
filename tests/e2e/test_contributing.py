"""The worked example of CONTRIBUTING.md, to the letter in a copy of the repository; workflows and templates."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from advbench.benchmark.cli import main

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?:^`([^`\n]+)`:\n\n)?^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDERS = ("api", "benchmark", "docs", "leaderboards", "methods", "reports", "tests", ".ci")


@pytest.fixture
def clone(tmp_path):
    """A copy of the repository whose packages are what `advbench` means in it."""
    place = tmp_path / "clone"
    skip = shutil.ignore_patterns("__pycache__", "records", "figures", ".mypy_cache")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, place / folder, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", place)
    packages = tmp_path / "packages/advbench"
    packages.mkdir(parents=True)
    for folder in ("benchmark", "leaderboards", "methods", "reports"):
        (packages / folder).symlink_to(place / folder, target_is_directory=True)
    (packages / "__init__.py").symlink_to(place / "api/__init__.py")
    return place


def environment(clone):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_", "ADVBENCH_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(clone.parent / "packages"), "OMP_NUM_THREADS": "1"}
    return {**kept, **own, "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache/check")}


def run(command, clone, code=0):
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=clone, env=environment(clone), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, f"$ {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(os.name == "nt", reason="symbolic links and a shell are needed")
@pytest.mark.soak
def test_the_worked_example_works_to_the_letter(clone):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    example = text[text.index("## A new defense in an afternoon") : text.index("### What the checks cannot stop")]
    output = {}
    for file, kind, body in BLOCK.findall(example):
        if kind == "python":
            assert (clone / file).exists(), f"{file} is to be filled in, so new-method must have begun it"
            (clone / file).write_text(body, encoding="utf-8")
            continue
        for command in body.splitlines():
            output[command] = run(command, clone)
    commands = " ".join(output)
    for step in ("new-method", "pytest", "check", "run-all", "submit", "validate", "publish", "leaderboard"):
        assert step in commands
    report = (clone / "report.md").read_text(encoding="utf-8")
    assert "## `advbench check mixed`" in report
    assert "failed" not in report
    assert "attacks on best | clean" in report
    assert "nothing to do" in next(out for command, out in output.items() if "run-all" in command)
    assert "refused" not in output["advbench validate mixed.zip"]
    assert "Mixed" in output["advbench leaderboard --records records"]
    assert "unofficial protocol" in output["advbench leaderboard --records records"]
    with zipfile.ZipFile(clone / "mixed.zip") as archive:
        assert "methods/mixed.py" in archive.namelist()


def test_workflows_and_templates_fit_githubs_schemas():
    pytest.importorskip("check_jsonschema")
    for schema, pattern in (("github-workflows", "workflows/*.yml"), ("github-issue-forms", "ISSUE_TEMPLATE/*.yml")):
        files = sorted(map(str, (ROOT / ".github").glob(pattern)))
        assert len(files) >= 3
        words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_workflows_run_the_commands_that_run_locally():
    """Every step is a make target, a script of .ci/ or advbench itself; a server alone only publishes."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    steps = []
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        text = file.read_text(encoding="utf-8")
        assert "permissions: { contents: read }" in text
        assert "pull_request_target" not in text, "it would give a stranger's code the repository's secrets"
        steps += re.findall(r"run: (.+)$", text, re.MULTILINE)
    assert len(steps) >= 6
    for step in steps:
        word, *rest = step.split()
        if word == "make":
            assert rest[0] in targets
        elif word.startswith(".ci/"):
            assert os.access(ROOT / word, os.X_OK)
        else:
            assert word in {".venv/bin/advbench", "cat"} or step.startswith("gh release create "), step
    changed = (ROOT / ".ci/changed").read_text(encoding="utf-8")
    assert "check " in changed
    assert "validate --changed" in changed


def commands(text: str) -> list[list[str]]:
    """Return the advbench commands in a text, as words; a line that ends in a backslash goes on."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|[`/ ])advbench ((?:export )?[a-z][a-z-]+ [^`#]*)", line) for line in lines]
    return [shlex.split(match.group(1)) for match in found if match is not None]


def options(words: list[str]) -> set[str]:
    """Return the options that a command knows."""
    context = click.Context(main)
    command = main.get_command(context, words[0])
    assert command is not None, words
    if isinstance(command, click.Group):
        command = command.get_command(context, words[1])
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def test_every_command_in_templates_workflows_and_container_is_one():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    texts = [text[text.index("### 5. Train") :]]
    texts += [file.read_text(encoding="utf-8") for file in (ROOT / ".github").rglob("*") if file.is_file()]
    found = [words for one in texts for words in commands(one)]
    named = {words[0] for words in found}
    assert {"verify", "validate", "check", "site", "leaderboard", "publish", "train", "evaluate"} <= named
    for words in found:
        used = {word for word in words if word.startswith("--")}
        assert used <= options(words), words


def test_how_a_row_is_found_too_weak_is_said_where_it_is_asked():
    template = (ROOT / ".github/ISSUE_TEMPLATE/weak-evaluation.yml").read_text(encoding="utf-8")
    for text in (template, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert re.search(r"advbench verify RECORD --adversarial FILE", text)
        for key in ("x_adv", "index", "checkpoint"):
            assert f"`{key}`" in text


@pytest.mark.skipif(shutil.which("git") is None or os.name == "nt", reason="git and bash are needed")
def test_the_script_of_the_workflow_checks_what_a_branch_changes(tmp_path):
    """advbench is stood in for by a script that notes its words."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/old.py").touch()
    shutil.copy(ROOT / ".ci/changed", tmp_path / ".ci")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/advbench").write_text('#!/bin/sh\necho "$@" >> log\n', encoding="utf-8")
    (tmp_path / "bin/advbench").chmod(0o755)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    (tmp_path / "methods/new.py").touch()
    subprocess.run([*git, "add", "."], cwd=tmp_path, check=True)
    subprocess.run([".ci/changed", "HEAD"], cwd=tmp_path, check=True, env={**os.environ, "BIN": "bin"})
    log = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert log == ["check methods/new.py --markdown report.md", "validate --changed --base HEAD"]
