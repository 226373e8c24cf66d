"""What a reader must know to read a board: the sentences below it and the marks beside its name."""

from collections.abc import Sequence

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.rank_sets import POOLED_DF, Ranking
from advbench.benchmark.records.schema import CHECKPOINTS, Record
from advbench.benchmark.records.stochastic_order import THRESHOLD
from advbench.leaderboards import correction_notes
from advbench.leaderboards.cells import CAUTION, PARETO
from advbench.leaderboards.divisions import notes as division_notes
from advbench.leaderboards.measures import ACCURACIES, Variant, data_marks, on_cpu
from advbench.leaderboards.table import MARKS, Note, Table
from advbench.leaderboards.writers.escaping import display

SIGNS = {
    "masking": "signs of gradient masking that doubt AutoAttack's figure: numbers kept, no rank if on best",
    "collapsed": "a seed has collapsed; what was measured of it stays in the mean",
    "invalid": "evaluation not valid: not ranked",
    "precision": "trained in fp32, for want of hardware that computes in the bf16 of the protocol",
    "caution": "doubted by a raised flag that leaves the rank: it is no evidence against AutoAttack, or too few images",
}
POWER = 0.8
"""With which the smallest detectable difference is found."""


def board_marks(records: Sequence[Record], protocol: Protocol, ranking: Ranking) -> tuple[str, ...]:
    """Return what holds for the whole board."""
    marks = [] if protocol.official else ["unofficial protocol"]
    found = {mark for record in records for mark in data_marks(record)}
    if "unverified" in found:
        everywhere = all("unverified" in data_marks(record) for record in records)
        marks.append("unverified data" if everywhere else "partly unverified data")
    if "subset" in found or protocol.data.test_limit or protocol.data.train_limit:
        marks.append("subset of the data")
    if protocol.data.extra:
        marks.append("extra data")
    if records and not ranking.ranks_methods:
        marks.append("no ranks yet")
    return tuple(marks)


def explain(table: Table, variants: Sequence[Variant], protocol: Protocol) -> tuple[Note, ...]:
    """Return the notes of a board in the order in which they are printed."""
    records = [record for variant in variants for record in variant.records]
    if not records:
        return (_identity(table, protocol), _no_record(table), *correction_notes.notes(table.history))
    notes = [
        _identity(table, protocol),
        _amount(table, variants),
        _data(records),
        Note("An image counts as robust if the network is right on it and on the attack's output; accuracies in %."),
        _spread(table, variants),
        *division_notes(variants),
        *_ranking(table, protocol),
        Note(
            "NRR: natural-robust ratio 2·clean·AA/(clean + AA), per seed, then averaged.",
            "NRR: 2·clean·AA/(clean + AA).",
            about=("nrr",),
        ),
        Note("Gap: best − last, per seed, then averaged; empty where best is chosen by clean validation accuracy."),
        _cost(records),
    ]
    if max(record.data.num_classes for record in records) < 10:
        text = "AutoAttack is not standard here: fewer than ten classes leave fewer than nine targets."
        notes.append(Note(text, text))
    for key, label, clauses in dict.fromkeys((row.key, row.label, row.notes) for row in table.rows if row.notes):
        notes.append(Note(f"{label}: {'; '.join(clauses)}.", rows=(key,)))
    notes.extend(_withheld(table))
    notes.extend(_cautions(table))
    notes.extend(_not_run(variants))
    notes.extend(_collapsed(variant) for variant in variants if variant.collapsed)
    notes.extend(correction_notes.notes(table.history))
    for mark, sign in MARKS.items():
        if marked := tuple(dict.fromkeys(row.key for row in table.rows if mark in row.marks)):
            about = tuple(ACCURACIES) if mark == "caution" else ()
            notes.append(Note(f"{sign} {SIGNS[mark]}.", f"{sign} {SIGNS[mark]}.", about, marked))
    return tuple(notes)


def _no_record(table: Table) -> Note:
    if table.history:
        return Note("Every record under this protocol was withdrawn.")
    return Note("No record has been published under this protocol yet.")


def _identity(table: Table, protocol: Protocol) -> Note:
    official = "" if table.official else " (unofficial)"
    what = f"{display(protocol.data.name)}, {display(protocol.network)}, {table.threat}"
    text = f"Protocol {protocol.name}{official}, sha256 {table.digest[:16]}; {what}."
    return Note(text, text)


