"""Typed records: what one run of one method under one protocol and one seed did, with all its provenance. Torch-free.

Numbers are numbers, never strings; accuracies are never stored but derived from the outcomes per image. A record is one
JSON file; `Record.model_json_schema()` is its schema.
"""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from advbench.benchmark.files import read_json
from advbench.benchmark.protocol import Protocol, explain
from advbench.benchmark.protocol_parts import unless
from advbench.benchmark.recipe import Recipe
from advbench.benchmark.records.tuning import Tuning

Bits = np.ndarray[tuple[int], np.dtype[np.bool_]]
Scalar = bool | int | float | str
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Images = Annotated[int, Field(ge=0, le=10**8)]
Seconds = Annotated[float, Field(ge=0)]
CheckpointName = Literal["best", "last"]
Division = Literal["closed", "tuned", "own-recipe", "open", "trial"]
"""The part of a board that a record belongs to, each ranked within itself; a trial of tuning is on none."""
COLUMNS = ("clean", "pgd20", "pgd100", "cw", "autoattack")
"""The measured columns in the order of every table; "worst" is their conjunction."""
STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The attacks of AutoAttack standard, in the order in which they run on the survivors."""


CHECKPOINTS: tuple[CheckpointName, ...] = ("best", "last")
FAMILIES = ("clean", "pgd", "cw", "examination", "autoattack")
"""Units of evaluation work: "clean" gives clean; "pgd" pgd20 and pgd100 in one run; "cw"; "examination" the
evidence of the flags; "autoattack" with stages."""


Selection = Literal["validation-pgd", "validation-worst", "validation-clean", "test"]
"""What the best checkpoint was chosen by: accuracy on the validation split, under PGD on cross-entropy, under that and
PGD on the margin, or clean; or the test images."""
_OLDER_SELECTIONS = {"validation PGD-10": "validation-pgd", "validation clean accuracy": "validation-clean"}
"""As records of schema 1 spelt it at first; the number of steps is the protocol's."""


def describe_selection(selection: Selection, steps: int) -> str:
    """Return a selection rule in words; `steps` are those of PGD in the protocol's selection."""
    texts = {
        "validation-pgd": f"validation PGD-{steps}",
        "validation-worst": f"validation PGD-{steps}, worst of cross-entropy and margin",
        "validation-clean": "validation clean accuracy",
        "test": "accuracy on test images",
    }
    return texts[selection]


def due_selection(protocol: Protocol, *, robust: bool) -> Selection:
    """Return the rule by which the protocol chooses `best` of a method that is meant to be robust, or is not."""
    if not robust:
        return "validation-clean"
    return "validation-pgd" if protocol.selection.measure == "ce" else "validation-worst"


class RecordError(ValueError):
    """A record that cannot be read; the message is one line."""


class ObsoleteError(RecordError):
    """A record whose protocol is none any more: only this record cannot be shown."""


class Part(BaseModel):
    """Common strictness: unknown keys and non-finite numbers are refused, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Passes(Part):
    """Images × passes through networks: forward, input-gradient and weight-gradient passes.

    In units of one forward F a weight-gradient pass counts twice (activations and weights).
    """

    forward: Count = 0
    input_gradient: Count = 0
    weight_gradient: Count = 0

    @property
    def forwards(self) -> int:
        """The total in units of one forward of one image."""
        return self.forward + self.input_gradient + 2 * self.weight_gradient

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            forward=self.forward + other.forward,
            input_gradient=self.input_gradient + other.input_gradient,
            weight_gradient=self.weight_gradient + other.weight_gradient,
        )


class MethodIdentity(Part):
    """Which method with which hyper-parameters, and its citation, so that boards need no method code."""

    name: str
    label: str
    hyperparameters: dict[str, Scalar]
    changed: dict[str, Scalar] = {}
    """Hyper-parameters that differ from the method's defaults: a variant, a row of its own."""
    family: str
    title: str
    authors: str
    venue: str
    year: int
    url: str
    key: str
    robust: bool
    overrides_update: bool = False
    notes: tuple[str, ...] = ()
    source_sha256: Sha256 | None = None

    @property
    def row(self) -> str:
        """The label with what is changed: "TRADES (beta=3.0)"."""
        if not self.changed:
            return self.label
        return f"{self.label} ({', '.join(f'{key}={value}' for key, value in sorted(self.changed.items()))})"


