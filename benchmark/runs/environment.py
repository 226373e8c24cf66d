"""Describe the software and hardware that a piece of work runs on."""

import importlib.metadata
import math
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from advbench.benchmark.records.schema import Environment

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "pyautoattack")


def describe(device: torch.device | str = "cpu") -> Environment:
    """Return what a record says of the machine; strict fp32 unless the caller sets `precision` otherwise."""
    device = torch.device(device)
    return Environment(
        advbench=_version("advbench") or "unknown",
        commit=commit(),
        python=platform.python_version(),
        libraries=_libraries(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        cpu=cpu_model(),
        threads=torch.get_num_threads(),
        precision="fp32",
    )


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity and its container's quota count, not the machine."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max")) or cores))


def _quota(path: Path) -> int | None:
    """Read a cgroup's limit, "MAX PERIOD" in microseconds, as whole cores; None where there is no limit."""
    try:
        limit, period = path.read_text(encoding="ascii").split()
        return None if limit == "max" else math.ceil(int(limit) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _libraries() -> dict[str, str]:
    found = {name: version for name in LIBRARIES if (version := _version(name)) is not None}
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]  # torch
    return found


@cache
def cpu_model() -> str:
    """Return the processor's name with what its results depend on: family, model, and the instructions torch uses.

    The name alone does not tell: virtual machines call several generations "AMD EPYC", and kernels for AVX2 and AVX-512
    add up in different orders.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine() or "unknown"
    detail = [f"{key} {facts[fact]}" for key, fact in (("family", "cpu family"), ("model", "model")) if fact in facts]
    return f"{name} ({', '.join([*detail, torch.backends.cpu.get_cpu_capability()])})"


@cache
def commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """Return the commit of the checkout this code runs from, "-dirty" if tracked files differ; None in a wheel."""
    try:
        top = _git(package, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != package.resolve().parent:
            return None  # installed somewhere inside another project's repository
        head = _git(package, "rev-parse", "HEAD")
        dirty = _git(package, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if dirty else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ("git", "-C", str(folder), *arguments), check=True, capture_output=True, text=True, timeout=10
    )
    return done.stdout.strip()
