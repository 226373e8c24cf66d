"""`advbench evaluate` off the board: any network, L∞ and L2 at any eps, parts of the test set, EOT."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.benchmark.cli.any_network import NetworkRef, under_attack
from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import print_table, write_json
from advbench.benchmark.cli.options import NAMES, OUT_FILE, Value, Where, gather, subset_option
from advbench.benchmark.protocol_parts import NORMS, exact

if TYPE_CHECKING:
    from advbench.benchmark.evaluation.other_threats import AttackPlan, Measurement
    from advbench.benchmark.protocol import Protocol

OFF_BOARD = "off the board: these figures are not the protocol's and enter no board"


EPS = Value("EPS", exact)
SWEEP = Value("LIST", lambda text: tuple(exact(part.strip()) for part in text.split(",")))


@dataclass(frozen=True)
class ThreatOptions:
    """A threat that no board shows, on which images, and where the outcomes are written; None: the protocol's own."""

    attacks: tuple[str, ...] | None
    threat: str | None
    eps: Fraction | None
    sweep: tuple[Fraction, ...] | None
    eot: int | None
    out: Path | None
    subset: int | None
    engine: str | None

    @property
    def given(self) -> bool:
        """Whether anything was asked for that no board shows."""
        wanted = (self.threat, self.eps, self.sweep, self.eot, self.out, self.subset, self.engine)
        return any(value is not None for value in wanted)

    def plans(self, families: tuple[str, ...], protocol: "Protocol | None" = None) -> "list[AttackPlan]":
        """Return one plan for each radius; norm and radius are the protocol's where none is given."""
        from advbench.benchmark.evaluation.arena import ThreatModel
        from advbench.benchmark.evaluation.other_threats import ATTACK_FAMILIES, AttackPlan

        wanted = tuple(dict.fromkeys((*families, *(self.attacks or ())))) or ATTACK_FAMILIES
        radius = protocol.threat.eps if self.eps is None and protocol else self.eps
        radii = self.sweep or (() if radius is None else (radius,))
        norm: Any = self.threat or (protocol.threat.norm if protocol else "l2")  # click's choice
        engine: Any = self.engine  # click's choice
        return [AttackPlan(ThreatModel(norm, radius, self.eot or 0), wanted, engine=engine) for radius in radii]


threat_options = gather(
    "threat",
    ThreatOptions,
    click.option("--attacks", type=NAMES, help="As --attack, such as pgd,autoattack."),
    click.option("--threat", type=click.Choice(["linf", "l2"]), help="Norm of the ball.  [default: the protocol's]"),
    click.option("--eps", type=EPS, help="Radius, such as 8/255 or 0.5.  [default: the protocol's]"),
    click.option("--eps-sweep", "sweep", type=SWEEP, help="Several radii."),
    click.option(
        "--eot",
        type=click.IntRange(2),
        help="For randomised networks: average gradients over N draws, judge by their votes.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["pyautoattack", "reference", "exact"]),
        help="Who runs AutoAttack: pyautoattack, or our own faster engine, with pyautoattack's random numbers "
        "(reference) or with numbers by image (exact).  [default: the protocol's]",
    ),
    click.option("--out", type=OUT_FILE, help="Write all of it as JSON."),
    subset_option,
)


def attack_off_board(network: NetworkRef, threat: ThreatOptions, families: tuple[str, ...], where: Where) -> None:
    """Attack any network under any threat, and print what is left of it.

    Raises:
        Refused: for options that contradict each other.
    """
    from advbench.benchmark.evaluation.other_threats import document, doubt_about_labels, measure
    from advbench.benchmark.runs.environment import describe

    if threat.eps is not None and threat.sweep is not None:
        raise Refused("--eps and --eps-sweep: give one of the two")
    for plan in threat.plans(families, network.protocol):  # before data and network: these take seconds
        plan.check((1 << 20,), 10)
    opened, workload, dataset, protocol = network.open(where, threat.threat)
    if threat.threat not in {None, protocol.threat.norm} and threat.eps is None and threat.sweep is None:
        own = NORMS[protocol.threat.norm]
        raise Refused(
            f"--threat {threat.threat} needs --eps or --eps-sweep: a radius of {own} says nothing in another norm"
        )
    plans = threat.plans(families, protocol)
    for plan in plans:
        plan.check(workload.shape, workload.num_classes)
    test = len(dataset.test)
    images = min(threat.subset or test, test)
    part = f"SUBSET: the first {images} of {test} test images" if images < test else f"all {test} test images"
    click.echo(f"network: {opened.origin.reference} ({opened.origin.text})")
    click.echo(f"data: {protocol.data.name}, {part}; {OFF_BOARD}")
    measured = []
    for plan in plans:

        def on_shard(family: str, done: int, total: int, under: str = plan.threat.text) -> None:
            click.echo(f"{under}: {family}, shard {done + 1} of {total}", err=True)

        with under_attack(opened):
            measured.append(
                measure(
                    opened.network,
                    dataset.test,
                    plan,
                    protocol=protocol,
                    images=images,
                    num_classes=workload.num_classes,
                    on_shard=on_shard,
                )
            )
    if threat.out is not None:  # before anything is printed: a terminal may refuse characters
        plain = document(
            opened.origin.to_plain(),
            measured,
            protocol=protocol,
            images=images,
            test=test,
            data=dataset.provenance.model_dump(mode="json"),
            environment=describe(where.torch_device()).model_dump(mode="json"),
        )
        write_json(plain, threat.out)
    _show(measured)
    doubt = doubt_about_labels(measured[0].predictions, dataset.test.labels[:images], workload.num_classes)
    if doubt:
        click.echo(f"WARNING: {doubt}")


def _show(measured: "list[Measurement]") -> None:
    """Print accuracies with their intervals, and the flags that were raised."""
    from advbench.benchmark.evaluation.other_threats import measured_columns
    from advbench.benchmark.records.flags import ABOUT, raised
    from advbench.benchmark.records.statistics import wilson

    columns = measured_columns(measured)
    rows = []
    for result in measured:
        cells = []
        for name in columns:
            outcome = result.evaluation.columns[name]
            low, high = wilson(int(outcome.correct.sum()), outcome.n)
            cells.append(f"{outcome.accuracy:.1%} [{100 * low:.1f}, {100 * high:.1f}]")
        draws = f", EOT over {result.threat.eot} draws" if result.threat.eot else ""
        rows.append((result.threat.text + draws, *cells))
    print_table(("threat", *columns), rows, right=columns)
    click.echo("in brackets: Wilson 95 %, which covers the draw of test images only")
    for result in measured:
        for flag in raised(result.evaluation.flags, "masking"):
            about = ABOUT[flag.name]
            click.echo(f"MASKING at {result.threat.text}: {flag.name}: {about.sign} ({flag.reason}); {about.hint}")
        unseen = [flag for flag in result.evaluation.flags if flag.state == "not run" and flag.kind == "masking"]
        if unseen:
            why = "; ".join(f"{flag.name} ({flag.reason})" for flag in unseen)
            click.echo(f"not looked for at {result.threat.text}: {why}")
