"""Style and types as tests, with the same commands as `make lint`; limits that no linter knows."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

THIS = Path("tests/architecture/test_style.py")
PROSE = {".cff", ".cfg", ".html", ".ini", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
PRIVATE = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)(?:/|\b)(?!\.\w+\.)"),
    "an index of packages": re.compile(
        r"--(?:extra-)?index-url|--find-links|pypi\.org/simple|pythonhosted\.org|download\.pytorch\.org/whl"
    ),
    "how the text was made": re.compile(
        r"\b(?:sub-?agents?|(?:coding|AI|this|another) (?:agent|session|helper)s?|language model|co-authored-by)\b",
        re.IGNORECASE,
    ),
}


def run(command: list[str], root: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_ruff_finds_nothing(root, plain_environment):
    run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], root, plain_environment)


def test_the_formatter_changes_nothing(root, plain_environment):
    run([sys.executable, "-m", "ruff", "format", "--check", "--no-cache", "."], root, plain_environment)


@pytest.mark.skipif(os.name == "nt", reason="the type check needs symbolic links")
def test_types_hold_strictly(root, plain_environment):
    said = run([str(root / ".ci/types")], root, {**plain_environment, "PYTHON": sys.executable})
    assert "no issues found" in said


def test_no_python_file_reaches_400_lines(root, tracked):
    for path in tracked:
        if path.suffix == ".py":
            lines = len((root / path).read_text(encoding="utf-8").splitlines())
            assert lines < 400, f"{path} has {lines} lines; split it by what its parts are about"


def test_every_class_has_a_name_of_its_own(root, modules):
    owner: dict[str, Path] = {}
    for path in modules:
        for node in ast.parse((root / path).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in owner, f"{node.name} stands in {owner[node.name]} and in {path}"
                owner[node.name] = path


MANY_PARAMETERS = {
    "evaluate_shard": "what is attacked, where it lies in the test set, and four choices off the board",
    "train": "the one door to training: what is trained, where, with which teachers, and who listens",
    "make_step": "every choice of a protocol that a method can feel, each varied alone by a check",
    "TrainingStep": "built in one place, by the trainer, of its own parts",
}
"""Functions with more than eight parameters, and why; all take them by name."""


def test_no_function_has_more_than_eight_parameters_without_a_reason(root, modules):
    found = set()
    for path in modules:
        for owner in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
            for node in ast.iter_child_nodes(owner):
                if (isinstance(node, ast.FunctionDef) and not node.name.startswith("_")) or is_constructor(node):
                    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                    if len([each for each in arguments if each.arg != "self"]) > 8:
                        found.add(owner.name if is_constructor(node) else node.name)
                        assert len(node.args.posonlyargs + node.args.args) <= 4, f"{path}: {node.name}: by name, please"
    assert found == set(MANY_PARAMETERS), "a value object, or a reason"


def is_constructor(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


WAIVER = re.compile(r"# noqa(?!: [A-Z0-9, ]+ \()|# type: ignore(?!\[[^\]]*\]\s+#)")


def test_every_waiver_has_a_reason(root, modules):
    for path in modules:
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
            assert not WAIVER.search(line), (
                f"{path}:{number}: say why: # noqa: X (why), # type: ignore[x]  # why: {line.strip()}"
            )


def test_no_drawer_for_everything(tracked):
    for path in tracked:
        assert path.stem not in {"common", "helper", "helpers", "misc", "util", "utils"}, (
            f"{path}: name it by its content"
        )


def test_nothing_private_is_published(root, tracked):
    for path in tracked:
        if path.suffix in PROSE and path != THIS:
            text = (root / path).read_text(encoding="utf-8")
            for what, pattern in PRIVATE.items():
                found = pattern.search(text)
                assert not found, f"{path} tells {what}: {found.group()!r}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /work/data", "a path of one machine"),
        ('Path("/home/ann/x")', "a path of one machine"),
        ("pip install --index-url X", "an index of packages"),
        ("left to another session", "how the text was made"),
    ],
)
def test_private_things_are_recognised(text, what):
    assert PRIVATE[what].search(text)


def test_every_commit_hook_and_target_uses_the_same_commands(root):
    hooks = (root / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for command in ("ruff check", "ruff format", ".ci/types", "lint-imports"):
        assert command in hooks
        assert command in makefile
    assert "make test" in (root / ".ci/run").read_text(encoding="utf-8")
