"""`advbench plot`: from records, and from results beside the board, to figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import file_name
from advbench.benchmark.cli.options import (
    NAMES,
    PATH,
    POSITIVE,
    Option,
    checkpoint_option,
    column_option,
    data_option,
    gather,
    methods_option,
    out_folder,
)
from advbench.benchmark.cli.read_records import RecordSource, labels_of, records_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from advbench.benchmark.records.schema import Record
    from advbench.reports.drawing.style import FigureLayout, Style, Width
    from advbench.reports.perclass import Labels

FIGURES = {
    "tradeoff": "clean accuracy against AutoAttack, with the Pareto front",
    "overfitting": "from the best checkpoint to the last",
    "curves": "learning curves: validation, and what was recorded in training",
    "cost": "AutoAttack against passes per image, hours or memory",
    "ranks": "rank sets: which ranks seeds and images leave open",
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
ASKED = {
    "tradeoff": ("column",),
    "overfitting": ("column",),
    "cost": ("column", "against"),
    "stability": ("column",),
    "classes": ("column", "checkpoint"),
    "attacks": ("checkpoint",),
    "agreement": ("column", "checkpoint"),
    "compare": ("column", "checkpoint"),
}
"""Kind of figure → options that change what it shows, beside those of the page: they are part of its file's name."""
ROWS = 40
"""Methods that a figure with a line or panel for each of them holds legibly on one page."""
USUAL = {"column": "autoattack", "checkpoint": "best", "against": "passes", "style": "paper", "width": "auto"}
"""Option → its default, which names of files leave out."""
DRAWN = {"evaluation off the board": ("eps",), "diagnosis": ("eps", "diagnosis"), "transfer": ("transfer",)}
"""Kind of result → figures of it."""


def _listed(kinds: Mapping[str, str]) -> str:
    return "\n".join(f"{kind:<11}  {shows}" for kind, shows in kinds.items())


