"""Records as a tidy pandas frame: one line per run, checkpoint and metric; corrections and published numbers apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from advbench.benchmark.records.schema import CHECKPOINTS, Record
from advbench.leaderboards import published_numbers
from advbench.leaderboards.board import PUBLISHED, build, group, load, load_records
from advbench.leaderboards.correction_notes import FIELDS
from advbench.leaderboards.exclusions import withholding
from advbench.leaderboards.measures import ACCURACIES, GAPPED, Variant, columns, on_cpu
from advbench.leaderboards.selection import Filters, Names, Selection, Traits, named, names_of, sorting
from advbench.leaderboards.table import BoardError, Cell

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
    "rank_low": "Int64",
    "rank_high": "Int64",
    "family": "category",
    "year": "int64",
    "seed": "int64",
    "run": "string",
    "date": "datetime64[ns]",
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

`variant` is the label with changed hyper-parameters, one row of a board, whose rank set is `rank_low` to `rank_high`,
both missing where it has none. `checkpoint` is "best", "last" or "both" (what
belongs to the run: gaps and cost). `value` is in `unit` ("%", "points", "GPU-h", "GiB", "F", "M") and NaN where it was
not measured. `date` is the day (UTC) on which the record was written. `collapsed` speaks of the seed, `masked` of the
checkpoint: a flag is raised that puts its AutoAttack in doubt.
"""


def load_frame(path: str | Path | None = None, **filters: Unpack[Filters]) -> pd.DataFrame:
    """Return the current records of a folder as a tidy frame with the dtypes of `DTYPES`.

    Every protocol in the folder is in it; select one by `protocol` or `digest` before comparing methods. Superseded
    records are not, see `load_history`, nor is what was not measured here, see `load_published`: in one frame a mean
    would mix them.

    Args:
        path: a records folder or file; in a checkout the repository's own by default.
        filters: as for boards, see `Filters`. `columns` are metrics. `sort` is a column of the frame, or a metric, read
            on best, by which runs are ordered; without a direction values rise, metrics fall; by default in order of
            protocols and paths.

    Raises:
        BoardError: if there is no such folder, or no record in it, or a filter or sort key names what is not there.
        RecordError: if a file fails the schema.
        CorrectionError: if the corrections do not fit the records.
    """
    wanted = Selection.read(filters)
    folder = PUBLISHED if path is None else Path(path)
    records = load_records(folder)
    if not records:
        raise BoardError(f"{folder}: no record (*.json) in this folder; point load_frame to one that holds records")
    kept = [one for one in wanted.keep(records, _traits) if wanted.covers(one.data.name, one.network)]
    frame = tidy(kept, records)
    if wanted.checkpoints is not None:
        frame = frame[frame["checkpoint"].isin([*wanted.checkpoints, "both"])]
    if (metrics := filters.get("columns")) is not None:
        known = {column.key for column in columns(standard=True, hour="", teachers=True)}
        if unknown := [key for key in metrics if key not in known]:
            raise BoardError(f"no column {unknown[0]!r}; columns: {', '.join(sorted(known))}")
        frame = frame[frame["metric"].isin(list(metrics))]
    if (sort := filters.get("sort")) is not None:
        frame = _sort(frame, sort)
    if (top := filters.get("top")) is not None:
        frame = frame[frame["variant"].isin(frame["variant"].unique()[:top])]
    return frame.reset_index(drop=True)


def _traits(record: Record) -> Traits:
    method = record.method
    return Traits(names_of(method, method.row), method.row, method.family, record.division, record.created[:10])


def load_history(path: str | Path | None = None) -> pd.DataFrame:
    """Return the corrections of a records folder, oldest first: one line per record that was replaced or withdrawn.

    Its columns are those of `correction_notes.FIELDS`, with accuracies in percent on best before and after.

    Args:
        path: a records folder; in a checkout the repository's own by default.

    Raises:
        BoardError: if there is no such folder.
        CorrectionError: if the corrections do not fit the records.
    """
    _, history = load(PUBLISHED if path is None else Path(path))
    frame = pd.DataFrame([change.model_dump() for change in history], columns=list(FIELDS))
    kinds = {"date": "datetime64[ns]", "seed": "int64", **dict.fromkeys(FIELDS[-4:], "float64")}
    return frame.astype({name: kinds.get(name, "string") for name in frame.columns})