class DataProvenance(Part):
    """Where the images came from. `verified`: checksums of the official files matched."""

    name: str
    source: str
    verified: bool
    digest: Sha256
    train: Images
    validation: Images
    test: Images
    split_sha256: Sha256
    num_classes: Count
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = {}


class Environment(Part):
    """Software and hardware of one piece of work."""

    advbench: str
    commit: str | None = None
    python: str
    libraries: dict[str, str]
    device: str
    """"cpu" or the GPU's name."""
    cpu: str
    threads: Count
    precision: str


class Epoch(Part):
    """One row of the learning curve.

    `clean` and `robust` are accuracies on the validation split, the latter by the measure of the protocol's selection.
    Losses and logged scalars are means over the epoch; `logged` also has "train_clean" and "train_robust", clean and
    under PGD on cross-entropy on as many training images, evenly spaced and not augmented, in records made since these
    are measured, and "ce", `robust` under PGD on cross-entropy alone, where the selection's measure is another.
    """

    epoch: Count
    lr: float
    loss: float
    clean: float
    robust: float
    seconds: Seconds
    images_per_second: float
    peak_memory_bytes: Count
    passes: Passes
    logged: dict[str, float] = {}


class Teacher(Part):
    """A frozen teacher that was used: its run and its cost, which is added to the student's total.

    One that the protocol names has no run: `method` is then its file, and what it cost is not known.
    """

    method: str
    run: str
    sha256: Sha256
    seconds: Seconds


class Divergence(Part):
    """A loss that was not finite stopped the run here."""

    epoch: Count
    step: Count
    last_good_epoch: int | None


