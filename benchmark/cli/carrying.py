"""Have jobs done, here or on a cluster: devices and cores shared out, data made ready once, progress shown."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.cluster import Placement, cut, refuse_short
from advbench.benchmark.cli.console import duration, size
from advbench.benchmark.cli.progress import Display, Meter
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.runs.estimate import Estimate, Machine, estimate, history, total
from advbench.benchmark.runs.executors.base import Errand, Outcome
from advbench.benchmark.runs.executors.local import Local, share
from advbench.benchmark.runs.job import Job
from advbench.benchmark.runs.plan import Catalogue
from advbench.benchmark.runs.store import Store

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.runs.executors.slurm.executor import Queued

PERFORM = "advbench.benchmark.runs.perform:perform"
_PROBE_FLOP = 2e10
"""Work of the forward that measures the speed of a machine: a second or so on one core."""
_UNKNOWN_SECONDS = 60.0


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
    def said(self) -> str:
        """The means in words."""
        if self.placement is not None and self.placement.profile.parallel is None:
            return f"as many jobs at once as Slurm starts, on {self.device}"
        jobs = "1 job" if self.workers == 1 else f"{self.workers} jobs"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{jobs} at once on {self.device}, {threads} each"


def choose_device(name: str) -> "torch.device":
    """Return the device of that name; "auto" is a GPU if there is one.

    Raises:
        Refused: if there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise Refused(f"--device {name}: not on this machine; `advbench doctor` shows what is here") from None
    return device


def means(
    store: Store, data_root: Path | None, device: str, jobs: int | None, placement: Placement | None = None
) -> Means:
    """Share out the machine, or what jobs ask of the cluster.

    Raises:
        Refused: if there is no such device here.
    """
    import torch

    from advbench.benchmark.runs.environment import usable_cores

    if placement is not None:
        if jobs is not None:
            raise Refused("--jobs is for this machine; with --executor slurm it is --parallel")
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


def make_ready(protocols: Iterable[Protocol], data_root: Path | None) -> None:
    """Refuse what no worker could do, and download data that are not there, once.

    Raises:
        Refused: for a network that there is not.
        DataError: if data are missing and cannot be had; one line with the mend.
    """
    from advbench.benchmark.data import registry
    from advbench.benchmark.data.sources import KNOWN
    from advbench.benchmark.models import architectures

    root = registry.data_root(data_root)
    for protocol in protocols:
        if protocol.network not in architectures.names():
            known = ", ".join(architectures.names())
            raise Refused(f"{protocol.name}: network: there is no {protocol.network!r}; there are: {known}")
        name = protocol.data.name
        folder = root / KNOWN[name].folder if name in KNOWN and KNOWN[name].folder else None
        there = name == "digits" or (root / f"{name}.npz").exists() or (folder is not None and folder.exists())
        if not there:
            registry.load(protocol.data, root=data_root)


def estimates(jobs: Sequence[Job], using: Means, catalogue: Catalogue) -> tuple[dict[str, Estimate], str]:
    """Return what each job will take, by job id, and one line about all of them."""
    known = history(using.store)
    machine = _machine({job.run.protocol.network: job.run.protocol for job in jobs}.values(), using)
    found = {job.id: estimate(job, catalogue, known, machine) for job in jobs}
    guessed = any(one.basis in {"unknown", "assumed"} for one in found.values())
    together = total(jobs, catalogue, known, machine)
    seconds = together.sum / using.workers
    disk = "unknown" if together.bytes is None else size(together.bytes)
    rest = f", {together.unknown} jobs not counted" if together.unknown else ""
    basis = "a guess from a short trial" if guessed else "from what such work took here"
    return found, f"{len(jobs)} jobs, about {duration(seconds)} ({basis}{rest}), disk about {disk}; {using.said}"


def _machine(protocols: Iterable[Protocol], using: Means) -> Machine:
    """Return the cost of the networks, and the speed of this machine on the first of them."""
    from advbench.benchmark.data.sources import KNOWN
    from advbench.benchmark.models import architectures

    flop: dict[str, float] = {}
    parameters: dict[str, int] = {}
    speed = 0.0
    for protocol in protocols:
        known = KNOWN.get(protocol.data.name)
        if known is None:
            continue
        network = architectures.build(protocol.network, num_classes=known.num_classes, channels=known.shape[0])
        flop[protocol.network] = float(architectures.count_flops(network, known.shape))
        parameters[protocol.network] = architectures.count_parameters(network)
        speed = speed or _speed(network, known.shape, flop[protocol.network], using)
    return Machine(flop, speed, parameters)