def load_published(*, methods: Names = None, dataset: Names = None, network: Names = None) -> pd.DataFrame:
    """Return the numbers that papers and repositories published, one line each; none of them was measured here.

    `metric` is a column of boards, or "other" with its `attack` in the source's words; `value` is in percent.

    Args:
        methods: only these, by name.
        dataset: only these, as sources write them ("CIFAR-10").
        network: only these, as sources write them.

    Raises:
        PublishedError: if a file of numbers does not fit the schema.
    """
    keys = ("method", "row", "dataset", "network", "norm", "eps", "checkpoint", "metric", "value", "attack", "source")
    lines = [
        row.model_dump() | {"method": method, "metric": metric, "value": value}
        for method, rows in published_numbers.load_all().items()
        for row in rows
        for metric in (*published_numbers.QUOTED, "other")
        if (value := getattr(row, metric)) is not None
    ]
    frame = pd.DataFrame(lines, columns=list(keys))
    for name, names in (("method", methods), ("dataset", dataset), ("network", network)):
        if (wanted := named(names)) is not None:
            frame = frame[frame[name].str.casefold().isin(list(wanted))]
    return frame.reset_index(drop=True).astype({name: "float64" if name == "value" else "string" for name in keys})


def _sort(frame: pd.DataFrame, sort: str) -> pd.DataFrame:
    """Return a frame ordered by a column, or its runs by a metric on best; what has no value comes last."""
    key, down = sorting(sort)
    if key in frame.columns:
        values = frame[key].astype("string") if str(frame[key].dtype) == "category" else frame[key]
    else:
        of_key = frame[(frame["metric"] == key) & frame["checkpoint"].isin(["best", "both"])]
        if of_key.empty:
            known = ", ".join([*frame.columns, *sorted(set(frame["metric"]))])
            raise BoardError(f"cannot sort by {key!r}; keys: {known}")
        values = frame["run"].map(of_key.drop_duplicates("run").set_index("run")["value"])
        down = down is not False
    return frame.loc[values.sort_values(ascending=not down, kind="stable").index]


def tidy(records: list[Record], boards: list[Record]) -> pd.DataFrame:
    """Return records as a tidy frame, one line per run, checkpoint and metric; see `DTYPES`.

    Args:
        records: those that are wanted.
        boards: all records of their boards, which their ranks depend on.
    """
    ranks = {
        run: row.cells["rank"].interval or (None, None)
        for several in group(boards).values()
        for part in build(several).whole
        for row in part.rows
        if row.checkpoint == "best"
        for run in row.runs
    }
    lines = [
        line
        for several in group(records).values()
        for record in several
        if record.run in ranks  # a trial of tuning is on no board
        for line in _lines(record, *ranks[record.run])
    ]
    return pd.DataFrame(lines, columns=list(DTYPES)).astype(DTYPES)


def _lines(record: Record, low: float | None, high: float | None) -> Iterator[dict[str, Any]]:
    variant = Variant(record.run, [record], record.protocol)
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
        "rank_low": low,
        "rank_high": high,
        "family": record.method.family,
        "year": record.method.year,
        "seed": record.seed,
        "run": record.run,
        "date": record.created[:10],
        "images": record.data.test,
        "data_verified": record.data.verified,
        "collapsed": bool(variant.collapsed),
        "device": "cpu" if on_cpu(record) else record.training.environment.device,
    }
    masked: dict[str, bool] = {
        checkpoint: bool(withholding([variant.evaluation(record, checkpoint)], record.protocol.flags))
        for checkpoint in CHECKPOINTS
    }
    measured: list[tuple[str, str]] = [
        (checkpoint, metric) for checkpoint in CHECKPOINTS for metric in (*ACCURACIES, "nrr")
    ]
    measured += [("both", f"gap_{column}") for column in GAPPED]
    measured += [("both", cost) for cost in ("hours", "teacher_hours", "memory", "passes", "parameters", "trained")]
    cells: dict[str, dict[str, Cell]] = {checkpoint: variant.cells(checkpoint) for checkpoint in CHECKPOINTS}
    for checkpoint, metric in measured:
        yield common | {
            "checkpoint": checkpoint,
            "metric": metric,
            "value": cells["best" if checkpoint == "both" else checkpoint][metric].mean,
            "unit": known[metric].unit,
            "masked": any(masked.values()) if checkpoint == "both" else masked[checkpoint],
        }
