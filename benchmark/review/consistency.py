"""What a submitted record must be: its own numbers agree with each other, with its protocol and with other seeds.

Torch-free. A contradiction is refused; what is possible but unlikely is a suspicion, shown to the maintainer and never
a refusal.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from advbench.benchmark.protocol import Protocol, ProtocolError, published
from advbench.benchmark.records.flags import raised
from advbench.benchmark.records.schema import COLUMNS, STAGES, Checkpoint, Evaluation, Passes, Record
from advbench.benchmark.review.adapter.baseline_bands import BANDS
from advbench.benchmark.runs.job import RunSpec
from advbench.benchmark.runs.plan import sizes

FAR_ABOVE = 0.15
"""This far above the best baseline's band an accuracy under AutoAttack is too good to be believed unseen."""


@dataclass(frozen=True)
class Remark:
    """What is wrong, or strange, about a submission. `rule` is its name."""

    rule: str
    severity: Literal["refused", "suspicious"]
    where: str
    said: str


def _refused(rule: str, where: str, said: str) -> Remark:
    return Remark(rule, "refused", where, said)


def _strange(rule: str, where: str, said: str) -> Remark:
    return Remark(rule, "suspicious", where, said)


def validate(records: Sequence[Record]) -> tuple[Remark, ...]:
    """Return everything that is wrong or strange about records, each alone and all together."""
    found = [remark for record in records for rule in RULES for remark in rule(record)]
    return (*found, *_across_seeds(records))


def name(record: Record) -> str:
    """Return what a record is called in remarks."""
    return f"{record.method.name} seed {record.seed} under {record.protocol_name}"


def _protocol(record: Record) -> Iterator[Remark]:
    """The digest is that of the protocol inside, and who claims a published protocol has it to the digit."""
    where = name(record)
    try:
        protocol = Protocol.from_plain(record.protocol, "its protocol")
    except ProtocolError as error:
        yield _refused("protocol", where, str(error))
        return
    if protocol.digest != record.protocol_digest:
        yield _refused("digest of another protocol", where, "its protocol does not have the digest it claims")
    if protocol.name != record.protocol_name or protocol.network != record.network:
        yield _refused("digest of another protocol", where, "name or network are not those of its protocol")
    if record.official != protocol.official:
        said = f"it says official={record.official}, its protocol is {'' if protocol.official else 'not '}published"
        yield _refused("digest of another protocol", where, said)
    if protocol.name in published() and not protocol.official:
        yield _refused("digest of another protocol", where, "it changes a published protocol and keeps its name")
    if record.division == "closed" and not protocol.official:
        yield _refused("division", where, "a protocol of one's own belongs to the open division: submit --open")
    teachers = {role: teacher.run for role, teacher in record.training.teachers.items()}
    spec = RunSpec(protocol, record.method.name, record.method.hyperparameters, record.seed, teachers)
    if spec.id != record.run:
        said = "its run identity is not that of its protocol, hyper-parameters, seed and teachers"
        yield _refused("identity", where, said)


def _readable(record: Record) -> Protocol | None:
    try:
        return Protocol.from_plain(record.protocol, "its protocol")
    except ProtocolError:
        return None  # said by _protocol


def _training(record: Record) -> Iterator[Remark]:
    """Epochs, images, passes and learning rates are those that the protocol grants."""
    protocol, training, where = _readable(record), record.training, name(record)
    if protocol is None:
        return
    per_epoch = record.data.train // protocol.training.batch
    epochs = len(training.curve)
    if [row.epoch for row in training.curve] != list(range(epochs)) or training.epochs != epochs:
        yield _refused("epochs", where, "its learning curve has gaps, or more or fewer rows than epochs")
    if training.diverged is None and training.epochs != protocol.training.epochs:
        said = f"{training.epochs} epochs, the protocol says {protocol.training.epochs}"
        yield _refused("epochs", where, said)
    if training.images != per_epoch * protocol.training.batch * training.epochs:
        yield _refused("epochs", where, f"{training.images} training images are not epochs x batches x batch size")
    if sum((row.passes for row in training.curve), Passes()) != training.passes:
        yield _refused("passes", where, "the passes of its learning curve do not add up to its total")
    for row in training.curve if per_epoch else ():
        due = protocol.training.rate_at_end(row.epoch, per_epoch)
        if not math.isclose(row.lr, due, rel_tol=1e-9, abs_tol=1e-15):
            said = f"learning rate {row.lr:g} at the end of epoch {row.epoch}, the protocol's schedule says {due:g}"
            yield _refused("learning rate", where, said)
            break


def _selection(record: Record) -> Iterator[Remark]:
    """`best` is what the rule picks from the learning curve, and both checkpoints are of the epochs they claim."""
    training, where = record.training, name(record)
    due = "validation PGD-10" if record.method.robust else "validation clean accuracy"
    if training.selection != due:
        yield _refused("selection rule", where, f"selected by {training.selection}, the rule is {due}")
    if training.curve:
        rows = training.curve
        best = max(
            rows, key=lambda row: ((row.robust, row.clean) if record.method.robust else (row.clean,), row.epoch)
        ).epoch
        if training.best_epoch != best:
            said = f"best is of epoch {training.best_epoch}, the rule picks epoch {best}"
            yield _refused("selection rule", where, said)
    if "best" in record.checkpoints and record.checkpoints["best"].epoch != training.best_epoch:
        yield _refused("selection rule", where, "the best checkpoint is not of the best epoch")
    if "last" in record.checkpoints and record.checkpoints["last"].epoch != training.epochs - 1:
        yield _refused("selection rule", where, "the last checkpoint is not of the last epoch")


