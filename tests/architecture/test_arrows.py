"""The arrows that must never exist: contracts of import-linter, and what its graph cannot see."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

OURS = ("benchmark", "leaderboards", "methods", "reports")
TORCH_FREE = ("jobs", "plan", "protocol", "records", "statistics", "store")
OF_A_METHOD = {"advbench.benchmark.losses", "advbench.benchmark.method", "advbench.benchmark.weights", "torch"}
STANDARD = {"__future__", "collections", "copy", "dataclasses", "functools", "itertools", "math", "typing"}


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
            if node.module in {"advbench.benchmark", "advbench"}:
                found.remove(node.module)
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_contracts_are_kept(root, plain_environment):
    done = lint_imports(root, plain_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.fixture(scope="module")
def broken(root, modules, plain_environment, tmp_path_factory) -> str:
    """What import-linter says of a copy into which every forbidden arrow was drawn."""
    copy = tmp_path_factory.mktemp("copy")
    for path in modules:
        (copy / "advbench" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, copy / "advbench" / path)
    shutil.copyfile(root / "pyproject.toml", copy / "pyproject.toml")
    drawn = {
        "methods/cheat.py": "import advbench.benchmark.trainer\nimport advbench.methods.standard\n",
        "benchmark/attacks/cheat.py": "import advbench.benchmark.method\n",
        "benchmark/cheat.py": "import advbench.methods.standard\nimport torch\n",
        "leaderboards/cheat.py": "import advbench.benchmark.cheat\nimport advbench.benchmark.store\n",
        "benchmark/executors/cheat.py": "import advbench.benchmark.trainer\n",
    }
    for name, text in drawn.items():
        (copy / "advbench" / name).write_text(text, encoding="utf-8")
    done = lint_imports(copy, {**plain_environment, "PYTHONPATH": str(copy)})
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_every_contract_notices_a_forbidden_arrow(root, broken):
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    for contract in contracts:
        assert f"{contract['name']} BROKEN" in broken


def test_the_contract_on_torch_names_every_module_that_must_do_without(root):
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (contract,) = (one for one in contracts if one["id"] == "tables-need-no-torch")
    expected = {f"advbench.benchmark.{name}" for name in TORCH_FREE} | {"advbench.leaderboards", "advbench.reports"}
    assert expected <= set(contract["source_modules"])
    assert not contract.get("allow_indirect_imports")


def test_torch_stays_out_of_everything_that_must_do_without(modules, plain_environment):
    """Import-linter does not see dynamic imports, nor those of other people's packages; a fresh interpreter does."""
    tables = [path.with_suffix("").parts for path in modules if path.parts[0] in {"leaderboards", "reports"}]
    names = [f"advbench.benchmark.{name}" for name in TORCH_FREE]
    names += ["advbench." + ".".join(parts).removesuffix(".__init__") for parts in tables]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = [one for one in ('torch', 'torchvision', 'pyautoattack') if one in sys.modules]\n"
        "    if heavy: sys.exit(f'{name} loads {heavy}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=plain_environment
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
        if path.parts[0] == "methods":
            for name in imported(root / path):
                allowed = name in OF_A_METHOD or name.startswith("torch.") or name.split(".")[0] in STANDARD
                assert allowed, f"{path} imports {name}; a method needs only {sorted(OF_A_METHOD)}"
