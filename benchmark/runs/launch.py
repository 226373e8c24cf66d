"""Launch jobs: devices and cores shared out, data made ready once, time and disk estimated."""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.benchmark.data import registry
from advbench.benchmark.data.download import DOWNLOADABLE
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.models import architectures
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.runs.amounts import duration, size
from advbench.benchmark.runs.environment import usable_cores
from advbench.benchmark.runs.estimate import Estimate, Machine, disk, estimate, history, past
from advbench.benchmark.runs.executors.local import share
from advbench.benchmark.runs.executors.slurm.sizing import Placement
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.plan import Catalogue, sizes
from advbench.benchmark.runs.store import Store

_PROBE_FLOP, _PROBE_SECONDS = 2e10, 1.0
"""How a machine's speed is measured: work of the forward at most, and for how long each network is tried."""


class LaunchError(ValueError):
    """Jobs that cannot be launched here; the message is one line."""


@dataclass(frozen=True)
class Means:
    """What there is to work with.

    Attributes:
        device: "cpu", "cuda", "cuda:1": what a worker computes on.
        workers, threads: jobs at once, and threads of each.
        gpus: GPUs shared out, one to each worker; empty: all workers see the same.
        placement: how jobs go to a cluster; None: they stay here.
    """

    store: Store
    data_root: Path | None
    device: str
    workers: int
    threads: int
    gpus: tuple[str, ...] = ()
    placement: Placement | None = None

    @property
    def summary(self) -> str:
        """The means in words."""
        if self.placement is not None and self.placement.profile.parallel is None:
            return f"as many jobs at once as Slurm starts, on {self.device}"
        jobs = "1 job" if self.workers == 1 else f"{self.workers} jobs"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{jobs} at once on {self.device}, {threads} each"


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is a GPU if there is one.

    Raises:
        LaunchError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise LaunchError(f"--device {name}: not on this machine; `advbench doctor` shows what is here") from None
    return device


def means(
    store: Store, data_root: Path | None, device: str, jobs: int | None, placement: Placement | None = None
) -> Means:
    """Share out the machine, or what jobs ask of the cluster.

    Raises:
        LaunchError: if there is no such device here.
    """
    if placement is not None:
        if jobs is not None:
            raise LaunchError("--jobs is for this machine; with --executor slurm it is --parallel")
        workers = placement.profile.parallel or 1
        return Means(store, data_root, placement.device(device), workers, placement.threads, placement=placement)
    chosen = choose_device(device)
    gpus: tuple[str, ...] = ()
    if str(chosen) == "cuda":  # no number: all that are visible
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        named = [part.strip() for part in visible.split(",")] if visible else []
        gpus = tuple(
            (named or [str(number) for number in range(torch.cuda.device_count())])[: torch.cuda.device_count()]
        )
    on_gpu = max(1, len(gpus)) if chosen.type != "cpu" else 0
    workers, threads = share(usable_cores(), on_gpu, jobs)
    return Means(store, data_root, str(chosen), workers, threads, gpus)


def limit_threads() -> None:
    """Let torch use no more threads than there are cores for this process: waiting for cores costs more than it gains.

    Torch counts the machine's cores, whatever share of them a container has.
    """
    if torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())


def make_ready(protocols: Iterable[Protocol], data_root: Path | None, *, download: bool = True) -> None:
    """Refuse what no worker could do, before hours are spent; download data that are not there, once.

    Args:
        protocols: of the jobs that are due.
        data_root: where data sets lie; None: `$ADVBENCH_DATA` or the default.
        download: whether data that can be had are fetched now; if not, they are taken for granted.

    Raises:
        LaunchError: for a network that there is not, or splits that leave too little.
        DataError: if data are missing and cannot be had, broken, or too few; one line that says how to get them.
    """
    root = registry.data_root(data_root)
    for protocol in protocols:
        if protocol.network not in architectures.names():
            known = ", ".join(architectures.names())
            raise LaunchError(f"{protocol.name}: network: there is no {protocol.network!r}; there are: {known}")
        data, batch = protocol.data, protocol.training.batch
        left = sizes(data)
        if left is not None and (left[0] < batch or left[1] < 1):
            raise LaunchError(
                f"{protocol.name}: data.validation = {data.validation} and data.test = {data.test} leave "
                f"{max(0, left[0])} training and {max(0, left[1])} test images of {data.name}, for batches of {batch}"
            )
        is_fetched = data.name in DOWNLOADABLE and not registry.is_here(data.name, root)
        if data.name != "digits" and (download or not is_fetched):
            registry.load(data, root=data_root)