class TrainingRecord(Part):
    """How the weights came to be."""

    environment: Environment
    epochs: Count
    seconds: Seconds
    peak_memory_bytes: Count
    passes: Passes
    images: Count
    """Training images processed, batches × batch size: `passes.forwards / images` is the method's "23F"."""
    parameters_deployed: Count
    parameters_trained: Count
    selection: Selection
    """What chose `best`; see `describe_selection`."""
    best_epoch: int | None
    teachers: dict[str, Teacher] = {}
    curve: tuple[Epoch, ...] = ()
    diverged: Divergence | None = None

    @property
    def selection_gain(self) -> float | None:
        """By how much the figure that chose `best` exceeds its mean over the last tenth of epochs; None without one.

        What choosing won, the luck of few validation images included.
        """
        figures = {row.epoch: row.clean if self.selection == "validation-clean" else row.robust for row in self.curve}
        if self.best_epoch not in figures:
            return None
        last = list(figures.values())[-max(1, len(figures) // 10) :]
        return figures[self.best_epoch] - sum(last) / len(last)

    @field_validator("selection", mode="before")
    @classmethod
    def _older_words(cls, value: object) -> object:
        return _OLDER_SELECTIONS.get(value, value) if isinstance(value, str) else value


class Outcomes(Part):
    """Per-image outcome of one column: bit i is 1 if test image i is still classified correctly."""

    n: Count
    bits: str
    """Hex of numpy.packbits over the n images in test order."""
    settings: dict[str, Any] = {}
    environment: Environment | None = None
    seconds: Seconds = 0.0
    passes: Passes = Passes()

    @model_validator(mode="after")
    def _length(self) -> Self:
        try:
            raw = bytes.fromhex(self.bits)
        except ValueError as error:
            raise ValueError("bits must be hexadecimal") from error
        if len(raw) != (self.n + 7) // 8:
            raise ValueError(f"bits hold {len(raw)} bytes, {self.n} images need {(self.n + 7) // 8}")
        return self

    @classmethod
    def pack(cls, correct: Bits, **kwargs: Any) -> Self:  # noqa: ANN401 (other fields)
        """Make outcomes from a boolean array (n,)."""
        return cls(n=len(correct), bits=np.packbits(np.asarray(correct, dtype=bool)).tobytes().hex(), **kwargs)

    @property
    def correct(self) -> Bits:
        """The outcomes as a boolean array (n,)."""
        raw = np.frombuffer(bytes.fromhex(self.bits), dtype=np.uint8)
        return np.unpackbits(raw, count=self.n).astype(bool)

    @property
    def accuracy(self) -> float:
        """Share of images still right, in [0,1]; NaN for an empty set."""
        return float(self.correct.mean()) if self.n else float("nan")


class Flag(Part):
    """One sign of a broken evaluation: raised, clear or not run, with its evidence."""

    name: str
    kind: Literal["masking", "validity"]
    state: Literal["raised", "clear", "not run"]
    evidence: dict[str, Any] = {}
    reason: str = ""


class Evaluation(Part):
    """All columns that were measured on one checkpoint. A column that is absent was not measured."""

    columns: dict[str, Outcomes] = {}
    stages: dict[str, Outcomes] = {}
    """AutoAttack's survivors after each of its attacks, in the order of STAGES (cumulative)."""
    predicted_classes: tuple[Count, ...] = ()
    """Clean predictions per class."""
    flags: tuple[Flag, ...] = ()

    @property
    def worst(self) -> Bits | None:
        """Right under clean and every attack, per image; None unless every column is there."""
        if any(column not in self.columns for column in COLUMNS):
            return None
        together = self.columns["clean"].correct
        for column in COLUMNS[1:]:
            together = together & self.columns[column].correct
        return together

    def accuracy(self, column: str) -> float | None:
        """Accuracy of a column in [0,1], "worst" included; None where it was not measured."""
        if column == "worst":
            worst = self.worst
            return None if worst is None else float(worst.mean())
        return self.columns[column].accuracy if column in self.columns else None


class Checkpoint(Part):
    """One saved network: weights file by sha256, and what the attacks left of it."""

    epoch: int
    sha256: Sha256
    evaluation: Evaluation = Evaluation()


class Record(Part):
    """One run: protocol, method, seed; how it was trained; what both checkpoints withstand."""

    SCHEMA: ClassVar[int] = 1
    schema_version: Literal[1] = 1
    run: str
    """Identity of the run: first 16 hex digits of the sha256 of what `runs.job.RunSpec` holds."""
    created: str
    """UTC time of writing, ISO 8601."""
    protocol: Protocol
    protocol_name: str
    protocol_digest: Sha256
    official: bool
    division: Division = "closed"
    recipe: Annotated[Recipe | None, unless(None)] = None
    """What differs from the protocol's training, in the tuned and own-recipe divisions."""
    tuning: Annotated[Tuning | None, unless(None)] = None
    """How the settings were chosen, in the tuned division."""
    network: str
    method: MethodIdentity
    seed: Count
    data: DataProvenance
    training: TrainingRecord
    checkpoints: dict[CheckpointName, Checkpoint] = {}

    @model_validator(mode="after")
    def _in_its_division(self) -> Self:
        """Keep what was trained otherwise out of the closed division, and the test set out of trials."""
        given = bool(self.recipe), bool(self.tuning)
        due = {"closed": (False, False), "own-recipe": (True, False), "tuned": (given[0], True)}
        if given != due.get(self.division, given):
            raise ValueError(f"division: {self.division} does not fit its recipe and tuning")
        best = self.tuning and self.tuning.best
        if best and (best.recipe, best.hyperparameters) != (self.recipe, self.method.changed):
            raise ValueError("tuning: the settings are not those of the chosen trial")
        if self.division == "trial" and any(one.evaluation.columns for one in self.checkpoints.values()):
            raise ValueError("division: a trial of tuning must not be attacked on test images")
        return self

    @property
    def plain(self) -> bool:
        """Whether it has the method's defaults and the protocol's training, and is neither tuned nor a trial."""
        return not (self.method.changed or self.recipe or self.tuning or self.division == "trial")

    @property
    def selection_text(self) -> str:
        """The rule that chose `best`, in words."""
        return describe_selection(self.training.selection, self.protocol.selection.steps)

    def dumps(self) -> str:
        """Serialise as stable, readable JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record file.

        Raises:
            RecordError: if it cannot be read or fails the schema; one line naming file and key.
            ObsoleteError: if nothing but its protocol is not valid.
        """
        try:
            return cls.model_validate(read_json(path, RecordError))
        except ValidationError as error:
            keys = {problem["loc"][:1] for problem in error.errors()}
            kind = ObsoleteError if keys == {("protocol",)} else RecordError
            raise kind(f"{path}: not a valid record: {explain(error, 'record', 1)}") from None
