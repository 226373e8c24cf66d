"""What a submitted record must be: its own numbers agree with each other, with its protocol and with other seeds.

Torch-free. A contradiction is refused; what is possible but unlikely is a suspicion, shown to the maintainer and never
a refusal.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.records.flags import raised
from advbench.benchmark.records.schema import COLUMNS, STAGES, Checkpoint, Evaluation, Passes, Record, due_selection
from advbench.benchmark.review.adapter.baseline_bands import baselines
from advbench.benchmark.review.finding import Finding
from advbench.benchmark.runs.job import RunSpec
from advbench.benchmark.runs.plan import MethodFacts, PlanError, sizes
from advbench.benchmark.runs.tuning import RECIPE_KNOBS, candidates, tuning_seeds

FAR_ABOVE = 0.15
"""This far above the best baseline's band an accuracy under AutoAttack is too good to be believed unseen."""


def _refused(rule: str, place: str, message: str) -> Finding:
    return Finding(rule, "refused", place, message)


def _suspicious(rule: str, place: str, message: str) -> Finding:
    return Finding(rule, "suspicious", place, message)


def validate(records: Sequence[Record]) -> tuple[Finding, ...]:
    """Return everything that is wrong or strange about records, each alone and all together."""
    found = [finding for record in records for rule in RECORD_RULES for finding in rule(record)]
    return (*found, *_across_seeds(records))


def name(record: Record) -> str:
    """Return what a record is called in findings."""
    return f"{record.method.name} seed {record.seed} under {record.protocol_name}"


def _protocol(record: Record) -> Iterator[Finding]:
    """The digest is that of the protocol inside, and who claims a published protocol has it to the digit."""
    place, another = name(record), "digest of another protocol"
    protocol = record.protocol
    if protocol.digest != record.protocol_digest:
        yield _refused(another, place, "its protocol does not have the digest it claims")
    if protocol.name != record.protocol_name or protocol.network != record.network:
        yield _refused(another, place, "name or network are not those of its protocol")
    if record.official != protocol.official:
        message = f"it says official={record.official}, its protocol is {'' if protocol.official else 'not '}published"
        yield _refused(another, place, message)
    if protocol.name in published() and not protocol.official:
        yield _refused(another, place, "it changes a published protocol and keeps its name")
    if record.division != "open" and protocol.data.extra:
        yield _refused("division", place, "a protocol with extra data belongs to the open division: submit --open")
    elif record.division != "open" and not protocol.official:
        yield _refused("division", place, "a protocol of one's own belongs to the open division: submit --open")
    teachers = {role: teacher.run for role, teacher in record.training.teachers.items() if teacher.run}
    spec = RunSpec(
        protocol,
        record.method.name,
        record.method.hyperparameters,
        record.seed,
        teachers,
        recipe=record.recipe,
        budget=record.tuning.budget if record.tuning else None,
    )
    if spec.id != record.run or record.division not in {spec.division, "open"}:
        message = "its run identity is not that of its protocol, settings, division, seed and teachers"
        yield _refused("identity", place, message)
    if record.recipe and protocol.differing(record.recipe) != record.recipe:
        yield _refused("recipe", place, "its recipe repeats the protocol's training")
    yield from _training(record, protocol.trained_by(record.recipe))
    yield from _data(record, protocol)
    yield from _tuned(record, protocol)


def _tuned(record: Record, protocol: Protocol) -> Iterator[Finding]:
    """The trials of a tuned row are the default and the draws of the digest, with seeds that are not the board's."""
    tuning, place = record.tuning, name(record)
    if tuning is None:
        return
    own = {knob: values for knob, values in tuning.space.items() if knob not in RECIPE_KNOBS}
    given = [(trial.hyperparameters, trial.recipe) for trial in tuning.trials]
    try:
        due = candidates(protocol, record.method.name, MethodFacts(tuning.defaults, tunable=own), tuning.budget)
        drawn = [(dict(request.hyperparameters), request.recipe) for request in due]
    except PlanError as error:
        yield _refused("tuning", place, str(error))
        return
    if drawn != given or tuning.seeds != tuning_seeds(protocol, tuning.budget):
        yield _refused("tuning", place, "its trials are not the default and the draws of the protocol, on tuning seeds")


