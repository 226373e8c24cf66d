"""What an installation has and what it lacks: versions, device, data, disk, and how to get what is missing."""

import importlib
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from advbench.benchmark.review.finding import Finding, Level

NEEDED = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pyautoattack", "safetensors", "matplotlib")
OPTIONAL = {"robustbench": "only for zoo models: pip install 'advbench[robustbench]'"}
FEW_BYTES = 2_000_000_000
OLDEST = (3, 11)


def examine(data_root: Path | None, store_root: Path) -> list[Finding]:
    """Look at everything; nothing is downloaded or left behind."""
    return [*_versions(), *_device(), *_data(data_root), _store(store_root)]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _found(rule: str, level: Level, message: str, hint: str = "") -> Finding:
    return Finding(rule, level, "", message, hint)


def _versions() -> Iterator[Finding]:
    yield _found("advbench", "ok", _installed("advbench") or "not installed, run from its folder")
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] >= OLDEST:
        yield _found("python", "ok", python)
    else:
        yield _found("python", "missing", python, "install Python 3.11 or newer")
    for name in (*NEEDED, *OPTIONAL):
        found = _installed(name)
        if found is not None:
            yield _found(name, "ok", found)
        elif name in NEEDED:
            hint = f"pip install {name}, or make test, which makes a .venv"
            yield _found(name, "missing", "not installed", hint)
        else:
            yield _found(name, "note", "not installed", OPTIONAL[name])
    try:
        importlib.import_module("advbench.benchmark.torchvision_import").module()
    except (ImportError, OSError) as error:
        yield _found("torch and torchvision", "missing", _line(error), "install versions that belong together")


def _device() -> Iterator[Finding]:
    try:
        import torch  # noqa: PLC0415 (its absence is a finding)

        from advbench.benchmark.runs.environment import cpu_model, usable_cores  # noqa: PLC0415 (imports torch)
    except (ImportError, OSError) as error:
        yield _found("device", "missing", f"torch cannot be imported: {_line(error)}", "install torch again")
        return
    yield _found("processor", "ok", f"{cpu_model()}, {usable_cores()} usable cores")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield _found(f"cuda:{index}", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    elif shutil.which("nvidia-smi") is None:
        yield _found("GPU", "note", "none: digits train in minutes, CIFAR in days")
    elif torch.version.cuda is None:
        message = f"a driver is here, but torch {torch.__version__} was built without CUDA"
        yield _found("GPU", "note", message, "install a CUDA build of torch within the versions of pyproject.toml")
    else:
        message = "a driver is here, but torch sees no GPU"
        yield _found("GPU", "note", message, "look at nvidia-smi and CUDA_VISIBLE_DEVICES")


def _data(root: Path | None) -> Iterator[Finding]:
    try:
        from advbench.benchmark.data import registry  # noqa: PLC0415 (imports torch)
    except (ImportError, OSError) as error:
        yield _found("data", "missing", _line(error), "install what is missing above")
        return
    yield _found("data root", "ok", str(registry.data_root(root)))
    for entry in registry.available(root):
        ready = entry.state in {"ready", "unverified"}
        message = f"{entry.state}: {entry.where}" if entry.where else entry.state
        yield _found(f"data: {entry.name}", "ok" if ready else "note", message, "" if ready else entry.detail)


def _store(root: Path) -> Finding:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    message = f"{root}, {free / 1e9:.0f} GB free"
    if not place.is_dir() or not _writable(place):
        return _found("store", "missing", f"{message}, not writable", "point $ADVBENCH_STORE or --store elsewhere")
    if free < FEW_BYTES:
        hint = "free some disk, or point $ADVBENCH_STORE elsewhere; see advbench prune"
        return _found("store", "note", message, hint)
    return _found("store", "ok", message)


def _writable(folder: Path) -> bool:
    """Whether files can be made here; permissions alone do not tell on every file system."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
