"""What was right and wrong on which test image, and of which class it is: for `compare`, `images` and `plot`.

Labels of test images are not in records. Where the data are here they are read: torch is needed for that only where
torchvision knows the official files (CIFAR) or the images stay on disk (ImageNet). Where they are not here, or are not
the data of the records, everything but the classes is still said.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.read_records import protocol_of

if TYPE_CHECKING:
    from advbench.benchmark.data.sources import Raw
    from advbench.benchmark.protocol import Data
    from advbench.benchmark.records.schema import Record
    from advbench.benchmark.records.statistics import Correct
    from advbench.leaderboards.table import Table
    from advbench.reports.perclass import Labels


def outcomes(records: "Sequence[Record]", checkpoint: str, column: str) -> "Correct | None":
    """Return the outcomes (seeds, images) of the records that have this column, in order of seeds; None of none."""
    rows = []
    for record in sorted(records, key=lambda record: record.seed):
        found = record.checkpoints.get(checkpoint)  # type: ignore[call-overload]
        if found is None:
            continue
        evaluation = found.evaluation
        bits = evaluation.worst if column == "worst" else None
        if column in evaluation.columns:
            bits = evaluation.columns[column].correct
        if bits is not None:
            rows.append(bits)
    return np.stack(rows) if rows else None


Groups = Mapping[str, "Sequence[Record]"]
"""Records by the name of their row, in the order of the rows."""


def on_board(table: "Table", records: "Sequence[Record]", checkpoint: str) -> Groups:
    """Group records as the rows of a board do, in its order, by the label and the signs of the rows of a checkpoint.

    Records of rows that it does not show are left out.
    """
    of = {record.run: record for record in records}
    rows = {row.key: row for row in table.rows} | {row.key: row for row in table.rows if row.checkpoint == checkpoint}
    return {f"{row.label} {row.signs}".strip(): [of[run] for run in row.runs] for row in rows.values()}


def by_row(groups: Groups, checkpoint: str, column: str) -> "dict[str, Correct]":
    """Return the outcomes of every row that has this column.

    Raises:
        Refused: if none has.
    """
    found = {name: outcomes(records, checkpoint, column) for name, records in groups.items()}
    rows = {name: correct for name, correct in found.items() if correct is not None}
    if not rows:
        raise Refused(f"no record has {column} on {checkpoint}; `advbench evaluate` measures it")
    return rows


def by_attack(groups: Groups, checkpoint: str) -> "Mapping[str, Mapping[str, Correct]]":
    """Return the outcomes of every row by column, of the seeds on which every column of the row was measured."""
    from advbench.benchmark.records.schema import COLUMNS

    rows: dict[str, dict[str, Correct]] = {}
    for name, records in groups.items():
        own = [record for record in records if checkpoint in record.checkpoints]
        measured = {record.run: set(record.checkpoints[checkpoint].evaluation.columns) for record in own}  # type: ignore[index]
        wanted = set().union(*measured.values())
        whole = [record for record in own if measured[record.run] == wanted]
        found = {column: outcomes(whole, checkpoint, column) for column in COLUMNS}
        rows[name] = {column: correct for column, correct in found.items() if correct is not None}
    return rows


def labels_of(records: "Sequence[Record]", data_root: Path | None) -> "tuple[Labels, tuple[str, ...]] | None":
    """Return labels and class names of the test images, or None, said on stderr, where their data are not here."""
    from advbench.benchmark.data.sources import DataError

    record = records[0]
    spec = protocol_of(record).data
    try:
        labels, classes, *digests = _labels(spec, data_root)
    except (ImportError, DataError) as error:
        click.echo(f"no classes shown: {error}", err=True)
        return None
    if digests != [record.data.digest, record.data.split_sha256]:
        click.echo(f"no classes shown: the {spec.name} here are other data than those of the records", err=True)
        return None
    return labels, classes


def _labels(spec: "Data", data_root: Path | None) -> "tuple[Labels, tuple[str, ...], str, str]":
    """Return labels, class names, and the digests of data and split."""
    from advbench.benchmark.data.partition import partition
    from advbench.benchmark.data.sources import data_root as root_of

    raw = _light(spec.name, root_of(data_root))
    if raw is None:
        from advbench.benchmark.data import registry

        dataset = registry.load(spec, root=data_root, download=False)
        return (
            dataset.test.labels.cpu().numpy().astype(np.int64),
            dataset.classes,
            dataset.provenance.digest,
            dataset.provenance.split_sha256,
        )
    cut = partition(spec, raw.train.y, None if raw.test is None else raw.test.y)
    labels = (raw.train if raw.test is None else raw.test).y[cut.test]
    return labels, raw.classes, raw.digest, cut.sha256


def _light(name: str, root: Path) -> "Raw | None":
    """Read a set that needs no torch, from where `data.load` would read it; None for any other."""
    from advbench.benchmark.data import sources

    if name == "digits":
        return sources.digits()
    official = sources.KNOWN[name].folder if name in sources.KNOWN else ""
    own = root / f"{name}.npz"
    if own.is_file() and not (official and (root / official).exists()):
        return sources.npz(own, name)
    return None