def estimates(jobs: Sequence[Job], using: Means, catalogue: Catalogue) -> tuple[dict[str, Estimate], str]:
    """Return what each job will take, by job id, and one line about all of them.

    Raises:
        LaunchError: if the disk has no room for it.
    """
    known = history(using.store)
    machine = _machine({job.run.protocol.network: job.run.protocol for job in jobs}.values(), using)
    found = {job.id: estimate(job, catalogue, known, machine) for job in jobs}
    guessed = any(job.basis in {"unknown", "assumed"} for job in found.values())
    ratios = past(known, catalogue, machine) if guessed else ()
    before = f"; earlier trainings here took {ratios[0]:.1f} to {ratios[-1]:.1f} times as long" if ratios else ""
    counted = [job.seconds for job in found.values() if job.seconds is not None]
    seconds, needed = sum(counted) / using.workers, disk(jobs, known, machine)
    space = "unknown" if needed is None else size(needed)
    place = next(path for path in (using.store.root.absolute(), *using.store.root.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed is not None and needed > free:
        raise LaunchError(
            f"{using.store.root}: needs about {space}, and {size(free)} are free there; "
            "`advbench prune` shows what may go, --store puts it elsewhere"
        )
    rest = f", {len(found) - len(counted)} jobs not counted" if len(counted) < len(found) else ""
    basis = f"a guess from a short run{before}" if guessed else "from what such work took here"
    return found, f"{len(jobs)} jobs, about {duration(seconds)} ({basis}{rest}), disk about {space}; {using.summary}"


def _machine(protocols: Iterable[Protocol], using: Means) -> Machine:
    """Return the cost of the networks, and the speed of this machine on the first of them."""
    seconds: dict[str, float] = {}
    parameters: dict[str, int] = {}
    for protocol in protocols:
        known = KNOWN.get(protocol.data.name)
        if known is None:
            continue
        channels, side = known.shape[0], protocol.data.side or known.shape[1]
        network = architectures.build(protocol.network, num_classes=known.num_classes, channels=channels)
        parameters[protocol.network] = architectures.count_parameters(network)
        seconds[protocol.network] = _seconds(network, (channels, side, side), protocol.training.batch, using)
    return Machine(seconds, parameters)


def _seconds(network: torch.nn.Module, shape: tuple[int, int, int], batch: int, using: Means) -> float:
    """Measure the seconds of a forward F of one image: half of a forward with its input gradient.

    The fastest of some batches, since a busy machine makes single ones slow; large networks are tried on fewer images.
    """
    device = torch.device(using.device if using.placement is None or torch.cuda.is_available() else "cpu")
    flop = float(architectures.count_flops(network, shape))
    images = torch.rand(max(1, min(batch, int(_PROBE_FLOP / flop))), *shape, device=device)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(using.threads)
    fastest, began = float("inf"), time.perf_counter()
    try:
        network = network.to(device).eval().requires_grad_(False)
        while time.perf_counter() - began < _PROBE_SECONDS or fastest == float("inf"):
            started = time.perf_counter()
            torch.autograd.grad(network(images).sum(), images)[0].sum().item()
            fastest = min(fastest, time.perf_counter() - started)
        return fastest / len(images) / 2
    finally:
        torch.set_num_threads(before)
