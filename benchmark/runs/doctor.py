"""Examine an installation: versions, device, data, disk; what is missing and how to mend it."""

import importlib
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

NEEDED = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pyautoattack", "safetensors", "matplotlib")
OPTIONAL = {"robustbench": "only for zoo models: pip install 'advbench[robustbench]'"}
FEW_BYTES = 2_000_000_000
OLDEST = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: "missing" what every run needs; "note" what some runs need, or will.
        mend: what to do; empty where nothing is to be done.
    """

    topic: str
    state: Literal["ok", "note", "missing"]
    found: str
    mend: str = ""


def examine(data_root: Path | None, store_root: Path) -> list[Finding]:
    """Look at everything; nothing is downloaded or left behind."""
    return [*_versions(), *_device(), *_data(data_root), _store(store_root)]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    yield Finding("advbench", "ok", _installed("advbench") or "not installed, run from its folder")
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    new_enough = sys.version_info[:2] >= OLDEST
    yield Finding(
        "python", "ok" if new_enough else "missing", python, "" if new_enough else "install Python 3.11 or newer"
    )
    for name in NEEDED:
        found = _installed(name)
        if found is None:
            yield Finding(name, "missing", "not installed", f"pip install {name}, or make test, which makes a .venv")
        else:
            yield Finding(name, "ok", found)
    for name, mend in OPTIONAL.items():
        found = _installed(name)
        yield Finding(name, "ok", found) if found else Finding(name, "note", "not installed", mend)
    try:
        importlib.import_module("advbench.benchmark.torchvision_import").module()
    except (ImportError, OSError) as error:
        yield Finding("torch and torchvision", "missing", _line(error), "install versions that belong together")


def _device() -> Iterator[Finding]:
    try:
        import torch  # noqa: PLC0415 (its absence is a finding)

        from advbench.benchmark.runs.environment import cpu_model, usable_cores  # noqa: PLC0415 (imports torch)
    except (ImportError, OSError) as error:
        yield Finding("device", "missing", f"torch cannot be imported: {_line(error)}", "install torch again")
        return
    yield Finding("processor", "ok", f"{cpu_model()}, {usable_cores()} usable cores")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding(f"cuda:{index}", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        return
    if shutil.which("nvidia-smi") is None:
        found, mend = "none: digits train in minutes, CIFAR in days", ""
    elif torch.version.cuda is None:
        found = f"a driver is here, but torch {torch.__version__} was built without CUDA"
        mend = "install a CUDA build of torch within the versions of pyproject.toml"
    else:
        found = "a driver is here, but torch sees no GPU"
        mend = "look at nvidia-smi and CUDA_VISIBLE_DEVICES"
    yield Finding("GPU", "note", found, mend)


def _data(root: Path | None) -> Iterator[Finding]:
    try:
        from advbench.benchmark.data import registry  # noqa: PLC0415 (imports torch)
    except (ImportError, OSError) as error:
        yield Finding("data", "missing", _line(error), "install what is missing above")
        return
    yield Finding("data root", "ok", str(registry.data_root(root)))
    for one in registry.available(root):
        ready = one.state in {"ready", "unverified"}
        found = f"{one.state}: {one.where}" if one.where else one.state
        yield Finding(f"data: {one.name}", "ok" if ready else "note", found, "" if ready else one.detail)


def _store(root: Path) -> Finding:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{root}, {free / 1e9:.0f} GB free"
    if not place.is_dir() or not _writable(place):
        return Finding("store", "missing", f"{found}, not writable", "point $ADVBENCH_STORE or --store elsewhere")
    if free < FEW_BYTES:
        return Finding("store", "note", found, "free some disk, or point $ADVBENCH_STORE elsewhere; see advbench prune")
    return Finding("store", "ok", found)


def _writable(folder: Path) -> bool:
    """Whether files can be made here; permissions alone do not tell on every file system."""
    trial = folder / ".advbench-trial"
    try:
        trial.touch()
        trial.unlink()
    except OSError:
        return False
    return True


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