def _amount(table: Table, variants: Sequence[Variant]) -> Note:
    seeds = sorted({seed for variant in variants for seed in variant.seeds})
    plural = "s" if len(seeds) > 1 else ""
    text = f"n = {table.images} test images; seed{plural} {', '.join(str(seed) for seed in seeds)}."
    if table.images and table.images < variants[0].protocol.flags.low_power_images:
        text += f" Low power: a 95 % interval of an accuracy reaches ±{98 / table.images**0.5:.0f} points."
        flags = " Flags that compare columns are weak."
        return Note(text + flags, text)
    return Note(text, text)


def _data(records: Sequence[Record]) -> Note:
    """Say where the images came from and whether they were verified."""
    sources = dict.fromkeys(
        (record.data.name, record.data.source, record.data.verified, record.data.digest[:12], record.data.notes)
        for record in records
    )
    parts = []
    for name, source, verified, digest, notes in sources:
        mark = "verified" if verified else "unverified data"
        parts.append(f"{display(name)} from {source}, {mark}, sha256 {digest}{''.join(f', {note}' for note in notes)}")
    marks = dict.fromkeys(mark for record in records for mark in data_marks(record))
    return Note(f"Data: {'; '.join(parts)}.", f"Data: {', '.join(marks)}." if marks else "Data verified.")


def _spread(table: Table, variants: Sequence[Variant]) -> Note:
    counts = {len(variant.records) for variant in variants}
    parts, brief = [], []
    if counts - {1}:
        parts.append("mean ± sample standard deviation over seeds")
        brief.append("mean ± sd over seeds")
    if 1 in counts:
        parts.append("one seed: [Wilson 95 % interval], which covers the draw of test images only")
        cells = (row.cells[key] for row in table.rows for key in ACCURACIES)
        widths = [(cell.interval.high - cell.interval.low) / 2 for cell in cells if cell.interval is not None]
        reach = f" up to ±{max(widths):.1f} points," if widths else ""
        brief.append(f"one seed: Wilson 95 % intervals{reach} for the draw of test images only")
    return Note(_sentence(parts), _sentence(brief))


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _ranking(table: Table, protocol: Protocol) -> list[Note]:
    """Say what ranks mean, which rows have none, and which differences the board can find."""
    ranking, alpha = table.ranking, protocol.statistics.alpha
    if ranking is None:
        return []
    notes = _rank_sets(table, alpha) if ranking.ranks_methods else [_no_ranks(ranking)]
    if keys := ranking.provisional:
        labels = [row.label for row in table.rows if row.key in keys and row.checkpoint == "best"]
        names = ", ".join(labels) if ranking.order else "every row that could be ranked"
        asked = f"fewer than the protocol's {len(protocol.seeds)} seeds"
        text = f"Provisional, with {asked}: {names}. Shown by mean, in no test."
        notes.append(Note(text, f"Provisional ({asked}), not ranked: {names}.", rows=keys))
    if (found := detectable(table, protocol)) is not None:
        text = (
            f"Smallest difference that this board finds with power {POWER:g}: {100 * found:.1f} points of AutoAttack."
        )
        notes.append(Note(text, text if ranking.ranks_methods else ""))
    return notes


def detectable(table: Table, protocol: Protocol) -> float | None:
    """Return the smallest difference that a board finds with power `POWER`, in [0, 1]; None where no test is made."""
    ranking = table.ranking
    if ranking is None or ranking.variation is None or len(ranking.order) < 2:
        return None
    return ranking.variation.detectable(len(ranking.order), len(protocol.seeds), protocol.statistics.alpha, power=POWER)


def _no_ranks(ranking: Ranking) -> Note:
    text = (
        "Rows are ordered by mean AutoAttack on best and not ranked: to tell methods apart a board needs "
        f"{POOLED_DF} pooled degrees of freedom of the noise over seeds, such as four rows of three seeds, and its "
        f"complete rows hold {ranking.pooled_df}."
    )
    return Note(text, "No ranks: too few seeds to tell methods apart.")


