"""The folder X/ is the package advbench.X, and api/ advbench itself: pyproject, the folders and the wheel agree."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from advbench.benchmark.cli.app import EXTRAS

PACKAGES = ("api", "benchmark", "leaderboards", "methods", "reports")


WITHOUT_TORCH = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = sys.argv[1:]
sys.meta_path.insert(0, Absent)
from advbench.benchmark.cli import main

def run(line, code=0):
    try:
        main(line.split())
    except SystemExit as end:
        assert end.code == code, (line, end.code)

run("leaderboard --protocol digits-linf-full/1")
run("plot tradeoff --protocol digits-linf-full/1 --out figures")
run("site --protocol digits-linf-full/1 --out site")
run("train trades", 2)
"""


def installed(path: Path) -> Path:
    """Where a file, relative to the root, lies once it is installed."""
    return Path("advbench", *path.parts[path.parts[0] == "api" :])


@pytest.fixture(scope="session")
def pyproject(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def wheel(root: Path, tracked: list[Path], plain_environment, tmp_path_factory) -> Path:
    """A wheel built from a copy of the tracked files, where no left-over can get in."""
    source = tmp_path_factory.mktemp("source")
    for path in tracked:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, source / path)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist"), str(source)],
        capture_output=True,
        text=True,
        check=False,
        env=plain_environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def inside(wheel) -> list[str]:
    """Names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_packages_are_exactly_the_folders_with_python_files(pyproject, modules):
    folders = {".".join(installed(path.parent).parts) for path in modules}
    assert set(pyproject["tool"]["setuptools"]["packages"]) == folders


def test_every_package_folder_has_an_init_and_every_top_package_says_it_is_typed(root, modules):
    for folder in {path.parent for path in modules}:
        assert (root / folder / "__init__.py").is_file(), f"{folder} has no __init__.py"
    for package in PACKAGES:
        assert (root / package / "py.typed").is_file(), f"{package}/py.typed is missing"


def test_the_benchmark_package_itself_is_empty(root):
    assert (root / "benchmark/__init__.py").read_text(encoding="utf-8").strip() == ""


def test_the_wheel_holds_advbench_alone(inside):
    top = {name.split("/")[0] for name in inside if ".dist-info/" not in name}
    assert top == {"advbench"}


def test_the_wheel_holds_all_code_protocols_and_type_markers(inside, modules, tracked):
    data = [path for path in tracked if path.match("benchmark/protocols/*.toml")]
    data += [path for path in tracked if path.parts[:2] == ("leaderboards", "records") and path.suffix == ".json"]
    data += [Path(package, "py.typed") for package in PACKAGES]
    assert {installed(path).as_posix() for path in (*modules, *data)} <= set(inside)


def test_the_wheel_holds_no_tables_or_figures_and_only_published_records(inside):
    shown = [name for name in inside if name.startswith(("advbench/leaderboards/", "advbench/reports/"))]
    assert not [name for name in shown if {"tables", "figures"} & set(name.split("/")[2:-1])]
    assert not [name for name in inside if name.endswith((".png", ".pdf", ".safetensors"))]
    records = "advbench/leaderboards/records/"
    assert not [name for name in inside if name.endswith(".json") and not name.startswith(records)]


def test_the_top_package_imports_nothing_that_is_slow(root):
    """Every import of a module of ours runs it first: it may not cost what that module does without."""
    tree = ast.parse((root / "api/__init__.py").read_text(encoding="utf-8"))
    loaded = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) for node in loaded} <= {"importlib", "pathlib", "typing"}
    assert not (root / "advbench").exists(), "a folder of that name would hide the installed package"


def test_dependencies_keep_their_caps(pyproject):
    dependencies, extras = pyproject["project"]["dependencies"], pyproject["project"]["optional-dependencies"]
    assert {"torch>=2.6,<2.14", "torchvision>=0.21,<0.29"} <= set(extras["train"])
    assert any(name.startswith("scipy") for name in dependencies)
    assert extras["robustbench"] == ["advbench[train]", "robustbench==1.1.1", "setuptools>=77.0.3,<82"]
    assert "advbench[train,robustbench,slurm,hub]" in extras["test"]


def test_an_installed_wheel_makes_a_table_a_figure_and_the_site_without_torch(wheel, tmp_path, plain_environment):
    """Outside the repository, without a store: the published records come with the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *(name for modules in EXTRAS.values() for name in modules)],
        cwd=tmp_path / "elsewhere",
        env={**plain_environment, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "digits-linf-full/1" in done.stdout
    assert "error: torch is not installed, which this needs: pip install 'advbench[train]'" in done.stderr
    made = {path.suffix for path in (tmp_path / "elsewhere").rglob("*")}
    assert {".html", ".png"} <= made
