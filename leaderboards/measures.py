"""From the records of one method variant to the cells of its rows: accuracies, gap, NRR, cost."""

from collections.abc import Callable, Sequence

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.external import ExternalRecord
from advbench.benchmark.records.schema import COLUMNS, Checkpoint, Evaluation, Record
from advbench.benchmark.records.statistics import Interval, natural_robust_ratio, wilson
from advbench.leaderboards.exclusions import collapse, summarize_flags
from advbench.leaderboards.table import Cell, Column

GIB = 2**30
ACCURACIES = {
    "clean": ("Clean", "Clean"),
    "pgd20": ("PGD-20", "PGD-20"),
    "pgd100": ("PGD-100", "PGD-100"),
    "cw": ("CW", "CW"),
    "autoattack": ("AutoAttack", "AA"),
    "worst": ("Worst case", "Worst"),
}
GAPPED = ("pgd20", "autoattack")
"""Columns whose best − last difference is the robust-overfitting gap."""


class Variant:
    """The records of one method with one set of hyper-parameters, by seed."""

    def __init__(self, key: str, records: Sequence[Record], protocol: Protocol) -> None:
        self.key = key
        self.records = sorted(records, key=lambda record: record.seed)
        self.protocol = protocol
        self.identity = self.records[0].method
        self.collapsed = {record.seed: why for record in self.records if (why := collapse(record))}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds in order."""
        return tuple(record.seed for record in self.records)

    def evaluation(self, record: Record, checkpoint: str) -> Evaluation:
        """Return what was measured on a checkpoint; nothing if it is not there."""
        found: Checkpoint | None = record.checkpoints.get(checkpoint)  # type: ignore[call-overload]  # any text
        return found.evaluation if found else Evaluation()

    def evaluations(self, checkpoint: str) -> list[Evaluation]:
        """Return the evaluations of a checkpoint in order of seeds."""
        return [self.evaluation(record, checkpoint) for record in self.records]

    def cell(self, values: Sequence[float | None], interval: Interval | None = None, unit: str = "") -> Cell:
        """Make a cell of one value per seed, None where it was not measured.

        A cell without any value says so: collapsed where all seeds have, missing otherwise.
        """
        measured = tuple(value for value in values if value is not None)
        if measured:
            return Cell(values=measured, expected=len(values), interval=interval, unit=unit)
        if self.collapsed and len(self.collapsed) == len(self.records):
            return Cell(state="collapsed", reason="; ".join(dict.fromkeys(self.collapsed.values())))
        return Cell(state="missing", reason="not measured")

    def accuracy(self, checkpoint: str, column: str) -> Cell:
        """Return an accuracy in percent; a single seed with its Wilson interval."""
        evaluations = self.evaluations(checkpoint)
        shares = [evaluation.accuracy(column) for evaluation in evaluations]
        interval = None
        if len(shares) == 1 and shares[0] is not None:
            images = evaluations[0].columns["clean" if column == "worst" else column].n
            low, high = wilson(round(shares[0] * images), images)
            interval = Interval(100 * low, 100 * high)
        return self.cell([None if share is None else 100 * share for share in shares], interval)

    def by_seed(self, checkpoint: str) -> dict[int, float]:
        """Return AutoAttack accuracies in percent by seed, of the seeds that have one."""
        pairs = zip(self.seeds, self.evaluations(checkpoint), strict=True)
        return {seed: 100 * share for seed, each in pairs if (share := each.accuracy("autoattack")) is not None}

    def ratio(self, checkpoint: str) -> Cell:
        """Return NRR in percent, per seed and then averaged."""
        return self.cell([_ratio(evaluation) for evaluation in self.evaluations(checkpoint)])

    def gap(self, column: str) -> Cell:
        """Return best − last in points, per seed and then averaged; the sign is kept."""
        if any(record.training.selection == "validation-clean" for record in self.records):
            return Cell(state="not applicable", reason="best was chosen by clean validation accuracy")
        pairs = zip(self.evaluations("best"), self.evaluations("last"), strict=True)
        return self.cell([_difference(best, last, column) for best, last in pairs])

    def per_record(self, measure: Callable[[Record], float | None], unit: str = "") -> Cell:
        """Return a measure of the training runs."""
        return self.cell([measure(record) for record in self.records], unit=unit)

    def passes(self) -> Cell:
        """Return training passes per image in forwards F, without those of frozen teachers."""
        return self.per_record(_passes)

    @property
    def hour(self) -> str:
        """Name an hour of the device that trained: "GPU-h", "CPU-h", or "GPU- and CPU-h" over mixed seeds."""
        kinds = sorted({"CPU" if on_cpu(record) else "GPU" for record in self.records}, reverse=True)
        return f"{'- and '.join(kinds)}-h" if len(kinds) > 1 else f"{kinds[0]}-h"

    def flags(self, checkpoint: str) -> Cell:
        """Return the flags of a checkpoint as text."""
        return Cell(text=summarize_flags(self.evaluations(checkpoint)))

    def count(self) -> Cell:
        """Return the number of seeds, and how many of them have collapsed."""
        text = f"{len(self.collapsed)} collapsed" if self.collapsed else ""
        return Cell(values=(float(len(self.records)),), expected=1, text=text)

    def data(self) -> Cell:
        """Return the data mark."""
        marks = dict.fromkeys(mark for record in self.records for mark in data_marks(record))
        return Cell(text=", ".join(marks) or "verified")

    def cells(self, checkpoint: str) -> dict[str, Cell]:
        """Return every cell but rank, by column key."""
        cells = {
            "method": Cell(text=self.identity.row),
            "checkpoint": Cell(text=checkpoint),
            **{column: self.accuracy(checkpoint, column) for column in ACCURACIES},
            "nrr": self.ratio(checkpoint),
            **{f"gap_{column}": self.gap(column) for column in GAPPED},
            "seeds": self.count(),
            "hours": self.per_record(_hours, unit=self.hour),
            "teacher_hours": self.per_record(_teacher_hours, unit=self.hour),
            "memory": self.per_record(lambda record: record.training.peak_memory_bytes / GIB or None),
            "passes": self.passes(),
            "parameters": self.per_record(lambda record: record.training.parameters_deployed / 1e6),
            "trained": self.per_record(lambda record: record.training.parameters_trained / 1e6),
            "flags": self.flags(checkpoint),
            "data": self.data(),
        }
        if checkpoint == "last":
            for column in GAPPED:
                cells[f"gap_{column}"] = Cell(state="not applicable", reason="shown in the row of best")
        return cells


def columns(*, standard: bool, hour: str, teachers: bool, stochastic: bool = False) -> tuple[Column, ...]:
    """Return the columns of a board in order.

    Args:
        standard: whether AutoAttack has its standard nine targets.
        hour: unit of training time where it is the same for all rows, else empty.
        teachers: whether any row had frozen teachers, whose cost is then shown apart.
        stochastic: whether rows have enough seeds for almost stochastic order.
    """
    accuracies = [Column(key, label, short, "accuracy", "%") for key, (label, short) in ACCURACIES.items()]
    if not standard:
        position = list(ACCURACIES).index("autoattack")
        accuracies[position] = Column("autoattack", "AutoAttack, not standard", "AA*", "accuracy", "%")
    return (
        Column("rank", "Rank", "Rank", "rank"),
        *([Column("stochastic", "Stochastic order", "ASO", "count")] if stochastic else []),
        Column("method", "Method", "Method", "text"),
        Column("checkpoint", "Checkpoint", "Ckpt.", "text"),
        *accuracies,
        Column("nrr", "NRR", "NRR", "accuracy", "%"),
        Column("gap_pgd20", "Gap PGD-20", "Gap PGD", "points", "points"),
        Column("gap_autoattack", "Gap AutoAttack", "Gap AA", "points", "points"),
        Column("seeds", "Seeds", "Seeds", "count"),
        Column("hours", "Training", "Training", "amount", hour),
        *([Column("teacher_hours", "of it teachers", "Teachers", "amount", hour)] if teachers else []),
        Column("memory", "Peak memory", "Memory", "amount", "GiB"),
        Column("passes", "Passes per image", "Passes", "amount", "F"),
        Column("parameters", "Parameters deployed", "Param.", "amount", "M"),
        Column("trained", "Parameters trained", "Trained", "amount", "M"),
        Column("flags", "Flags", "Flags", "text"),
        Column("data", "Data", "Data", "text"),
    )


def on_cpu(record: Record) -> bool:
    """Whether the run was trained on the processor."""
    return record.training.environment.device == "cpu"


def data_marks(record: Record | ExternalRecord) -> tuple[str, ...]:
    """Return what is not as it should be with the data of a record: "unverified", "subset"."""
    data = record.protocol.data
    subset = bool(data.train_limit or data.test_limit)
    return (*([] if record.data.verified else ["unverified"]), *(["subset"] if subset else []))


def test_images(records: Sequence[Record]) -> int:
    """Return the number of test images that were attacked, or the number the data has where none was."""
    return max(
        (
            outcomes.n
            for record in records
            for checkpoint in record.checkpoints.values()
            for column, outcomes in checkpoint.evaluation.columns.items()
            if column in COLUMNS
        ),
        default=max((record.data.test for record in records), default=0),
    )


def _ratio(evaluation: Evaluation) -> float | None:
    clean, robust = evaluation.accuracy("clean"), evaluation.accuracy("autoattack")
    return None if clean is None or robust is None else 100 * natural_robust_ratio(clean, robust)


def _difference(best: Evaluation, last: Evaluation, column: str) -> float | None:
    before, after = best.accuracy(column), last.accuracy(column)
    return None if before is None or after is None else 100 * (before - after)


def _teacher_hours(record: Record) -> float:
    return sum(teacher.seconds for teacher in record.training.teachers.values()) / 3600


def _hours(record: Record) -> float:
    return record.training.seconds / 3600 + _teacher_hours(record)


def _passes(record: Record) -> float | None:
    return record.training.passes.forwards / record.training.images if record.training.images else None