def _data(record: Record) -> Iterator[Remark]:
    """The images are as many as the protocol has; data whose checksums are not known are marked."""
    protocol, where = _readable(record), name(record)
    official = sizes(protocol.data) if protocol is not None else None
    if official is not None and record.data.verified:
        train, test = official
        if (record.data.train, record.data.test) != (train, test):
            said = f"{record.data.train} training and {record.data.test} test images, there are {train} and {test}"
            yield _refused("more images than the test set" if record.data.test > test else "data", where, said)
    if protocol is not None and protocol.data.name != record.data.name:
        yield _refused("data", where, f"made on {record.data.name}, the protocol says {protocol.data.name}")
    if not record.data.verified:
        yield _strange("unverified data", where, f"{record.data.source} has no known checksums")


def _outcomes(record: Record) -> Iterator[Remark]:
    """Outcomes per image agree with each other; what stronger attacks leave is not more."""
    for checkpoint, saved in record.checkpoints.items():
        where = f"{name(record)}, {checkpoint}"
        evaluation = saved.evaluation
        every = {**evaluation.columns, **evaluation.stages}
        wrong = [column for column, outcomes in every.items() if outcomes.n != record.data.test]
        if wrong:
            rule = "more images than the test set" if every[wrong[0]].n > record.data.test else "outcomes"
            yield _refused(rule, where, f"{wrong[0]} has {every[wrong[0]].n} images, the test set {record.data.test}")
            continue
        if any(column not in evaluation.columns for column in COLUMNS):
            yield _refused("missing attack", where, "not every attack is there: run-all goes on")
            continue
        yield from _conjunction(evaluation, where)
        yield from _plausible(evaluation, where)
        yield from _too_good(record, saved, where)


def _conjunction(evaluation: Evaluation, where: str) -> Iterator[Remark]:
    """No attack leaves an image that was wrong without it, and AutoAttack's stages only take away."""
    clean = evaluation.columns["clean"].correct
    for column in COLUMNS[1:]:
        above = int((evaluation.columns[column].correct & ~clean).sum())
        if above:
            yield _refused("attack above clean", where, f"{above} images are wrong when clean and right under {column}")
    before = clean
    for stage in STAGES:
        if stage not in evaluation.stages:
            yield _refused("outcomes", where, f"AutoAttack's stage {stage} is missing")
            return
        now = evaluation.stages[stage].correct
        if (now & ~before).any():
            yield _refused("outcomes", where, f"images come back to life in AutoAttack's stage {stage}")
        before = now
    if (before != evaluation.columns["autoattack"].correct).any():
        yield _refused("outcomes", where, "AutoAttack is not what its last stage leaves")
    if sum(evaluation.predicted_classes) > len(clean) or sum(evaluation.predicted_classes) < clean.sum():
        yield _refused("outcomes", where, "the predictions per class do not fit the outcomes on clean images")


def _plausible(evaluation: Evaluation, where: str) -> Iterator[Remark]:
    """What is possible by chance, but a sign of masking when it is not."""
    accuracy = {column: evaluation.accuracy(column) or 0.0 for column in COLUMNS}
    for column in ("pgd100", "autoattack"):
        if accuracy[column] > accuracy["pgd20"]:
            said = f"{column} {accuracy[column]:.1%} leaves more than PGD-20 {accuracy['pgd20']:.1%}"
            yield _strange("stronger attack finds less", where, said)
    for flag in raised(evaluation.flags):
        yield _strange(f"flag {flag.name}", where, flag.reason or "raised")


def _too_good(record: Record, saved: Checkpoint, where: str) -> Iterator[Remark]:
    bands = BANDS.get(record.protocol_name, {}) if record.official else {}
    top = max((band.autoattack[1] for band in bands.values()), default=1.0)
    reached = saved.evaluation.accuracy("autoattack") or 0.0
    if reached > top + FAR_ABOVE:
        yield _strange("too good to be true", where, f"AutoAttack leaves {reached:.1%}, baselines {top:.0%} at most")


RULES: tuple[Callable[[Record], Iterator[Remark]], ...] = (_protocol, _training, _selection, _data, _outcomes)


def _across_seeds(records: Iterable[Record]) -> Iterator[Remark]:
    """Seeds of one method are different runs: neither weights, nor curves, nor all outcomes are the same."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        key = [record.protocol_digest, record.method.name, record.method.hyperparameters]
        groups[json.dumps(key, sort_keys=True)].append(record)
    for group in groups.values():
        seen: dict[str, Record] = {}
        for record in sorted(group, key=lambda record: record.seed):
            for what, print_ in _prints(record):
                other = seen.setdefault(print_, record)
                if other.seed != record.seed:
                    said = f"{what} of seeds {other.seed} and {record.seed} are the same"
                    yield _refused("copied seeds", name(record), said)
                elif other is not record:
                    yield _refused("copied seeds", name(record), f"seed {record.seed} is there twice")


def _prints(record: Record) -> Iterator[tuple[str, str]]:
    """Yield fingerprints that two seeds do not share."""
    if "best" in record.checkpoints:
        yield "the weights", record.checkpoints["best"].sha256
    if record.training.curve:
        yield "the learning curves", json.dumps([(row.loss, row.clean, row.robust) for row in record.training.curve])
    columns = (
        {k: v.bits for k, v in record.checkpoints["best"].evaluation.columns.items()} if record.checkpoints else {}
    )
    partly = [bits for bits in columns.values() if set(bits) - {"0", "f"}]
    if len(partly) > 2:
        yield "all outcomes", json.dumps(columns, sort_keys=True)


def same(one: Record, other: Record) -> bool:
    """Whether two records say the same, whenever they were written and whichever division they are for."""
    plain = [record.model_copy(update={"created": "", "division": "closed"}) for record in (one, other)]
    return plain[0] == plain[1]
