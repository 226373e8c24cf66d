"""The tuned division: which settings are tried, which is chosen, and what its rows share with the closed one.

After AlgoPerf's external tuning (Dahl et al., Benchmarking Neural Network Training Algorithms, 2023): every method has
the same number of quasi-random draws from a space that is declared beforehand. Torch-free.
"""

import dataclasses
import itertools
import shutil
from collections.abc import Mapping

from pydantic import TypeAdapter

from advbench.benchmark.files import write_sealed
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.recipe import Budget, Recipe
from advbench.benchmark.records.schema import CHECKPOINTS, Scalar
from advbench.benchmark.records.tuning import FILE, Trial, Tuning
from advbench.benchmark.runs.plan import Catalogue, MethodFacts, MethodRequest, PlanError, Suite, runs
from advbench.benchmark.runs.run_folder import RunFolder
from advbench.benchmark.runs.store import Store

FIRST_SEED = 1000
"""Tuning seeds are counted from here, past those of boards."""
MOST_KNOBS = 3
RECIPE_KNOBS = ("lr", "weight_decay")
_PLAIN: TypeAdapter[Tuning] = TypeAdapter(Tuning)


def tuning_seeds(protocol: Protocol, budget: Budget) -> tuple[int, ...]:
    """Return the seeds of trials: the first from `FIRST_SEED` that are not the board's."""
    free = (seed for seed in itertools.count(FIRST_SEED) if seed not in protocol.seeds)
    return tuple(itertools.islice(free, budget.seeds))


def space(protocol: Protocol, tunable: Mapping[str, tuple[Scalar, ...]]) -> dict[str, tuple[Scalar, ...]]:
    """Return what settings are drawn from, knob → values: the protocol's two, then the method's own."""
    training = protocol.training
    return {"lr": training.tuned_lr, "weight_decay": training.tuned_weight_decay, **tunable}


def draws(digest: str, space: Mapping[str, tuple[Scalar, ...]]) -> list[dict[str, Scalar]]:
    """Return every setting of a space once, in quasi-random order: scrambled Halton points, seeded by a digest.

    A larger budget goes on where a smaller one ended. Learning rates and weight decays come first in the space, so
    methods with other knobs meet nearly the same ones.
    """
    from scipy.stats import qmc  # noqa: PLC0415 (takes a second to import)

    count = 1
    for values in space.values():
        count *= len(values)
    points = qmc.Halton(d=len(space), scramble=True, seed=int(digest[:16], 16))
    found: dict[tuple[Scalar, ...], None] = {}
    while len(found) < count:
        for point in points.random(count):
            parts = zip(space.values(), point, strict=True)
            found[tuple(values[int(part * len(values))] for values, part in parts)] = None
    return [dict(zip(space, setting, strict=True)) for setting in found]


def candidates(protocol: Protocol, name: str, facts: MethodFacts, budget: Budget) -> tuple[MethodRequest, ...]:
    """Return the settings that tuning tries: the default, then draws that differ from it.

    Raises:
        PlanError: if there are fewer settings than the budget has, or the protocol does not select by the measure that
            tuning needs; one line with the fix.
    """
    if protocol.selection.measure != "worst":
        hint = "its newer version measures that" if protocol.official else 'set selection.measure = "worst"'
        raise PlanError(f"{protocol.name}: tuning chooses by the worst case of two PGDs on validation images; {hint}")
    if len(facts.tunable) > MOST_KNOBS:
        raise PlanError(
            f"{name}: {len(facts.tunable)} tunable knobs, at most {MOST_KNOBS} are granted: leave out `tune`"
        )
    found = {_key(request): request for request in [MethodRequest(name, trial=True)]}
    for setting in draws(protocol.digest, space(protocol, facts.tunable)):
        recipe = protocol.differing(Recipe(**{key: setting.pop(key) for key in RECIPE_KNOBS}))  # type: ignore[arg-type]  # numbers
        changed = {key: value for key, value in setting.items() if value != facts.hyperparameters[key]}
        request = MethodRequest(name, changed, recipe, trial=True)
        found.setdefault(_key(request), request)
    if len(found) < budget.settings:
        raise PlanError(f"{name}: its space has {len(found)} settings, fewer than a budget of {budget.settings}")
    return tuple(found.values())[: budget.settings]


def _key(request: MethodRequest) -> str:
    return f"{sorted(request.hyperparameters.items())} {request.recipe}"


def trials(protocol: Protocol, name: str, catalogue: Catalogue, budget: Budget) -> Suite:
    """Return the trainings that tuning chooses from: no test image is attacked in them."""
    return Suite((protocol,), candidates(protocol, name, catalogue[name], budget), tuning_seeds(protocol, budget))


def choose(suite: Suite, store: Store, catalogue: Catalogue) -> Tuning | None:
    """Return what the trials of a suite gave and the best of them; None while one is not trained."""
    (protocol,) = suite.protocols
    found = []
    for request in suite.methods:
        alone = dataclasses.replace(suite, methods=(request,))
        specs = [run.spec for run in runs(alone, catalogue) if run.spec.method == request.name]
        done = [store.folder(spec).trained() for spec in specs]
        trained = [each.training for each in done if each is not None]
        if len(trained) < len(specs):
            return None
        curves = [{row.epoch: row.robust for row in each.curve} for each in trained]
        found.append(
            Trial(
                hyperparameters=dict(request.hyperparameters),
                recipe=request.recipe,
                runs=tuple(spec.id for spec in specs),
                validation=tuple(
                    None if each.best_epoch is None else curve[each.best_epoch]
                    for each, curve in zip(trained, curves, strict=True)
                ),
                seconds=sum(each.seconds + sum(own.seconds for own in each.teachers.values()) for each in trained),
                forwards=sum(each.passes.forwards for each in trained),
            )
        )
    scores = [trial.score for trial in found]
    facts = catalogue[suite.methods[0].name]
    defaults = {knob: facts.hyperparameters[knob] for knob in facts.tunable}
    knobs = space(protocol, facts.tunable)
    return Tuning(suite.seeds, knobs, defaults, tuple(found), scores.index(max(scores)))


def tuned(protocol: Protocol, name: str, tuning: Tuning, seeds: tuple[int, ...]) -> Suite:
    """Return the row of the chosen settings on the board's seeds."""
    best = tuning.best
    return Suite((protocol,), (MethodRequest(name, best.hyperparameters, best.recipe, tuning.budget),), seeds)


def write(tuning: Tuning, suite: Suite, store: Store, catalogue: Catalogue) -> None:
    """Say in the folders of tuned runs how their settings were chosen, which their records repeat."""
    for run in runs(suite, catalogue):
        if run.spec.budget is not None:
            folder = store.folder(run.spec)
            folder.create()
            write_sealed(folder.path / FILE, _PLAIN.dump_python(tuning, mode="json"))


def adopt(source: RunFolder, target: RunFolder) -> bool:
    """Take over what a run of the same settings, seed and teachers has, evaluation included; False if it has nothing.

    Neither training nor attacks know the division, so the runs are the same to the bit.
    """
    trained = source.trained()
    if trained is None:
        return False
    for name in CHECKPOINTS:
        if name in trained.checkpoints:
            shutil.copyfile(source.weights(name), target.weights(name))
    shutil.copyfile(source.path / "adapter.py", target.path / "adapter.py")
    if (source.path / "evaluation").is_dir():
        shutil.copytree(source.path / "evaluation", target.path / "evaluation", dirs_exist_ok=True)
    target.finish_training(trained)
    return True
