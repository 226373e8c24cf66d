"""How a tuned row's settings were chosen: every trial with its validation accuracy and cost. Torch-free.

A trial is one setting trained with each tuning seed; its score is the validation accuracy of `best`, under the worst of
PGD on cross-entropy and on the margin. No test image is ever attacked in a trial.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from advbench.benchmark.recipe import Budget, Recipe

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
FILE = "tuning.json"
"""Name of the file in the folder of a tuned run."""
Setting = bool | int | float | str
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and what its trainings gave.

    Attributes:
        hyperparameters: those that differ from the method's defaults.
        recipe: what differs from the protocol's training.
        runs: identities of the trainings, one for each tuning seed.
        validation: accuracy of each; None for a training that diverged before its first checkpoint.
        seconds: of all of them together, teachers included.
        forwards: passes of all of them in forwards F of one image, without teachers.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    hyperparameters: dict[str, Setting]
    recipe: Recipe | None
    runs: tuple[str, ...]
    validation: tuple[Share | None, ...]
    seconds: float
    forwards: int

    @property
    def score(self) -> float:
        """Mean validation accuracy over the tuning seeds; a training that diverged counts as 0."""
        return sum(value or 0.0 for value in self.validation) / len(self.validation)


@dataclass(frozen=True, slots=True)
class Tuning:
    """All trials of a tuned row, the default settings first, and which of them was chosen.

    Attributes:
        seeds: tuning seeds, none of them among the board's.
        space: what the draws are from, knob → values.
        defaults: of the method's own knobs among them.
        trials: in the order of the draws.
        chosen: index of the trial with the highest score; of equal ones the first.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    seeds: tuple[int, ...]
    space: dict[str, tuple[Setting, ...]]
    defaults: dict[str, Setting]
    trials: tuple[Trial, ...]
    chosen: int

    def __post_init__(self) -> None:
        """Refuse trials that lack a seed, and a choice that is not the best on validation."""
        if not self.seeds or any(not len(self.seeds) == len(one.runs) == len(one.validation) for one in self.trials):
            raise ValueError("every trial needs one run and one validation accuracy for each tuning seed")
        scores = [trial.score for trial in self.trials]
        if not scores or self.chosen != scores.index(max(scores)):
            raise ValueError("the chosen trial must be the first with the highest score")

    @property
    def budget(self) -> Budget:
        """What was spent."""
        return Budget(len(self.trials), len(self.seeds))

    @property
    def best(self) -> Trial:
        """The chosen trial."""
        return self.trials[self.chosen]

    @property
    def expected_best(self) -> tuple[float, ...]:
        """Expected score of the best of k = 1, 2, … settings drawn with replacement from the trials.

        The estimator of Dodge et al., Show Your Work: Improved Reporting of Experimental Results (EMNLP 2019).
        """
        scores, n = sorted(trial.score for trial in self.trials), len(self.trials)
        weights = [[(i / n) ** k - ((i - 1) / n) ** k for i in range(1, n + 1)] for k in range(1, n + 1)]
        return tuple(sum(w * score for w, score in zip(each, scores, strict=True)) for each in weights)