def _training(record: Record, protocol: Protocol) -> Iterator[Finding]:
    """Epochs, images, passes and learning rates are those that the protocol grants."""
    training, place = record.training, name(record)
    per_epoch = record.data.train // protocol.training.batch
    epochs = len(training.curve)
    if [row.epoch for row in training.curve] != list(range(epochs)) or training.epochs != epochs:
        yield _refused("epochs", place, "its learning curve has gaps, or more or fewer rows than epochs")
    if training.diverged is None and training.epochs != protocol.training.epochs:
        yield _refused("epochs", place, f"{training.epochs} epochs, the protocol says {protocol.training.epochs}")
    if training.images != per_epoch * protocol.training.batch * training.epochs:
        yield _refused("epochs", place, f"{training.images} training images are not epochs x batches x batch size")
    if sum((row.passes for row in training.curve), Passes()) != training.passes:
        yield _refused("passes", place, "the passes of its learning curve do not add up to its total")
    for row in training.curve if per_epoch else ():
        due = protocol.training.rate_at_end(row.epoch, per_epoch)
        if not math.isclose(row.lr, due, rel_tol=1e-9, abs_tol=1e-15):
            message = f"learning rate {row.lr:g} at the end of epoch {row.epoch}, the protocol's schedule says {due:g}"
            yield _refused("learning rate", place, message)
            break


def _data(record: Record, protocol: Protocol) -> Iterator[Finding]:
    """The images are as many as the protocol has."""
    data, place, official = record.data, name(record), sizes(protocol.data)
    if official is not None and data.verified and (data.train, data.test) != official:
        message = f"{data.train} training and {data.test} test images, there are {official[0]} and {official[1]}"
        yield _refused("more images than the test set" if data.test > official[1] else "data", place, message)
    if protocol.data.name != data.name:
        yield _refused("data", place, f"made on {data.name}, the protocol says {protocol.data.name}")


def _provenance(record: Record) -> Iterator[Finding]:
    """Data whose checksums are not known are marked."""
    if not record.data.verified:
        yield _suspicious("unverified data", name(record), f"{record.data.source} has no known checksums")


def _selection(record: Record) -> Iterator[Finding]:
    """`best` is what the rule picks from the learning curve, and both checkpoints are of the epochs they claim."""
    training, place, robust = record.training, name(record), record.method.robust
    due = due_selection(record.protocol, robust=robust)
    if training.selection != due:
        message = f"selected by {record.selection_text}, the rule for this method is {due}"
        yield _refused("selection rule", place, message)
    if training.curve:
        keys = [((row.robust, row.clean) if robust else (row.clean,), row.epoch) for row in training.curve]
        best = max(keys)[1]
        if training.best_epoch != best:
            message = f"best is of epoch {training.best_epoch}, the rule picks epoch {best}"
            yield _refused("selection rule", place, message)
    for checkpoint, epoch in (("best", training.best_epoch), ("last", training.epochs - 1)):
        if checkpoint in record.checkpoints and record.checkpoints[checkpoint].epoch != epoch:
            yield _refused("selection rule", place, f"the {checkpoint} checkpoint is not of the {checkpoint} epoch")


def _outcomes(record: Record) -> Iterator[Finding]:
    """Outcomes per image agree with each other; what stronger attacks leave is not more."""
    for checkpoint, saved in record.checkpoints.items():
        place = f"{name(record)}, {checkpoint}"
        evaluation = saved.evaluation
        every = {**evaluation.columns, **evaluation.stages}
        wrong = [column for column, outcomes in every.items() if outcomes.n != record.data.test]
        if wrong:
            rule = "more images than the test set" if every[wrong[0]].n > record.data.test else "outcomes"
            yield _refused(rule, place, f"{wrong[0]} has {every[wrong[0]].n} images, the test set {record.data.test}")
            continue
        if any(column not in evaluation.columns for column in COLUMNS):
            yield _refused("missing attack", place, "not every attack is there: run-all goes on")
            continue
        yield from _conjunction(evaluation, place)
        yield from _plausible(evaluation, place)
        yield from _too_good(record, saved, place)


