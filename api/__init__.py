"""advbench from Python: boards, networks, training and attacks in a line each.

    from advbench import evaluate, load_board, load_model, methods, protocols, train

    load_board("digits-linf-full")                  # the published board; in a notebook it shows itself
    run = train("trades", "digits-linf", beta=3.0)  # a folder of the store; what is done is not done again
    evaluate(run).accuracy("autoattack")            # outcomes of every test image are kept
    network = load_model(run)                       # a torch.nn.Module in eval mode

Importing advbench loads neither torch nor anything else of ours: every call imports what it needs.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from torch import nn

    from advbench.benchmark import protocols
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import Evaluation
    from advbench.benchmark.runs.job import Job
    from advbench.benchmark.runs.launch import Means
    from advbench.benchmark.runs.run_folder import RunFolder
    from advbench.leaderboards.table import Table

    Place = str | os.PathLike[str]

__all__ = ["evaluate", "load_board", "load_model", "methods", "protocols", "train"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module or a text)
    if name == "__version__":
        return import_module("importlib.metadata").version("advbench")
    if name == "protocols":
        return import_module("advbench.benchmark.protocols")
    raise AttributeError(f"module 'advbench' has no attribute {name!r}")


def load_board(protocol: "str | Protocol", *, records: "Place | None" = None, store: "Place | None" = None) -> "Table":
    """Return the board of a protocol, from the published records unless others are named.

    Args:
        protocol: a name ("digits-linf-full" is the newest version with records), a TOML file, or a protocol.
        records: a folder of records, such as what `advbench publish` wrote.
        store: a folder of runs instead.

    Raises:
        ProtocolError: if there is no such protocol.
        BoardError: if there is no record of it.
    """
    from advbench.benchmark.protocol import resolve, versions
    from advbench.benchmark.runs.store import Store
    from advbench.leaderboards import board
    from advbench.leaderboards.table import BoardError

    if store is None:
        found, history = board.load(board.PUBLISHED if records is None else Path(records))
    else:
        found, history = [record for _, record in Store(Path(store)).records()], ()
    wanted = (versions(protocol) or [resolve(protocol)]) if isinstance(protocol, str) else [protocol]
    for each in wanted:
        rows = [record for record in found if record.protocol_digest == each.digest]
        if rows:
            return board.build(rows, each, history=history)
    there = ", ".join(sorted({record.protocol_name for record in found})) or "none"
    raise BoardError(f"no records of {wanted[0].name}; there are records of: {there}")


def train(
    method: str,
    protocol: "str | Protocol" = "digits-linf",
    *,
    seed: int = 0,
    store: "Place | None" = None,
    data: "Place | None" = None,
    device: str = "auto",
    **hyperparameters: object,
) -> "RunFolder":
    """Train a method, and before it the teachers that it needs; return its folder in the store.

    A run that is trained already is returned at once, and one that was interrupted goes on.

    Args:
        method: its name; `advbench.methods.names()` lists them.
        protocol: a published name, a TOML file, or a protocol.
        seed: of initial weights, order, augmentation and inner starts.
        store: folder of runs; None: `$ADVBENCH_STORE`, or `runs`.
        data: folder of data sets; None: `$ADVBENCH_DATA`, or the user's cache folder.
        device: "auto", "cpu", "cuda", "cuda:1".
        hyperparameters: of the method; its defaults for the rest.

    Raises:
        MethodError: for a method or hyper-parameter that there is not.
        WorkError: if training failed, or another process is at it.
    """
    from advbench.benchmark.runs import suites
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import Suite, plan, runs

    protocol = _resolved(protocol)
    using, known = _means(store, data, device), catalogue()
    suite = Suite((protocol,), (suites.request(method, hyperparameters),), (seed,))
    _perform([job for job in plan(suite, using.store, known) if job.kind == "train"], using)
    return using.store.folder(runs(suite, known)[-1].spec)


def evaluate(
    network: "str | RunFolder | nn.Module",
    protocol: "str | Protocol | None" = None,
    *,
    checkpoint: str = "best",
    attacks: "Iterable[str]" = ("clean", "pgd", "cw", "autoattack"),
    images: int | None = None,
    store: "Place | None" = None,
    data: "Place | None" = None,
    device: str = "auto",
) -> "Evaluation":
    """Attack a network with the protocol's attacks; return the outcome of every test image, and the flags.

    A run's outcomes go into its record, and what was attacked already is not attacked again; its `protocol` is its
    own. A network of yours takes images in [0,1] to logits; its figures enter no board.

    Args:
        network: a run, the beginning of a run's identity, or a `torch.nn.Module`.
        protocol: for a module: data and attacks.
        checkpoint: of a run: "best" or "last".
        attacks: families; of a run "examination", too.
        images: for a module: only the first so many test images.
        store: as `train` takes it.
        data: as `train` takes it.
        device: as `train` takes it.

    Raises:
        ValueError: for a module without a protocol, or a run with one, or with `images`.
        WorkError: if an attack failed, or another process is at it.
        EvaluationError: for a module that does not fit the data.
    """
    from torch import nn

    using = _means(store, data, device)
    if isinstance(network, nn.Module):
        if protocol is None:
            raise ValueError("a network of yours needs a protocol: data and attacks, such as 'cifar10-linf'")
        return _attacked(network, protocol, tuple(attacks), images, using)
    if protocol is not None or images is not None:
        raise ValueError("protocol and images are for networks that are no run: a run's protocol says both")
    from advbench.benchmark.runs.build_record import build_record
    from advbench.benchmark.runs.plan import missing_attacks

    folder = _found(network, using)
    _perform(missing_attacks(folder, (checkpoint,), tuple(attacks)), using)
    record = folder.record() or folder.write_record(build_record)
    for name, saved in record.checkpoints.items():
        if name == checkpoint:
            return saved.evaluation
    raise ValueError(f"{folder.spec.label} has no {checkpoint} checkpoint")


def load_model(
    network: "str | RunFolder", *, checkpoint: str = "best", store: "Place | None" = None, device: str = "auto"
) -> "nn.Module":
    """Return a trained network in eval mode, images (B, C, H, W) in [0,1] to logits; its checksum is compared.

    Args:
        network: a run, the beginning of a run's identity, or a repository of the hub ("owner/name", advbench[hub]).
        checkpoint: "best" or "last".
        store: as `train` takes it.
        device: as `train` takes it.

    Raises:
        StoreError: if there is no such run.
        HubError: if there is no such repository, or it is no whole run.
        ExternalError: if it has no such checkpoint, or its weights are not what training wrote.
    """
    from advbench.benchmark.runs.open_checkpoint import open_pulled, open_run

    using = _means(store, None, device)
    if isinstance(network, str) and "/" in network:
        return open_pulled(network, checkpoint, using.device)
    folder = _found(network, using)
    return open_run(folder, checkpoint, using.device).network


def _resolved(protocol: "str | Protocol") -> "Protocol":
    """Return a protocol that may be given by its name or file."""
    from advbench.benchmark.protocol import resolve

    return resolve(protocol) if isinstance(protocol, str) else protocol


def _found(run: "str | RunFolder", using: "Means") -> "RunFolder":
    """Return the folder of a run that may be given by the beginning of its identity."""
    return using.store.find(run) if isinstance(run, str) else run


def _means(store: "Place | None", data: "Place | None", device: str) -> "Means":
    """Return where to work: one job at a time in this process, with as many threads as torch has in it."""
    from advbench.benchmark.runs.launch import limit_threads, means
    from advbench.benchmark.runs.store import Store, default_root

    limit_threads()
    root = default_root() if store is None else Path(store)
    return means(Store(root), None if data is None else Path(data), device, 1)


def _perform(jobs: "Iterable[Job]", using: "Means") -> None:
    """Do jobs in this process, one after the other."""
    import torch

    from advbench.benchmark.runs.launch import make_ready
    from advbench.benchmark.runs.perform import WorkError, perform

    jobs = list(jobs)
    make_ready({job.run.protocol.digest: job.run.protocol for job in jobs}.values(), using.data_root)
    for job in jobs:
        place = {"data_root": using.data_root, "device": using.device, "threads": torch.get_num_threads()}
        if perform(job, using.store.root, **place) == "busy":  # type: ignore[arg-type]  # of several types
            raise WorkError(f"{job.label}: another process is at it; try again when it is done")


def _attacked(
    network: "nn.Module", protocol: "str | Protocol", attacks: tuple[str, ...], images: int | None, using: "Means"
) -> "Evaluation":
    """Attack a network that is no run."""
    from advbench.benchmark.data import registry
    from advbench.benchmark.evaluation.arena import ThreatModel
    from advbench.benchmark.evaluation.other_threats import AttackPlan, measure
    from advbench.benchmark.models.external import OpenedNetwork, Origin, Workload, check
    from advbench.benchmark.models.external_network import ExternalNetwork

    protocol = _resolved(protocol)
    dataset = registry.load(protocol.data, root=using.data_root, device=using.device)
    workload = Workload(dataset.provenance.name, dataset.num_classes, dataset.shape)
    plan = AttackPlan(ThreatModel(protocol.threat.norm, protocol.threat.eps), attacks)
    plan.check(workload.shape, workload.num_classes)
    opened = OpenedNetwork(ExternalNetwork(network).to(using.device).eval(), Origin(type(network).__name__, "code"))
    check(opened, workload, dataset.test.take(range(3))[0])
    test = len(dataset.test)
    return measure(
        opened.network,
        dataset.test,
        plan,
        protocol=protocol,
        images=min(images or test, test),
        num_classes=workload.num_classes,
    ).evaluation
