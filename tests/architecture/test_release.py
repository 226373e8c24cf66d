"""What surrounds the code: pinned actions, constraints, citation, containers, links of a released README."""

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d")


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_action_is_pinned_to_a_commit(root):
    uses = [
        line.strip(" -")
        for file in (root / ".github/workflows").glob("*.yml")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert len(uses) > 8
    assert [line for line in uses if not PINNED.match(line)] == []


def test_constraints_are_within_the_bounds_and_hold_every_dependency(root, project):
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["train"])]
    for requirement in wanted:
        name = requirement.name.lower()
        if requirement.marker is None:
            assert requirement.specifier.contains(exact[name]), f"constraints.txt: {name}"


def test_the_citation_is_of_this_version(root, project):
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in text
    assert f"\nlicense: {project['license']}\n" in text


def test_a_released_readme_links_by_whole_addresses(root, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("release", root / ".ci/release.py")
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    with pytest.raises(SystemExit, match="is not version"):
        release.main("v99", "https://host.example/o/advbench", tmp_path)
    release.main(f"v{version}", "https://host.example/o/advbench", tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\]\((?!https?:|#)", text)
    assert f"](https://host.example/o/advbench/raw/v{version}/docs/figures/demo.png)" in text
    assert f"](https://host.example/o/advbench/blob/v{version}/LICENSE)" in text
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Issues"] == "https://host.example/o/advbench/issues"


def test_the_containers_install_the_same(root):
    docker, apptainer = ((root / name).read_text(encoding="utf-8") for name in ("Dockerfile", "apptainer.def"))
    image = re.search(r"FROM (\S+)", docker)[1]
    assert f"Bootstrap: docker\nFrom: {image}\n" in apptainer
    assert set(re.findall(r"^%(\w+)", apptainer, re.MULTILINE)) == {"files", "post", "runscript", "help"}
    for text in (docker, apptainer):
        assert "constraints.txt" in text
        assert "advbench[train]" in text


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_the_dockerfile_passes_its_linter(root):
    done = subprocess.run(["hadolint", root / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