def _conjunction(evaluation: Evaluation, place: str) -> Iterator[Finding]:
    """No attack leaves an image that was wrong without it, and AutoAttack's stages only take away."""
    clean = evaluation.columns["clean"].correct
    for column in COLUMNS[1:]:
        above = int((evaluation.columns[column].correct & ~clean).sum())
        if above:
            yield _refused("attack above clean", place, f"{above} images are wrong when clean and right under {column}")
    before = clean
    for stage in STAGES:
        if stage not in evaluation.stages:
            yield _refused("outcomes", place, f"AutoAttack's stage {stage} is missing")
            return
        now = evaluation.stages[stage].correct
        if (now & ~before).any():
            yield _refused("outcomes", place, f"images come back to life in AutoAttack's stage {stage}")
        before = now
    if (before != evaluation.columns["autoattack"].correct).any():
        yield _refused("outcomes", place, "AutoAttack is not what its last stage leaves")
    if sum(evaluation.predicted_classes) > len(clean) or sum(evaluation.predicted_classes) < clean.sum():
        yield _refused("outcomes", place, "the predictions per class do not fit the outcomes on clean images")


def _plausible(evaluation: Evaluation, place: str) -> Iterator[Finding]:
    """What is possible by chance, but a sign of masking when it is not."""
    accuracy = {column: evaluation.accuracy(column) or 0.0 for column in COLUMNS}
    for column in ("pgd100", "autoattack"):
        if accuracy[column] > accuracy["pgd20"]:
            message = f"{column} {accuracy[column]:.1%} leaves more than PGD-20 {accuracy['pgd20']:.1%}"
            yield _suspicious("stronger attack finds less", place, message)
    for flag in raised(evaluation.flags):
        yield _suspicious(f"flag {flag.name}", place, flag.reason or "raised")


def _too_good(record: Record, saved: Checkpoint, place: str) -> Iterator[Finding]:
    bands = baselines(record.protocol_name, official=record.official)
    top = max((band.autoattack[1] for band in bands.values()), default=1.0)
    reached = saved.evaluation.accuracy("autoattack") or 0.0
    if reached > top + FAR_ABOVE:
        yield _suspicious("too good to be true", place, f"AutoAttack leaves {reached:.1%}, baselines {top:.0%} at most")


RECORD_RULES: tuple[Callable[[Record], Iterator[Finding]], ...] = (_protocol, _selection, _provenance, _outcomes)


def _across_seeds(records: Iterable[Record]) -> Iterator[Finding]:
    """Seeds of one method are different runs: neither weights, nor curves, nor all outcomes are the same."""
    seen: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.seed):
        key = [record.protocol_digest, record.method.name, record.method.hyperparameters]
        for part, value in _fingerprints(record):
            other = seen.setdefault(json.dumps([key, part, value], sort_keys=True), record)
            if other.seed != record.seed:
                message = f"{part} of seeds {other.seed} and {record.seed} are the same"
                yield _refused("copied seeds", name(record), message)
            elif other is not record:
                yield _refused("copied seeds", name(record), f"seed {record.seed} is there twice")


def _fingerprints(record: Record) -> Iterator[tuple[str, object]]:
    """Yield the parts of a record that two seeds do not share."""
    if record.training.curve:
        yield "the learning curves", [(row.loss, row.clean, row.robust) for row in record.training.curve]
    if "best" in record.checkpoints:
        best = record.checkpoints["best"]
        yield "the weights", best.sha256
        columns = {column: outcomes.bits for column, outcomes in best.evaluation.columns.items()}
        if sum(bool(set(bits) - {"0", "f"}) for bits in columns.values()) > 2:
            yield "all outcomes", columns


def differing(one: Record, other: Record) -> list[str]:
    """Return the fields in which two records differ as files, when and for which division aside.

    As files, since a record in memory may hold a NaN of a flag's evidence, which a file holds as null.
    """
    plain, against = (json.loads(record.dumps()) for record in (one, other))
    return [name for name in plain if name not in {"created", "division"} and plain[name] != against[name]]
