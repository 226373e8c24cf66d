"""`advbench evaluate` beyond runs and boards: any network, L∞ and L2 at any eps, parts of the test set, EOT."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.options import F, open_store, read_names, read_protocol

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.data.registry import Dataset
    from advbench.benchmark.evaluation.other_threats import Measurement
    from advbench.benchmark.models.external import Opened, Workload
    from advbench.benchmark.protocol import Protocol

OFF_BOARD = "off the board: these figures are not the protocol's and enter no board"


def read_eps(value: str | Fraction) -> Fraction:
    """Return a radius from "8/255" or "0.5".

    Raises:
        click.BadParameter: for anything else.
    """
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f'{value!r}: write a radius as "8/255" or "0.5"') from None


def read_sweep(value: str | tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """Return radii separated by commas."""
    return value if isinstance(value, tuple) else tuple(read_eps(part.strip()) for part in value.split(","))


def network_options(function: F) -> F:
    """Add what a network that is no run needs."""
    for option in reversed(
        (
            click.option("--architecture", metavar="NAME", help="For a file of weights: which network they belong to."),
            click.option(
                "--weights",
                type=click.Path(path_type=Path),
                help="For zoo:NAME: RobustBench's checkpoint, or a folder in its layout.",
            ),
            click.option(
                "--protocol",
                "asked",
                type=read_protocol,
                metavar="NAME|FILE.toml",
                help="Data and attacks for a network that is no run.",
            ),
            click.option("--subset", type=click.IntRange(3), help="Only the first N test images (marked)."),
        )
    ):
        function = option(function)
    return function


def off_board_options(function: F) -> F:
    """Add the options of `evaluate` that leave the board."""
    for option in reversed(
        (
            click.option("--attacks", type=read_names, metavar="LIST", help="As --attack, such as pgd,autoattack."),
            click.option("--threat", type=click.Choice(["linf", "l2"]), help="Norm of the ball.  [default: linf]"),
            click.option(
                "--eps", type=read_eps, metavar="EPS", help="Radius, such as 8/255 or 0.5.  [default: the protocol's]"
            ),
            click.option("--eps-sweep", "sweep", type=read_sweep, metavar="LIST", help="Several radii."),
            click.option(
                "--eot",
                type=click.IntRange(2),
                help="For randomised networks: average gradients over N draws, judge by their votes.",
            ),
            click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all of it as JSON."),
        )
    ):
        function = option(function)
    return network_options(function)


def leaves_board(reference: str, given: dict[str, Any]) -> bool:
    """Whether `evaluate` was asked for something that no board shows."""
    named = any(value not in {None, ()} for key, value in given.items() if key != "attacks")
    return named or ":" in reference or Path(reference).is_file()


def limit_threads() -> None:
    """Let torch use no more threads than there are cores for this process: waiting for cores costs more than it gains.

    Torch counts the machine's cores, whatever share of them a container has.
    """
    import torch

    from advbench.benchmark.runs.environment import usable_cores

    if torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())


def find_network(
    reference: str,
    *,
    checkpoint: str,
    architecture: str | None,
    weights: Path | None,
    asked: "Protocol | None",
    norm: str,
    store_root: Path | None,
    data_root: Path | None,
    device: "torch.device",
) -> "tuple[Opened, Workload, Dataset, Protocol]":
    """Open a network of whatever kind with the data it is to be attacked on, and try it on a few images.

    Raises:
        Refused: if the reference needs a protocol.
        ExternalError: if it cannot be opened, or does not fit the data; one line.
    """
    from advbench.benchmark.data import registry
    from advbench.benchmark.models import external
    from advbench.benchmark.runs.open_checkpoint import open_run

    limit_threads()
    is_run = ":" not in reference and not Path(reference).is_file()
    protocol, folder = asked, None
    if is_run:
        folder = open_store(store_root).find(reference)
        protocol = folder.spec.protocol
        if asked is not None and asked.digest != protocol.digest:
            raise Refused(f"{reference} was trained under {protocol.name}; --protocol is for networks that are no run")
    if protocol is None:
        raise Refused(f"{reference}: --protocol says on which data and with which attacks, such as cifar10-linf")
    dataset = registry.load(protocol.data, root=data_root, device=device)
    workload = external.Workload(dataset.provenance.name, dataset.num_classes, dataset.shape)
    if folder is not None:
        opened = open_run(folder, "last" if checkpoint == "last" else "best", workload, device=device)
    else:
        opened = external.open_network(
            reference, workload, architecture=architecture, weights=weights, norm=norm, device=device
        )
    x, _, _ = next(iter(dataset.test.batches(3)))
    external.check(opened, workload, x)
    return opened, workload, dataset, protocol


def attack_off_board(
    reference: str,
    *,
    checkpoint: str,
    families: tuple[str, ...],
    attacks: tuple[str, ...] | None,
    threat: str | None,
    eps: Fraction | None,
    sweep: tuple[Fraction, ...] | None,
    eot: int | None,
    subset: int | None,
    out: Path | None,
    architecture: str | None,
    weights: Path | None,
    asked: "Protocol | None",
    store_root: Path | None,
    data_root: Path | None,
    device: str,
) -> None:
    """Attack any network under any threat, and print what is left of it.

    Raises:
        Refused: for options that contradict each other.
    """
    from advbench.benchmark.evaluation.other_threats import document, measure
    from advbench.benchmark.evaluation.threats import FAMILIES, Setting
    from advbench.benchmark.files import write_bytes
    from advbench.benchmark.runs.environment import describe
    from advbench.benchmark.runs.launch import choose_device

    if eps is not None and sweep is not None:
        raise Refused("--eps and --eps-sweep: give one of the two")
    if threat == "l2" and eps is None and sweep is None:
        raise Refused("--threat l2 needs --eps or --eps-sweep: a radius of L∞ says nothing in L2")
    where = choose_device(device)
    norm = threat or "linf"
    wanted = tuple(dict.fromkeys((*families, *(attacks or ())))) or FAMILIES
    for radius in sweep or (() if eps is None else (eps,)):  # before data and network: these take seconds
        Setting(norm, radius, wanted, eot or 0).check((1 << 20,), 10)  # type: ignore[arg-type]
    opened, workload, dataset, protocol = find_network(
        reference,
        checkpoint=checkpoint,
        architecture=architecture,
        weights=weights,
        asked=asked,
        norm=norm,
        store_root=store_root,
        data_root=data_root,
        device=where,
    )
    radii = sweep or (protocol.threat.eps if eps is None else eps,)
    settings = [Setting(norm, radius, wanted, eot or 0) for radius in radii]  # type: ignore[arg-type]
    for setting in settings:
        setting.check(workload.shape, workload.num_classes)
    test = len(dataset.test)
    images = min(subset or test, test)
    click.echo(f"network: {opened.origin.reference} ({opened.origin.said})")
    click.echo(f"data: {protocol.data.name}, {_share(images, test)}; {OFF_BOARD}")
    measured = [
        measure(
            opened.network,
            dataset.test,
            setting,
            protocol=protocol,
            images=images,
            num_classes=workload.num_classes,
            on_shard=_progress(setting.said),
        )
        for setting in settings
    ]
    show(measured)
    if out is not None:
        plain = document(
            opened.origin.to_plain(),
            measured,
            protocol=protocol,
            images=images,
            test=test,
            data=dataset.provenance.model_dump(mode="json"),
            environment=describe(where).model_dump(mode="json"),
        )
        write_bytes(out, (json.dumps(plain, indent=1, sort_keys=True) + "\n").encode())
        click.echo(f"wrote {out}")


def _share(images: int, test: int) -> str:
    return f"SUBSET: the first {images} of {test} test images" if images < test else f"all {test} test images"


def _progress(said: str) -> Callable[[str, int, int], None]:
    def show_shard(family: str, done: int, total: int) -> None:
        click.echo(f"{said}: {family}, shard {done + 1} of {total}", err=True)

    return show_shard


def show(measured: "list[Measurement]") -> None:
    """Print accuracies with their intervals, and the flags that were raised."""
    from advbench.benchmark.evaluation.other_threats import measured_columns
    from advbench.benchmark.records.flags import ABOUT, raised
    from advbench.benchmark.records.statistics import wilson

    columns = measured_columns(measured)
    rows = []
    for one in measured:
        cells = []
        for name in columns:
            outcome = one.evaluation.columns[name]
            low, high = wilson(int(outcome.correct.sum()), outcome.n)
            cells.append(f"{outcome.accuracy:.1%} [{100 * low:.1f}, {100 * high:.1f}]")
        draws = f", EOT over {one.setting.eot} draws" if one.setting.eot else ""
        rows.append((one.setting.said + draws, *cells))
    print_table(("threat", *columns), rows, right=columns)
    click.echo("in brackets: Wilson 95 %, which covers the draw of test images only")
    for one in measured:
        for flag in raised(one.evaluation.flags, "masking"):
            about = ABOUT[flag.name]
            click.echo(f"MASKING at {one.setting.said}: {flag.name}: {about.sign} ({flag.reason}); {about.mend}")
        unseen = [flag for flag in one.evaluation.flags if flag.state == "not run" and flag.kind == "masking"]
        if unseen:
            why = "; ".join(f"{flag.name} ({flag.reason})" for flag in unseen)
            click.echo(f"not looked for at {one.setting.said}: {why}")