def _rank_sets(table: Table, alpha: float) -> list[Note]:
    """Say how rank sets are found, what bold and the sign of the Pareto front mean, and which rows are noisy."""
    test = f"one-sided t tests over seeds and images, level {alpha:g} for all claims of the board"
    text = (
        "Rows are ordered by mean AutoAttack on best. Rank: the ranks that the outcomes leave open, from 1 + the rows "
        f"that beat a row to the number of rows less those it beats ({test}). Bold: no row beats it, where some row is "
        "beaten. The draw of the split of the data is not covered."
    )
    bold = any(row.cells["rank"].bold for row in table.rows)
    brief = f"Bold: AutoAttack on best beaten by no row ({test})." if bold else "No row is significantly better."
    front = (
        f"{PARETO} On the Pareto front: no ranked row costs at most as many passes per image and is higher in "
        "AutoAttack on best; rows with frozen teachers, whose passes are not counted, are left out."
    )
    noisy = table.ranking.noisy if table.ranking else ()
    order = (
        "Stochastic order: 1 + the rows whose accuracies over seeds lie above the row's but for a violation of "
        f"{THRESHOLD:g} (almost stochastic order, bootstrap over seeds). It describes: no level is held."
    )
    ordered = any(column.key == "stochastic" for column in table.columns)
    return [
        Note(text, brief),
        Note(front),
        *([Note(order, order, about=("stochastic",))] if ordered else []),
        *(
            Note(
                f"{row.label}: its seeds scatter more than those of other rows; it is beaten as if they did not, for "
                "it does not reliably reach its mean.",
                rows=(row.key,),
            )
            for row in table.rows
            if row.checkpoint == "best" and row.key in noisy
        ),
    ]


def _cost(records: Sequence[Record]) -> Note:
    machines = dict.fromkeys(
        f"{record.training.environment.cpu}, {record.training.environment.threads} "
        f"thread{'s' if record.training.environment.threads != 1 else ''} a process"
        if on_cpu(record)
        else record.training.environment.device
        for record in records
    )
    versions = dict.fromkeys(
        f"advbench {record.training.environment.advbench}, torch "
        f"{record.training.environment.libraries.get('torch', 'unknown')}"
        for record in records
    )
    text = (
        f"Training time is wall time on {'; '.join(machines)} ({'; '.join(versions)}). "
        "Passes: forwards F of one image, an input gradient counts 1F, weight gradients 2F."
    )
    if any(record.training.teachers for record in records):
        text += " Training time includes frozen teachers, whose share is shown apart; passes do not."
    return Note(text)


def _collapsed(variant: Variant) -> Note:
    """Say which seeds of a method have collapsed and why."""
    listed = "; ".join(f"seed {seed} collapsed ({why})" for seed, why in variant.collapsed.items())
    brief = f"{variant.identity.row}: {len(variant.collapsed)} of {len(variant.records)} seeds collapsed."
    return Note(f"{variant.identity.row}: {listed}.", brief, rows=(variant.key,))


def _not_run(variants: Sequence[Variant]) -> list[Note]:
    """Name the flags that were not run, with the reasons: they are shown, not passed."""
    missing: dict[str, dict[str, None]] = {}
    for variant in variants:
        for checkpoint in CHECKPOINTS:
            for evaluation in variant.evaluations(checkpoint):
                for flag in evaluation.flags:
                    if flag.state == "not run":
                        missing.setdefault(flag.reason or "no reason given", {})[flag.name] = None
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in missing.items())
    return [Note(f"Flags not run on some checkpoint: {listed}.")] if listed else []


def _withheld(table: Table) -> list[Note]:
    notes = []
    for row in table.rows:
        rank = row.cells["rank"]
        if row.checkpoint == "best" and rank.state in {"withheld", "unranked"}:
            status = "rank withheld" if rank.state == "withheld" else "not ranked"
            brief = "" if row.marks else f"{row.label}: {status}."
            notes.append(Note(f"{row.label}: {status}, {rank.reason}.", brief, rows=(row.key,)))
    return notes


def _cautions(table: Table) -> list[Note]:
    """Say which columns a caution marks, rows with the same one together."""
    alike: dict[str, dict[str, str]] = {}
    for row in table.rows:
        doubted: dict[str, list[str]] = {}
        for key, (label, _) in ACCURACIES.items():
            if row.cells[key].sign == CAUTION:
                doubted.setdefault(row.cells[key].reason, []).append(label)
        for reason, columns in doubted.items():
            alike.setdefault(f"{reason} ({', '.join(columns)})", {})[row.key] = row.label
    return [Note(f"{', '.join(labels.values())}: {text}.", rows=tuple(labels)) for text, labels in alike.items()]
