"""`advbench compare`: is one method better than another, and on which classes and images?"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import file_name, print_table, write_figure, write_json
from advbench.benchmark.cli.options import OUT_FOLDER, checkpoint_option, column_option, data_option
from advbench.benchmark.cli.read_records import RecordSource, labels_of, records_options

if TYPE_CHECKING:
    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.records.statistics import Correct


@click.command(short_help="Say whether A is better than B.")
@click.argument("a")
@click.argument("b")
@records_options("Where there are several.")
@checkpoint_option()
@column_option
@click.option("--out", type=OUT_FOLDER, help="Also write figures, and all figures as JSON, into this folder.")
@data_option
def compare(
    *, a: str, b: str, source: RecordSource, checkpoint: str, column: str, out: Path | None, data_root: Path | None
) -> None:
    """Say in words and figures whether A is better than B, and on which classes and images they differ.

    A and B are methods (all their seeds), runs, or record files, of one protocol. Methods are told apart by the board's
    test over seeds and images, single networks by an exact McNemar test.

    \b
    Examples:
      advbench compare trades pgd_at
      advbench compare trades mart --protocol cifar10-linf --column pgd20 --records leaderboards/records --out figures
    """
    from advbench.leaderboards import board
    from advbench.reports import comparison
    from advbench.reports.row_outcomes import outcomes, ranked

    every = [] if Path(a).is_file() and Path(b).is_file() else source.of_one_protocol()
    sides = [_side(reference, every) for reference in (a, b)]
    if len({record.protocol_digest for _, records in sides for record in records}) > 1:
        raise Refused(f"{a} and {b} were measured under different protocols: nothing can be compared")
    measured: list[tuple[str, Correct]] = []
    for name, records in sides:
        correct = outcomes(records, checkpoint, column)
        if correct is None:
            raise Refused(f"{name} has no {column} on {checkpoint}; `advbench evaluate` measures it")
        measured.append((name, correct))
    first, second = measured
    records = sides[0][1]
    labels, classes = labels_of(records[0], data_root) or (None, ())
    found = comparison.contrast(
        first,
        second,
        column=column,
        others=ranked(board.build(every), every, checkpoint, column) if every else {},
        protocol=records[0].protocol,
        labels=labels,
        classes=classes,
    )
    for line in comparison.words(found):
        click.echo(line)
    names = first[0], second[0]
    if found.classes:
        rows = [
            (row.name, row.images, f"{row.a:.1%}", f"{row.b:.1%}", "–" if row.p is None else f"{row.p:.2g}")
            for row in found.classes
        ]
        numbers = ("images", *names, "p (Holm)")
        print_table(("class", *numbers), rows, right=numbers)
    if out is not None:
        last = "-last" if checkpoint == "last" else ""
        stem = out / file_name(f"{records[0].protocol_name}-{names[0]}-against-{names[1]}-{column}{last}")
        write_json(found.to_plain(), stem.with_name(f"{stem.name}.json"))
        if found.classes:
            write_figure(comparison.draw(found), stem)


def _side(reference: str, every: "list[Record]") -> "tuple[str, list[Record]]":
    """Return the records that a reference means: a record file, a run, or a method with all its seeds."""
    from advbench.benchmark.records.schema import Record

    if Path(reference).is_file():
        record = Record.load(Path(reference))
        return f"{record.method.row} seed {record.seed}", [record]
    wanted = reference.replace("-", "_").casefold()
    named = [
        record
        for record in every
        if record.division in {"closed", "open"}  # others are named by their runs
        and (wanted == record.method.name or reference in {record.method.row, record.method.label})
    ]
    exact = [record for record in named if record.method.row == reference or record.plain]
    found = exact or named
    if found:
        rows = sorted({record.method.row for record in found})
        if len(rows) > 1:
            raise Refused(f"{reference} names several rows: {'; '.join(rows)}; write one of them in full, in quotes")
        return rows[0], found
    if re.fullmatch(r"[0-9a-f]{3,16}", reference):
        runs = [record for record in every if record.run.startswith(reference)]
        if len(runs) == 1:
            return f"{runs[0].method.row} seed {runs[0].seed}", runs
    methods = ", ".join(sorted({record.method.name for record in every}))
    raise Refused(f"{reference}: no record file, run or method with records here; methods: {methods}")
