"""Records as a tidy pandas frame: one line per run, checkpoint and metric."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.benchmark.jobs import CHECKPOINTS
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import Record
from advbench.leaderboards.board import group, load_records
from advbench.leaderboards.measures import ACCURACIES, GAPPED, Variant, columns, on_cpu
from advbench.leaderboards.soundness import masking
from advbench.leaderboards.table import BoardError

DTYPES = {
    "protocol": "category",
    "digest": "category",
    "official": "bool",
    "division": "category",
    "dataset": "category",
    "network": "category",
    "method": "category",
    "label": "category",
    "variant": "category",
    "family": "category",
    "year": "int64",
    "seed": "int64",
    "run": "string",
    "checkpoint": "category",
    "metric": "category",
    "value": "float64",
    "unit": "category",
    "images": "int64",
    "data_verified": "bool",
    "collapsed": "bool",
    "masked": "bool",
    "device": "category",
}
"""Columns of the frame and their dtypes.

`variant` is the label with changed hyper-parameters, one row of a board. `checkpoint` is "best", "last" or "both" (what
belongs to the run: gaps and cost). `value` is in `unit` ("%", "points", "GPU-h", "GiB", "F", "M") and NaN where it was
not measured. `collapsed` speaks of the seed, `masked` of the checkpoint: a sign of gradient masking is raised.
"""


def load_board(path: str | Path | None = None) -> pd.DataFrame:
    """Return the records of a folder as a tidy frame with the dtypes of `DTYPES`.

    Every protocol in the folder is in it; select one by `protocol` or `digest` before comparing methods.

    Args:
        path: a records folder or file; in a checkout the repository's own by default.

    Raises:
        BoardError: if there is no such folder, or no record in it.
        RecordError: if a file fails the schema.
    """
    folder = Path(path) if path is not None else Path(__file__).parent / "records"
    if path is None and not any(folder.rglob("*.json")):
        raise BoardError("records are not part of the installed package; give load_board the path of a records folder")
    records = load_records(folder)
    if not records:
        raise BoardError(f"{folder}: no record (*.json) in this folder; point load_board to one that holds records")
    return tidy(records)


def tidy(records: list[Record]) -> pd.DataFrame:
    """Return records as a tidy frame, one line per run, checkpoint and metric; see `DTYPES`."""
    lines = [line for several in group(records).values() for record in several for line in _lines(record)]
    return pd.DataFrame(lines, columns=list(DTYPES)).astype(DTYPES)


def _lines(record: Record) -> Iterator[dict[str, Any]]:
    variant = Variant(record.run, [record], Protocol.from_plain(record.protocol, f"record {record.run}"))
    known = {column.key: column for column in columns(standard=True, hour=variant.hour, teachers=True)}
    common = {
        "protocol": record.protocol_name,
        "digest": record.protocol_digest,
        "official": record.official,
        "division": record.division,
        "dataset": record.data.name,
        "network": record.network,
        "method": record.method.name,
        "label": record.method.label,
        "variant": record.method.row,
        "family": record.method.family,
        "year": record.method.year,
        "seed": record.seed,
        "run": record.run,
        "images": record.data.test,
        "data_verified": record.data.verified,
        "collapsed": bool(variant.collapsed),
        "device": "cpu" if on_cpu(record) else record.training.environment.device,
    }
    for checkpoint in CHECKPOINTS:
        cells = variant.cells(checkpoint)
        masked = bool(masking(variant.evaluation(record, checkpoint)))
        for metric in (*ACCURACIES, "nrr"):
            value = cells[metric].mean
            yield common | {
                "checkpoint": checkpoint,
                "metric": metric,
                "value": value,
                "unit": known[metric].unit,
                "masked": masked,
            }
    cells = variant.cells("best")
    masked = any(masking(variant.evaluation(record, checkpoint)) for checkpoint in CHECKPOINTS)
    belonging = (
        *(f"gap_{column}" for column in GAPPED),
        "hours",
        "teacher_hours",
        "memory",
        "passes",
        "parameters",
        "trained",
    )
    for metric in belonging:
        yield common | {
            "checkpoint": "both",
            "metric": metric,
            "value": cells[metric].mean,
            "unit": known[metric].unit,
            "masked": masked,
        }
