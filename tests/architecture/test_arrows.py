"""The arrows that must never exist: contracts of import-linter, and what its graph cannot see."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("api", "benchmark", "leaderboards", "methods", "reports")
PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    heavy = [one for one in ("torch", "torchvision", "pyautoattack") if one in sys.modules]
    if heavy:
        sys.exit(f"{name} loads {heavy}")
"""
OF_A_METHOD = {"advbench.benchmark.losses", "advbench.benchmark.method", "advbench.benchmark.weights", "torch"}
STANDARD = {"__future__", "abc", "collections", "copy", "dataclasses", "functools", "itertools", "math", "typing"}


def dotted(path: Path) -> str:
    """The name under which a file, relative to the root, is imported: X/ is advbench.X, and api/ advbench itself."""
    parts = path.with_suffix("").parts
    return ".".join(("advbench", *parts[parts[0] == "api" :])).removesuffix(".__init__")


MODULES = {dotted(path.relative_to(ROOT)) for package in OURS for path in (ROOT / package).rglob("*.py")}


def lint_imports(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module in {"advbench.benchmark", "advbench"}:
                found = (found - {node.module}) | inside
            elif inside & MODULES:
                found = (found - {node.module}) | (inside & MODULES)
    return found


@pytest.fixture(scope="module")
def contracts(root) -> list[dict]:
    plain = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return plain["tool"]["importlinter"]["contracts"]


@pytest.fixture(scope="module")
def copy(root, modules, tmp_path_factory) -> Path:
    """A folder in which the files lie as they are imported."""
    copy = tmp_path_factory.mktemp("copy")
    for path in modules:
        place = copy / "advbench" / path.relative_to("api" if path.parts[0] == "api" else "")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, place)
    shutil.copyfile(root / "pyproject.toml", copy / "pyproject.toml")
    return copy


def test_contracts_are_kept(copy, plain_environment):
    done = lint_imports(copy, {**plain_environment, "PYTHONPATH": str(copy)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.fixture(scope="module")
def broken(copy, plain_environment, tmp_path_factory) -> str:
    """What import-linter says of a copy into which every forbidden arrow was drawn."""
    copy = shutil.copytree(copy, tmp_path_factory.mktemp("broken") / "copy")
    drawn = {
        "methods/cheat.py": "import advbench.benchmark.training.trainer\nimport advbench.methods.standard\n",
        "benchmark/attacks/cheat.py": "import advbench.benchmark.method\nimport advbench.benchmark.runs.store\n",
        "benchmark/records/cheat.py": "import advbench.methods.standard\nimport torch\n",
        "leaderboards/cheat.py": "import advbench.benchmark.runs.store\nimport advbench.reports.cost\n",
        "benchmark/runs/executors/cheat.py": "import torch\n",
    }
    for name, text in drawn.items():
        (copy / "advbench" / name).write_text(text, encoding="utf-8")
    done = lint_imports(copy, {**plain_environment, "PYTHONPATH": str(copy)})
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_every_contract_notices_a_forbidden_arrow(contracts, broken):
    for contract in contracts:
        assert f"{contract['name']} BROKEN" in broken


def test_no_contract_has_an_exemption(contracts):
    for contract in contracts:
        assert not {key for key in contract if key.startswith(("ignore", "allow"))}, contract["id"]


def test_no_circle_of_modules(root, modules):
    """Layers forbid circles between rooms; this forbids them within one."""
    files = {dotted(path): path for path in modules}
    arrows = {name: sorted(imported(root / path) & files.keys() - {name}) for name, path in files.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in arrows[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


def test_the_benchmark_has_at_most_nine_modules_and_nine_rooms(modules):
    inside = [path.parts[1:] for path in modules if path.parts[0] == "benchmark"]
    assert len({parts for parts in inside if len(parts) == 1} - {("__init__.py",)}) <= 9
    assert len({parts[0] for parts in inside if len(parts) > 1} - {"protocols"}) <= 9, "protocols/ holds TOML files"


@pytest.fixture(scope="module")
def torch_free(contracts) -> list[str]:
    """What the contract says must do without torch."""
    found = [one for one in contracts if one["id"] in {"tables-need-no-torch", "runs-are-planned-without-torch"}]
    assert len(found) == 2
    return [name for contract in found for name in contract["source_modules"]]


def test_the_contract_on_torch_names_what_must_do_without(torch_free):
    promised = {"files", "protocol", "records", "runs.job", "runs.plan", "runs.store"}
    assert {f"advbench.benchmark.{name}" for name in promised} <= set(torch_free)
    assert {"advbench.leaderboards", "advbench.reports"} <= set(torch_free)


def test_the_contract_on_torch_names_every_module_that_says_so(root, modules, torch_free):
    for path in modules:
        said = ast.get_docstring(ast.parse((root / path).read_text(encoding="utf-8"))) or ""
        if re.search(r"torch-free|free of torch", said, re.IGNORECASE):
            name = dotted(path)
            assert any(name == one or name.startswith(f"{one}.") for one in torch_free), (
                f"{path} says that it is free of torch: add it to the contract in pyproject.toml"
            )


def test_torch_stays_out_of_everything_that_must_do_without(modules, torch_free, plain_environment):
    """Import-linter does not see dynamic imports, nor those of other people's packages; a fresh interpreter does."""
    every = [dotted(path) for path in modules]
    names = [name for name in every if any(name == one or name.startswith(f"{one}.") for one in torch_free)]
    assert len(names) >= len(torch_free)
    names += [
        name for name in every if name.startswith("advbench.benchmark.cli")
    ]  # quick help needs a light command line
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=False, env=plain_environment
    )
    assert done.returncode == 0, done.stderr


def test_our_packages_are_imported_under_advbench_only(root, tracked):
    """`import benchmark` would load a second copy of every module from the repository's root."""
    for path in tracked:
        if path.suffix == ".py":
            for name in imported(root / path):
                assert name.split(".")[0] not in {*OURS, "tests"}, f"{path} imports {name}; write advbench.{name}"


def test_a_method_imports_the_interface_torch_and_little_else(root, modules):
    for path in modules:
        if path.parts[0] == "methods" and path.name != "__init__.py":
            for name in imported(root / path):
                allowed = name in OF_A_METHOD or name.startswith("torch.") or name.split(".")[0] in STANDARD
                assert allowed, f"{path} imports {name}; a method needs only {sorted(OF_A_METHOD)}"
