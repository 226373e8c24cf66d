"""`advbench plot`: from records, and from results beside the board, to figures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.image_outcomes import COLUMN, by_attack, by_row, labels_of, on_board
from advbench.benchmark.cli.options import FOLDER, data_option, read_names, records_options

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import Record
    from advbench.leaderboards.table import Table
    from advbench.reports.drawing.style import Look, Width

FIGURES = {
    "tradeoff": "clean accuracy against AutoAttack, with the Pareto front",
    "overfitting": "from the best checkpoint to the last",
    "curves": "learning curves: validation, and what was recorded in training",
    "cost": "AutoAttack against passes per image, hours or memory",
    "stability": "places under each seed",
    "classes": "accuracy by class: bars, or a heat map of many methods",
    "attacks": "agreement of the attacks, and what each of them adds",
    "agreement": "agreement of the methods on images",
    "compare": "two methods (--methods A,B), class by class",
}
"""Kind of figure → what it shows, from records."""
OF_RESULTS = {
    "eps": "robust accuracy against eps, of `evaluate --eps-sweep --out` or `diagnose`",
    "transfer": "whose examples fool whom, of `transfer`",
    "diagnosis": "the examination of one network, of `diagnose`",
}
"""Kind of figure → what it shows, from result files."""
DRAWN = {"evaluation off the board": ("eps",), "diagnosis": ("eps", "diagnosis"), "transfer": ("transfer",)}
"""Kind of result → figures of it."""
Figures = Mapping[str, Callable[[], list[Path]]]


class Asked(NamedTuple):
    """What all figures of one call have in common."""

    out: Path
    more: dict[str, Any]
    column: str
    checkpoint: str
    against: str
    methods: tuple[str, ...] | None
    data_root: Path | None


@click.command(short_help="Draw figures from records and results.")
@click.argument("kind", type=click.Choice([*FIGURES, *OF_RESULTS, "all"]), default="tradeoff")
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@records_options
@data_option
@click.option("--methods", type=read_names, metavar="LIST", help="Only these methods; ranks are the whole board's.")
@click.option("--column", type=COLUMN, default="autoattack", show_default=True, help="Accuracy under which attack.")
@click.option(
    "--checkpoint",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Of classes, attacks, agreement and compare.",
)
@click.option(
    "--against",
    type=click.Choice(["passes", "hours", "memory"]),
    default="passes",
    show_default=True,
    help="Which cost.",
)
@click.option("--out", type=FOLDER, default=Path("figures"), show_default=True, help="Folder to write into.")
@click.option("--style", type=click.Choice(["paper", "slides"]), default="paper", show_default=True, help="Sizes.")
@click.option(
    "--width",
    type=click.Choice(["auto", "single", "double"]),
    default="auto",
    show_default=True,
    help="Columns of the page: 3.25 or 6.875 inches, or what the content needs.",
)
@click.option(
    "--formats", type=read_names, metavar="LIST", default="png,pdf", show_default=True, help="Among png, pdf, svg."
)
def plot(
    *,
    kind: str,
    results: tuple[Path, ...],
    protocol: "Protocol | None",
    records: Path | None,
    store_root: Path | None,
    data_root: Path | None,
    methods: tuple[str, ...] | None,
    column: str,
    checkpoint: str,
    against: str,
    out: Path,
    style: "Look",
    width: "Width",
    formats: tuple[str, ...],
) -> None:
    """Draw a KIND of figure of each protocol's board, or of RESULTS: JSON files that other commands wrote.

    From records:

    \b
    tradeoff     clean accuracy against AutoAttack, with the Pareto front
    overfitting  from the best checkpoint to the last
    curves       learning curves: validation, and what was recorded in training
    cost         AutoAttack against passes per image, hours or memory
    stability    places under each seed
    classes      accuracy by class: bars, or a heat map of many methods
    attacks      agreement of the attacks, and what each of them adds
    agreement    agreement of the methods on images
    compare      two methods (--methods A,B), class by class

    From RESULTS:

    \b
    eps          robust accuracy against eps, of `evaluate --eps-sweep --out` or `diagnose`
    transfer     whose examples fool whom, of `transfer`
    diagnosis    the examination of one network, of `diagnose`

    And `all`: each that can be drawn. Records hold no sweep of eps, only the protocol's own radius.

    \b
    Examples:
      advbench plot
      advbench plot overfitting --protocol cifar10-linf --records leaderboards/records --out figures
      advbench plot all --style slides --formats svg
      advbench plot classes --methods pgd_at,trades,mart --width single
      advbench evaluate 3fa9 --eps-sweep 2/255,4/255,8/255,16/255 --out sweep.json
      advbench plot eps sweep.json
    """
    from advbench.benchmark.cli.read_records import collect
    from advbench.reports.drawing.style import FORMATS

    if unknown := [one for one in formats if one not in FORMATS]:
        raise Refused(f"no format {unknown[0]!r}; there are: {', '.join(FORMATS)}")
    more = {"formats": formats, "look": style, "width": width}
    asked = Asked(out, more, column, checkpoint, against, methods, data_root)
    if results and kind in FIGURES:
        raise Refused(f"{kind} is drawn from records, not from {results[0]}; --records names another folder")
    if not results and kind in OF_RESULTS:
        raise Refused(f"plot {kind} needs result files: {OF_RESULTS[kind]}")
    drawn = False
    if kind not in OF_RESULTS:
        for found in collect(records, store_root, protocol):
            drawn |= _draw(_of_records(found, asked), kind)
    if results:
        drawn |= _draw(_of_results(results, asked, kind), kind)
    if not drawn:
        raise Refused("none of the figures could be drawn")


def _draw(figures: Figures, kind: str) -> bool:
    """Draw one kind, or all that can be drawn, saying why others cannot; return whether there is any.

    Raises:
        ReportError: if the one that was asked for cannot be drawn.
    """
    from advbench.reports.drawing.style import ReportError

    drawn = False
    for name, draw in figures.items():
        of = name.partition(" ")[0]
        if kind not in {of, "all"}:
            continue
        try:
            written = draw()
        except (ReportError, Refused) as error:
            if kind != "all":
                raise
            click.echo(f"no figure of {of}: {error}", err=True)
            continue
        drawn = True
        for path in written:
            click.echo(f"wrote {path}")
    return drawn


def _of_records(every: "Sequence[Record]", asked: Asked) -> Figures:
    """Return what can be drawn of the records of one protocol."""
    from advbench.leaderboards import board
    from advbench.reports import cost, curves, overfitting, stability, tradeoff
    from advbench.reports.drawing.points import name_of

    table: Table = board.build(every)
    if asked.methods is not None:
        table = table.select(methods=asked.methods)
    groups = on_board(table, every)
    records = [record for several in groups.values() for record in several]
    stem, more = asked.out / table.protocol.replace("/", "-"), asked.more

    def at(kind: str) -> Path:
        return stem.with_name(f"{stem.name}-{kind}")

    def overfitted() -> list[Path]:
        return overfitting.draw(table, at("overfitting"), robust=asked.column, **more)

    def classes() -> list[Path]:
        from advbench.reports import perclass

        correct = by_row(groups, asked.checkpoint, asked.column)
        labels, names = _labels(records, asked)
        found = perclass.by_class(correct, labels, names)
        return perclass.draw(found, at("classes"), title=f"{name_of(asked.column)}, {asked.checkpoint}", **more)

    def attacks() -> list[Path]:
        from advbench.reports import attacks

        found = attacks.fooled(by_attack(groups, asked.checkpoint))
        return attacks.draw(found, at("attacks"), title=asked.checkpoint, **more)

    def agreement() -> list[Path]:
        from advbench.reports import agreement

        found = agreement.agree(by_row(groups, asked.checkpoint, asked.column))
        return agreement.draw(found, at("agreement"), title=f"{name_of(asked.column)}, {asked.checkpoint}", **more)

    def compare() -> list[Path]:
        from advbench.benchmark.protocol import Protocol
        from advbench.reports import comparison

        correct = by_row(groups, asked.checkpoint, asked.column)
        if asked.methods is None or len(groups) != 2 or len(correct) != 2:
            raise Refused("compare draws two methods: name them with --methods A,B")
        labels, names = _labels(records, asked)
        first, second = sorted(correct.items(), key=lambda one: _place(asked.methods or (), groups[one[0]][0]))
        rule = Protocol.from_plain(records[0].protocol, f"record {records[0].run}").statistics
        found = comparison.contrast(first, second, column=asked.column, rule=rule, labels=labels, classes=names)
        return comparison.draw(found, at("compare"), **more)

    return {
        "tradeoff": partial(tradeoff.draw, table, at("tradeoff"), robust=asked.column, **more),
        "overfitting": overfitted,
        "curves": partial(curves.draw, records, at("curves"), **more),
        "cost": partial(cost.draw, table, at("cost"), against=asked.against, robust=asked.column, **more),
        "stability": partial(stability.draw, table, at("stability"), robust=asked.column, **more),
        "classes": classes,
        "attacks": attacks,
        "agreement": agreement,
        "compare": compare,
    }


def _place(names: Sequence[str], record: "Record") -> int:
    """Return where in `names` the method of a record stands."""
    known = {record.method.name.casefold(), record.method.label.casefold(), record.method.row.casefold()}
    return next((number for number, name in enumerate(names) if name.casefold() in known), len(names))


def _labels(records: "Sequence[Record]", asked: Asked) -> Any:  # noqa: ANN401
    """Return labels and class names of the test images.

    Raises:
        Refused: if the data are not here; stderr says why.
    """
    there = labels_of(records, asked.data_root)
    if there is None:
        raise Refused("accuracy by class needs the labels of the test images: give the records' data with --data")
    return there


def _of_results(paths: Sequence[Path], asked: Asked, kind: str) -> Figures:
    """Return what can be drawn of result files: all sweeps of eps together, everything else file by file.

    Raises:
        ReportError: if a file is no result.
        Refused: if it is one of another kind than was asked for.
    """
    from advbench.reports import diagnosis, results, sweep, transfer

    read = {path: results.read(path) for path in paths}
    for path, found in read.items():
        if kind not in {*DRAWN[found["kind"]], "all"}:
            raise Refused(f"{path} holds a result of another kind ({found['kind']}): plot {DRAWN[found['kind']][0]}")
    figures: dict[str, Callable[[], list[Path]]] = {}
    swept = {path: found for path, found in read.items() if "eps" in DRAWN[found["kind"]]}
    if swept:

        def eps() -> list[Path]:
            some = [curve for path, found in swept.items() for curve in sweep.curves(found, path.stem)]
            name = next(iter(swept)).stem if len(swept) == 1 else "networks"
            return sweep.draw(some, asked.out / f"{name}-eps", **asked.more)

        figures["eps"] = eps
    for number, (path, found) in enumerate(read.items()):
        module = {"diagnosis": diagnosis, "transfer": transfer}.get(found["kind"])
        if module is not None:
            stem = asked.out / f"{path.stem.removesuffix('-' + found['kind'])}-{found['kind']}"
            figures[f"{found['kind']} {number}"] = partial(module.draw, found, stem, **asked.more)
    return figures
