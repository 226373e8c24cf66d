"""Records to a board: group by variant, measure, rank, and say what a reader must know."""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import corrections
from advbench.benchmark.records.corrections import Correction
from advbench.benchmark.records.rank_sets import POOLED_DF, Ranking, rank
from advbench.benchmark.records.schema import CHECKPOINTS, Record
from advbench.benchmark.records.statistics import Correct, Interval
from advbench.benchmark.records.stochastic_order import LEAST, stochastic_ranks
from advbench.leaderboards import divisions
from advbench.leaderboards.cells import CAUTION, PARETO
from advbench.leaderboards.exclusions import cautions, invalid, withholding
from advbench.leaderboards.measures import Variant, columns, test_images
from advbench.leaderboards.notes import board_marks, explain
from advbench.leaderboards.table import BoardError, Cell, Row, Table

logger = logging.getLogger(__name__)
METRIC = "autoattack"
"""Rows are ordered and ranked by this column of their `best` checkpoint."""
NO_ORDER = Cell(state="not applicable", reason=f"stochastic order compares best checkpoints of {LEAST} seeds or more")
FRONT = "cifar10-linf-lite"
"""The protocol whose board is shown first where several are: real images, and anybody can repeat it."""
PUBLISHED = Path(__file__).parent / "records"
"""The published records; they come with the package."""
ORDER = ("measured", "no ranks", "provisional")
"""States of ranks, in the order of the rows on a board; what may not be ranked comes last."""


def load_records(path: Path) -> list[Record]:
    """Read a record file, or every current record below a folder, in order of their paths; see `load`."""
    return load(path)[0]


def load(path: Path) -> tuple[list[Record], tuple[Correction, ...]]:
    """Read a record file, or every current record below a folder with what was corrected there.

    Raises:
        BoardError: if the path does not exist.
        RecordError: if the one file fails the schema; below a folder such a file is left out with a warning.
        CorrectionError: if the corrections do not fit the records; one line naming the file.
    """
    if path.is_file():
        return [Record.load(path)], ()
    if not path.is_dir():
        raise BoardError(f"{path}: no such records folder; give the folder that holds the records' JSON files")
    found = corrections.read(path)
    return list(found.records.values()), found.history