def _speed(network: "torch.nn.Module", shape: Sequence[int], flop: float, using: Means) -> float:
    """Measure FLOP per second in one forward after a first one."""
    import torch

    device = torch.device(using.device if using.placement is None or torch.cuda.is_available() else "cpu")
    images = torch.rand(max(1, min(256, int(_PROBE_FLOP / flop))), *shape, device=device)
    before = torch.get_num_threads()
    torch.set_num_threads(using.threads)
    try:
        network = network.to(device).eval()
        with torch.no_grad():
            network(images[:1]).sum().item()
            began = time.perf_counter()
            network(images).sum().item()
            return len(images) * flop / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)


def carry_out(jobs: Sequence[Job], using: Means, catalogue: Catalogue) -> Outcome | None:
    """Have jobs done and show how they go; return None if they are left to Slurm.

    Raises:
        ExecutorError: if no job can be started at all.
    """
    expected, said = estimates(jobs, using, catalogue)
    arguments = {
        "store_root": str(using.store.root.absolute()),
        "data_root": None if using.data_root is None else str(using.data_root.absolute()),
        "device": using.device,
        "threads": using.threads,
    }
    if using.placement is not None:
        outcome = _on_cluster(jobs, using, using.placement, (expected, catalogue), arguments)
        if outcome is None:
            return None
    else:
        click.echo(said, err=True)
        executor = Local(using.store, using.workers, using.threads, using.gpus)
        with Display(Meter(_weights(expected), using.workers)) as display:
            outcome = executor.execute(jobs, Errand(PERFORM, arguments), display)
    for job, reason in outcome.failed:
        click.echo(f"failed: {job.label}: {reason}", err=True)
    if outcome.blocked:
        click.echo(f"{len(outcome.blocked)} jobs were not begun, since they need what failed", err=True)
    return outcome


def _weights(expected: Mapping[str, Estimate]) -> dict[str, float]:
    return {job: one.seconds if one.seconds is not None else _UNKNOWN_SECONDS for job, one in expected.items()}


def _on_cluster(
    jobs: Sequence[Job],
    using: Means,
    placement: Placement,
    known: tuple[Mapping[str, Estimate], Catalogue],
    arguments: dict[str, Any],
) -> Outcome | None:
    """Queue jobs, and watch them unless they are to be left alone."""
    from advbench.benchmark.data import registry
    from advbench.benchmark.runs.executors.slurm.executor import Slurm, here

    reads = any(job.run.protocol.data.name != "digits" for job in jobs)
    root = registry.data_root(using.data_root).absolute()
    arguments = {**arguments, "data_root": str(root)}
    slurm = Slurm(using.store, placement.profile, here(), root if reads else None)
    _, profile = slurm.examine()
    expected, catalogue = known
    tried = using.device == "cpu" or choose_device("auto").type == "cuda"
    refuse_short(jobs, expected, profile, tried=tried)
    parts = cut(jobs, expected, profile)
    expected, said = estimates(parts, using, catalogue)
    click.echo(said, err=True)
    errand = Errand(PERFORM, arguments)
    if placement.detach:
        _say(slurm.submit(parts, errand))
        return None
    with Display(Meter(_weights(expected), using.workers)) as display:
        watching = replace(slurm, on_queue=display.note)
        try:
            return watching.execute(parts, errand, display)
        except KeyboardInterrupt:
            display.note("jobs that are queued go on; `advbench status` shows them, `advbench cancel` ends them")
            raise


def _say(queued: "Queued") -> None:
    """Say what a command left in the queue."""
    arrays = f" in {len(queued.arrays)} arrays ({_few(queued.arrays)})" if queued.arrays else ""
    before = f", {queued.before} were queued before" if queued.before else ""
    click.echo(f"queued {queued.jobs} jobs{arrays}{before}; `advbench status` shows them, `advbench cancel` ends them")
    if queued.unsent:
        click.echo(f"{queued.unsent} jobs found no room in the queue; the same command queues them later", err=True)


def _few(words: Sequence[str]) -> str:
    return ", ".join(words) if len(words) <= 4 else f"{words[0]} … {words[-1]}"
