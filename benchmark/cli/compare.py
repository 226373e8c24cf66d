"""`advbench compare`: is one method better than another, and on which classes and images?"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.image_outcomes import COLUMN, FORMATS, labels_of, one_protocol, outcomes
from advbench.benchmark.cli.options import FOLDER, RECORDS, data_option, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.records.statistics import Correct


def _side(reference: str, groups: "list[list[Record]]") -> "tuple[str, list[Record]]":
    """Return the records that a reference means: a record file, a run, or a method with all its seeds.

    Raises:
        Refused: if it means none, or variants of a method that are different rows.
    """
    from advbench.benchmark.records.schema import Record

    if Path(reference).is_file():
        record = Record.load(Path(reference))
        return f"{record.method.row} seed {record.seed}", [record]
    every = [record for group in groups for record in group]
    named = [record for record in every if reference in {record.method.name, record.method.row, record.method.label}]
    exact = [record for record in named if record.method.row == reference or not record.method.changed]
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


@click.command(short_help="Say whether A is better than B.")
@click.argument("a")
@click.argument("b")
@click.option("--protocol", type=read_protocol, metavar="NAME|FILE.toml", help="Where there are several.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--column", type=COLUMN, default="autoattack", show_default=True, help="Accuracy under which attack.")
@click.option("--records", type=click.Path(path_type=Path), help=RECORDS)
@click.option("--out", type=FOLDER, help="Also write figures, and all figures as JSON, into this folder.")
@store_option
@data_option
def compare(
    *,
    a: str,
    b: str,
    protocol: "Protocol | None",
    checkpoint: str,
    column: str,
    records: Path | None,
    out: Path | None,
    store_root: Path | None,
    data_root: Path | None,
) -> None:
    """Say in words and figures whether A is better than B, and on which classes and images they differ.

    A and B are methods (all their seeds), runs, or record files, of one protocol. The rule is the board's: exact
    McNemar over all pairings of seeds, and a bootstrap over seeds and images.

    \b
    Examples:
      advbench compare trades pgd_at
      advbench compare trades mart --protocol cifar10-linf --column pgd20 --records leaderboards/records --out figures
    """
    from advbench.benchmark.cli.read_records import collect, protocol_of
    from advbench.benchmark.files import write_bytes
    from advbench.reports import comparison

    only_files = Path(a).is_file() and Path(b).is_file()
    groups = [] if only_files else collect(records, store_root, protocol)
    if not only_files:
        groups = [one_protocol(groups)]
    sides = [_side(reference, groups) for reference in (a, b)]
    digests = {record.protocol_digest for _, group in sides for record in group}
    if len(digests) > 1:
        raise Refused(f"{a} and {b} were measured under different protocols: nothing can be compared")
    measured: list[tuple[str, Correct]] = []
    for name, group in sides:
        correct = outcomes(group, checkpoint, column)
        if correct is None:
            raise Refused(f"{name} has no {column} on {checkpoint}; `advbench evaluate` measures it")
        measured.append((name, correct))
    (name, first), (other, second) = measured
    under = protocol_of(sides[0][1])
    there = labels_of(sides[0][1], data_root)
    labels, classes = there or (None, ())
    found = comparison.contrast(
        (name, first), (other, second), column=column, rule=under.statistics, labels=labels, classes=classes
    )
    for line in comparison.words(found):
        click.echo(line)
    if found.classes:
        rows = [(one.name, one.images, f"{one.a:.1%}", f"{one.b:.1%}", f"{one.p:.2g}") for one in found.classes]
        print_table(("class", "images", name, other, "p (Holm)"), rows, right=["images", name, other, "p (Holm)"])
    if out is not None:
        stem = out / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-against-{other}-{column}")
        out.mkdir(parents=True, exist_ok=True)
        path = stem.with_name(f"{stem.name}.json")
        write_bytes(path, (json.dumps(found.to_plain(), indent=1) + "\n").encode())
        written = [path, *(comparison.draw(found, stem, formats=FORMATS) if found.classes else ())]
        for path in written:
            click.echo(f"wrote {path}")