def group(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Sort records by protocol digest, one board each, in order of `front_first`."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (front_first(record.protocol_name), record.protocol_digest)):
        found[record.protocol_digest].append(record)
    return dict(found)


def front_first(name: str) -> tuple[bool, str]:
    """Return the key that sorts protocols by name, the board of `FRONT` before all others."""
    return name.rpartition("/")[0] != FRONT, name


def build(records: Sequence[Record], protocol: Protocol | None = None, *, history: Iterable[Correction] = ()) -> Table:
    """Make the board of records that were all made under one protocol digest, each division a part ranked by itself.

    Args:
        records: any number of methods, variants and seeds.
        protocol: whose board it is; needed only where there may be no record yet.
        history: corrections of published records, as `load` returns them; those of other protocols are left out.

    Raises:
        BoardError: for records of two protocols, two records of one run, or neither records nor a protocol.
    """
    protocol = _one_protocol(records, protocol)
    closed, *others = divisions.split(records).items()
    changes = tuple(change for change in history if change.digest == protocol.digest)
    table = _table(closed[1], protocol, history=changes)
    defaults = {
        variant.identity.name: variant for variant in _variants(closed[1], protocol) if not variant.identity.changed
    }
    parts = (_table(several, protocol, part=heading, closed=defaults) for heading, several in others)
    return replace(table, parts=tuple(parts))


def _table(
    records: Sequence[Record],
    protocol: Protocol,
    *,
    history: tuple[Correction, ...] = (),
    part: str = "",
    closed: Mapping[str, Variant] | None = None,
) -> Table:
    """Make one part of a board; `closed` are the rows of the closed division that others are compared with."""
    variants = _variants(records, protocol)
    barred = {variant.key: why for variant in variants if (why := _barred(variant, records))}
    outcomes = {variant.key: _outcomes(variant) for variant in variants if variant.key not in barred}
    ranking = rank(outcomes, seeds=len(protocol.seeds), alpha=protocol.statistics.alpha)
    cells = _rank_cells(variants, ranking, protocol) | barred
    orders = _stochastic_orders(variants, ranking, protocol)
    hours = {variant.hour for variant in variants}
    hour = hours.pop() if len(hours) == 1 else ""
    classes = max((record.data.num_classes for record in records), default=10)
    labels = _labels(variants)
    rows = []
    for variant in sorted(variants, key=lambda variant: _order(variant, cells[variant.key])):
        about = cells[variant.key], labels[variant.key], hour
        rows += [_row(variant, checkpoint, *about) for checkpoint in CHECKPOINTS]
    for row in rows if orders else ():
        row.cells["stochastic"] = orders.get(row.key, NO_ORDER) if row.checkpoint == "best" else NO_ORDER
    known = {variant.key: variant for variant in variants}
    for row in rows if part else ():
        row.cells.update(divisions.cells(known[row.key], row.checkpoint, closed or {}, hour))
    table = Table(
        protocol=protocol.name,
        digest=protocol.digest,
        official=protocol.official,
        dataset=protocol.data.name,
        network=protocol.network,
        threat=protocol.threat.text,
        images=test_images(records),
        columns=(
            *columns(
                standard=classes >= 10,
                hour=hour,
                teachers=any(record.training.teachers for record in records),
                stochastic=bool(orders),
            ),
            *(divisions.columns(records, hour) if part else ()),
        ),
        rows=tuple(rows),
        marks=board_marks(records, protocol, ranking),
        ranking=ranking,
        history=history,
        part=part,
    )
    return replace(table, notes=explain(table, variants, protocol))


def _one_protocol(records: Sequence[Record], protocol: Protocol | None) -> Protocol:
    """Return the protocol of all records, refusing a mixture."""
    digests = {record.protocol_digest: record.protocol_name for record in records}
    if protocol is not None:
        digests[protocol.digest] = protocol.name
    if not digests:
        raise BoardError("no records to make a board of; train and evaluate first, or point to a records folder")
    if len(digests) > 1:
        named = ", ".join(f"{name} ({digest[:12]})" for digest, name in sorted(digests.items(), key=lambda one: one[1]))
        raise BoardError(f"a board never mixes protocols: {named}; choose one with --protocol")
    if protocol is None:
        protocol = records[0].protocol
    wrong = [record.run for record in records if record.protocol.digest != record.protocol_digest]
    if wrong:
        raise BoardError(f"record {wrong[0]}: its protocol does not have the digest it claims; measure the run again")
    return protocol


def _variants(records: Sequence[Record], protocol: Protocol) -> list[Variant]:
    """Group records by method, hyper-parameters, network, division and recipe."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        plain = [record.method.name, record.method.hyperparameters, record.network, record.division]
        if record.recipe:
            plain.append(record.recipe.plain())
        found[json.dumps(plain, sort_keys=True)].append(record)
    for several in found.values():
        for seed, times in Counter(record.seed for record in several).items():
            if times > 1:
                name = several[0].method.row
                raise BoardError(f"{times} records of {name} with seed {seed}: keep one of them, remove the others")
    return [Variant(key, several, protocol) for key, several in sorted(found.items())]


def _labels(variants: Sequence[Variant]) -> dict[str, str]:
    """Name the rows; variants that their labels do not tell apart get a digest of their hyper-parameters.

    The settings of tuned rows stand in a column of their own.
    """
    names = {
        variant.key: variant.identity.label if variant.records[0].tuning else variant.identity.row
        for variant in variants
    }
    times = Counter(names.values())
    return {
        key: name if times[name] == 1 else f"{name} [{hashlib.sha256(key.encode()).hexdigest()[:6]}]"
        for key, name in names.items()
    }


def _barred(variant: Variant, records: Sequence[Record]) -> Cell | None:
    """Return the rank cell of a variant that may not be ranked, with the reason; None if it may."""
    if raised := withholding(variant.evaluations("best"), variant.protocol.flags):
        return Cell(state="withheld", reason=f"signs of gradient masking: {', '.join(raised)}")
    broken = dict.fromkeys(
        name for record in variant.records for name in invalid(record, variant.evaluation(record, "best"))
    )
    if broken:
        return Cell(state="unranked", reason=f"evaluation not valid: {', '.join(broken)}")
    share = len(variant.collapsed) / len(variant.records)
    if share > variant.protocol.flags.collapsed_seeds:
        return Cell(state="unranked", reason=f"{len(variant.collapsed)} of {len(variant.records)} seeds collapsed")
    if variant.protocol.data.extra or any(record.division == "open" for record in variant.records):
        return Cell(state="unranked", reason="open division: not ranked among the closed one")
    missing = [
        record.seed
        for record in variant.records
        if METRIC not in variant.evaluation(record, "best").columns and record.seed not in variant.collapsed
    ]
    if missing or not _has_outcomes(variant):
        seeds = ", ".join(str(seed) for seed in missing or variant.seeds)
        return Cell(state="unranked", reason=f"no complete AutoAttack on best for seed {seeds}")
    return _other_images(variant, records)


def _other_images(variant: Variant, records: Sequence[Record]) -> Cell | None:
    """Bar a variant measured on other images than most records: its outcomes cannot be paired with theirs."""
    images = Counter((record.data.digest, record.data.split_sha256) for record in records)
    common = min(images, key=lambda data: (-images[data], data))
    if any((record.data.digest, record.data.split_sha256) != common for record in variant.records):
        return Cell(state="unranked", reason="other data than most of the board: images cannot be paired")
    return None


def _has_outcomes(variant: Variant) -> bool:
    return any(METRIC in evaluation.columns for evaluation in variant.evaluations("best"))


def _outcomes(variant: Variant) -> Correct:
    """Stack the outcomes that are ranked, (seeds, images)."""
    evaluations = variant.evaluations("best")
    return np.stack([one.columns[METRIC].correct for one in evaluations if METRIC in one.columns])


def _rank_cells(variants: Sequence[Variant], ranking: Ranking, protocol: Protocol) -> dict[str, Cell]:
    """Return the rank sets of complete rows, and why the others have none, by the keys of the rows."""
    cells = {
        variant.key: Cell(
            state="provisional",
            reason=f"{len(_outcomes(variant))} of the protocol's {len(protocol.seeds)} seeds",
        )
        for variant in variants
        if variant.key in ranking.provisional
    }
    if not ranking.ranks_methods:
        reason = f"{ranking.pooled_df} pooled degrees of freedom of seed noise, a rank needs {POOLED_DF}"
        return cells | dict.fromkeys(ranking.order, Cell(state="no ranks", reason=reason))
    front = _pareto([variant for variant in variants if variant.key in ranking.sets])
    beaten = sorted({found.low for found in ranking.sets.values()} - {1})
    for key, found in ranking.sets.items():
        cells[key] = Cell(
            values=(float(found.low),),
            expected=1,
            interval=Interval(found.low, found.high),
            bold=found.bold and bool(beaten),
            second=found.low in beaten[:1],
            sign=PARETO if key in front else "",
            reason="on the Pareto front of passes and AutoAttack" if key in front else "",
        )
    return cells


def _stochastic_orders(variants: Sequence[Variant], ranking: Ranking, protocol: Protocol) -> dict[str, Cell]:
    """Return the ranks by almost stochastic order of ranked rows with enough seeds; none below two such rows."""
    values = {
        variant.key: variant.accuracy("best", METRIC).values for variant in variants if variant.key in ranking.sets
    }
    enough = {key: accuracies for key, accuracies in values.items() if len(accuracies) >= LEAST}
    if len(enough) < 2:
        return {}
    rule = protocol.statistics
    found = stochastic_ranks(enough, alpha=rule.alpha, draws=rule.draws, seed=rule.seed)
    return {key: Cell(values=(float(rank),), expected=1) for key, rank in found.items()}


def _pareto(variants: Sequence[Variant]) -> set[str]:
    """Return the keys of the rows that no other dominates in passes and AutoAttack on best.

    Rows with frozen teachers are left out on both sides: the passes of their teachers are not counted.
    """
    points = {
        variant.key: (cost, robust)
        for variant in variants
        if not any(record.training.teachers for record in variant.records)
        and (cost := variant.passes().mean) is not None
        and (robust := variant.accuracy("best", METRIC).mean) is not None
    }
    return {
        key
        for key, (cost, robust) in points.items()
        if not any(less <= cost and more >= robust and (less, more) != (cost, robust) for less, more in points.values())
    }


def _order(variant: Variant, rank: Cell) -> tuple[int, float, float, str]:
    """Sort by mean AutoAttack on best, then clean accuracy: complete rows, provisional ones, those not to be ranked."""
    group = ORDER.index(rank.state) if rank.state in ORDER else len(ORDER)
    robust, clean = (variant.accuracy("best", column).mean for column in (METRIC, "clean"))
    return group, -(robust or 0), -(clean or 0), variant.identity.row


def _row(variant: Variant, checkpoint: str, rank: Cell, label: str, hour: str) -> Row:
    """Make one row; emphasis goes to what was tested, AutoAttack on best, and to the names it belongs to."""
    cells = {"rank": rank, **variant.cells(checkpoint)}
    cells["method"] = replace(cells["method"], text=label)
    if checkpoint == "last":
        cells["rank"] = Cell(state="not applicable", reason="ranks compare best checkpoints")
    else:
        for key in ("method", METRIC):
            cells[key] = replace(cells[key], bold=rank.bold, second=rank.second)
    if hour:
        for key in ("hours", "teacher_hours"):
            cells[key] = replace(cells[key], unit="")
    for key, names in cautions(variant.evaluations(checkpoint), variant.protocol.flags).items():
        if cells[key].state == "measured":
            cells[key] = replace(cells[key], sign=CAUTION, reason=f"caution: {', '.join(names)}")
    identity = variant.identity
    division, extra = variant.records[0].division, variant.protocol.data.extra
    clauses = {"overrides update": identity.overrides_update, "open division": division == "open"}
    clauses |= {extra.text: True} if extra else {}
    taught = {teacher.method: teacher for teacher in variant.records[0].training.teachers.values() if not teacher.run}
    clauses |= {f"teacher from elsewhere: {file}, sha256 {taught[file].sha256[:12]}": True for file in sorted(taught)}
    return Row(
        key=variant.key,
        checkpoint=checkpoint,
        identity=identity,
        label=label,
        cells=cells,
        seeds=variant.seeds,
        runs=tuple(record.run for record in variant.records),
        marks=_marks(variant, checkpoint),
        notes=(*identity.notes, *(clause for clause, holds in clauses.items() if holds)),
        date=max(record.created for record in variant.records)[:10],
        division=division,
    )


def _marks(variant: Variant, checkpoint: str) -> tuple[str, ...]:
    """Return the marks of a row: what is wrong with it, or doubted."""
    evaluations, limits = variant.evaluations(checkpoint), variant.protocol.flags
    found = {
        "masking": bool(withholding(evaluations, limits)),
        "collapsed": bool(variant.collapsed),
        "invalid": any(invalid(record, variant.evaluation(record, checkpoint)) for record in variant.records),
        "caution": bool(cautions(evaluations, limits)),
        "precision": any(
            record.training.environment.precision == "fp32" != variant.protocol.training.precision
            for record in variant.records
        ),
    }
    return tuple(mark for mark, holds in found.items() if holds)