_HELP = f"""Draw a KIND of figure of each protocol's board, or of RESULTS: JSON files that other commands wrote.

From records:

\b
{_listed(FIGURES)}

From RESULTS:

\b
{_listed(OF_RESULTS)}

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
Figures = Mapping[Path, tuple[str, "Callable[[], Figure]"]]
"""Path without an ending → kind of figure, and what draws it."""


@dataclass(frozen=True)
class FigureRequest:
    """What all figures of one call have in common."""

    methods: tuple[str, ...] | None
    column: str
    checkpoint: str
    against: str
    out: Path
    style: "Style"
    width: "Width"
    formats: tuple[str, ...]
    data_root: Path | None
    font: str
    top: int | None

    @property
    def layout(self) -> "FigureLayout":
        """The page that all figures are for."""
        from advbench.reports.drawing.style import FigureLayout

        return FigureLayout(self.style, self.width, self.font)

    @property
    def title(self) -> str:
        """What the images were attacked with, and which checkpoint."""
        from advbench.reports.drawing.points import name_of

        return f"{name_of(self.column)}, {self.checkpoint}"

    def file(self, name: str, kind: str) -> Path:
        """Return the path without an ending of a figure: two requests that differ do not share a file."""
        asked = {option: getattr(self, option) for option in (*ASKED.get(kind, ()), "style", "width")}
        parts = [value for option, value in asked.items() if value != USUAL[option]]
        methods = (self.methods or ()) if kind in FIGURES else ()
        if self.top is not None and kind in FIGURES:
            parts.append(f"top{self.top}")
        return self.out / file_name("-".join([name, kind, *methods, *parts]))


def _choice(name: str, choices: Sequence[str], text: str) -> Option:
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=text)


request_options = gather(
    "request",
    FigureRequest,
    data_option,
    methods_option(help="Only these methods; ranks are the whole board's."),
    column_option,
    checkpoint_option(help="Of classes, attacks, agreement and compare."),
    _choice("--against", ("passes", "hours", "memory"), "Which cost."),
    out_folder("figures"),
    _choice("--style", ("paper", "slides"), "Sizes."),
    _choice(
        "--width",
        ("auto", "single", "double"),
        "Columns of the page: 3.25 or 6.875 inches, or what the content needs.",
    ),
    click.option("--formats", type=NAMES, default="png,pdf", show_default=True, help="Among png, pdf, svg."),
    click.option("--font", default="DejaVu Sans", show_default=True, help="A family that is installed: the paper's."),
    click.option("--top", type=POSITIVE, help=f"Only this many methods.  [default: {ROWS} where each has a line]"),
)


@click.command(short_help="Draw figures from records and results.", help=_HELP)
@click.argument("kind", type=click.Choice([*FIGURES, *OF_RESULTS, "all"]), default="tradeoff")
@click.argument("results", nargs=-1, type=PATH)
@records_options()
@request_options
def plot(*, kind: str, results: tuple[Path, ...], source: RecordSource, request: FigureRequest) -> None:
    """Draw figures: what `_HELP` says."""
    from advbench.reports.drawing.style import FORMATS

    if unknown := [name for name in request.formats if name not in FORMATS]:
        raise Refused(f"no format {unknown[0]!r}; there are: {', '.join(FORMATS)}")
    if results and kind in FIGURES:
        raise Refused(f"{kind} is drawn from records, not from {results[0]}; --records names another folder")
    if not results and kind in OF_RESULTS:
        raise Refused(f"plot {kind} needs result files: {OF_RESULTS[kind]}")
    drawn = False
    if kind not in OF_RESULTS:
        for found in source.groups():
            drawn |= _draw(_of_records(found, request), kind, request.formats)
    if results:
        drawn |= _draw(_of_results(results, request, kind), kind, request.formats)
    if not drawn:
        raise Refused("none of the figures could be drawn")


def _draw(figures: Figures, kind: str, formats: Sequence[str]) -> bool:
    """Draw one kind, or all that can be drawn, saying why others cannot; return whether there is any."""
    from advbench.reports.drawing.style import ReportError, save

    drawn = False
    for stem, (of, draw) in figures.items():
        if kind not in {of, "all"}:
            continue
        try:
            written = save(draw(), stem, formats)
        except (ReportError, Refused) as error:
            if kind != "all":
                raise
            click.echo(f"no figure of {of}: {error}", err=True)
            continue
        drawn = True
        for path in written:
            click.echo(f"wrote {path}")
    return drawn


def _of_records(every: "Sequence[Record]", request: FigureRequest) -> Figures:
    """Return what can be drawn of the records of one protocol."""
    from advbench.leaderboards import board
    from advbench.reports import (
        agreement,
        attacks,
        comparison,
        cost,
        curves,
        overfitting,
        perclass,
        ranks,
        stability,
        tradeoff,
    )
    from advbench.reports.row_outcomes import by_attack, by_row, on_board, ranked

    whole = board.build(every)
    table = whole if request.methods is None else whole.select(methods=request.methods)
    table, listed = table.select(top=request.top), table.select(top=request.top or ROWS)
    title, rows = request.title, len({row.key for row in table.rows})
    if (shown := len({row.key for row in listed.rows})) < rows:
        cut = f"the first {shown} of {rows} methods"
        click.echo(f"note: {cut} are drawn where each has a line; --top draws others", err=True)
        title, listed = f"{title}, {cut}", replace(listed, marks=(*listed.marks, cut))
    groups = on_board(listed, every, request.checkpoint)
    records = [record for several in groups.values() for record in several]
    column, checkpoint, layout = request.column, request.checkpoint, request.layout

    def compared() -> "Figure":
        correct = by_row(groups, checkpoint, column)
        if request.methods is None or len(groups) != 2 or len(correct) != 2:
            raise Refused("compare draws two methods: name them with --methods A,B")
        labels, names = _labels(records, request)
        first, second = sorted(correct.items(), key=lambda row: _place(request.methods or (), groups[row[0]][0]))
        found = comparison.contrast(
            first,
            second,
            column=column,
            others=ranked(whole, every, checkpoint, column),
            protocol=records[0].protocol,
            labels=labels,
            classes=names,
        )
        return comparison.draw(found, layout=layout)

    def classes() -> "Figure":
        found = perclass.by_class(by_row(groups, checkpoint, column), *_labels(records, request))
        return perclass.draw(found, title=title, layout=layout)

    figures: dict[str, Callable[[], Figure]] = {
        "tradeoff": lambda: tradeoff.draw(table, robust=column, layout=layout),
        "overfitting": lambda: overfitting.draw(listed, robust=column, layout=layout),
        "curves": lambda: curves.draw(groups, layout=layout),
        "cost": lambda: cost.draw(table, against=request.against, robust=column, layout=layout),
        "ranks": lambda: ranks.draw(listed, layout=layout),
        "stability": lambda: stability.draw(listed, robust=column, layout=layout),
        "classes": classes,
        "attacks": lambda: attacks.draw(attacks.fooled(by_attack(groups, checkpoint)), title=checkpoint, layout=layout),
        "agreement": lambda: agreement.draw(
            agreement.agree(by_row(groups, checkpoint, column)), title=title, layout=layout
        ),
        "compare": compared,
    }
    return {request.file(table.protocol, kind): (kind, draw) for kind, draw in figures.items()}


def _place(names: Sequence[str], record: "Record") -> int:
    """Return where in `names` the method of a record stands."""
    known = {record.method.name.casefold(), record.method.label.casefold(), record.method.row.casefold()}
    return next((number for number, name in enumerate(names) if name.casefold() in known), len(names))


def _labels(records: "Sequence[Record]", request: FigureRequest) -> "tuple[Labels, tuple[str, ...]]":
    """Return labels and class names of the test images."""
    found = labels_of(records[0], request.data_root)
    if found is None:
        raise Refused("accuracy by class needs the labels of the test images: give the records' data with --data")
    return found


def _of_results(paths: Sequence[Path], request: FigureRequest, kind: str) -> Figures:
    """Return what can be drawn of result files: all sweeps of eps together, everything else file by file."""
    from advbench.reports import diagnosis, results, sweep, transfer

    read = {path: results.read(path) for path in paths}
    for path, found in read.items():
        if kind not in {*DRAWN[found["kind"]], "all"}:
            raise Refused(f"{path} holds a result of another kind ({found['kind']}): plot {DRAWN[found['kind']][0]}")
    figures: dict[Path, tuple[str, Callable[[], Figure]]] = {}
    swept = {path: found for path, found in read.items() if "eps" in DRAWN[found["kind"]]}
    if swept:

        def eps() -> "Figure":
            some = [curve for path, found in swept.items() for curve in sweep.curves(found, path.stem)]
            return sweep.draw(some, layout=request.layout)

        figures[request.file("-".join(path.stem for path in swept), "eps")] = ("eps", eps)
    for path, found in read.items():
        of = found["kind"]
        module = {"diagnosis": diagnosis, "transfer": transfer}.get(of)
        if module is not None:
            stem = request.file(path.stem.removesuffix(f"-{of}"), of)
            if stem in figures:
                raise Refused(f"{path}: another result of this name is drawn already; draw them into two folders")
            figures[stem] = (of, partial(module.draw, found, layout=request.layout))
    return figures
