"""The parts of a protocol: data, threat, training, selection, attacks, thresholds, each a frozen dataclass. Torch-free.

A choice that is added later is annotated with `unless`: at its default, which is what was done before there was a
choice, it is left out of the canonical JSON. So an addition never changes the digest of a protocol that is published.
"""

import contextlib
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, Strict

_FRACTION = re.compile(r"\s*[-+]?\d{1,18}(\.\d{0,18})?([eE][-+]?\d{1,2})?(/\d{1,18})?\s*", re.ASCII)
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def exact(value: object) -> Fraction:
    """Read an exact fraction such as "8/255"; a float is refused, since 0.031 is not 8/255.

    Raises:
        ValueError: if the value is not a string "a/b" or an integer.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f'write an exact fraction as a string, such as "8/255", not {value!r}')  # noqa: TRY004 (pydantic reports ValueError)
    if _FRACTION.fullmatch(str(value)):  # an exponent without limit would take all memory
        with contextlib.suppress(ValueError, ZeroDivisionError):
            return Fraction(value)
    raise ValueError(f'write an exact fraction as a string, such as "8/255", not {str(value)[:40]!r}')


def positive(value: Fraction) -> Fraction:
    """Refuse a fraction that is not above zero."""
    if value <= 0:
        raise ValueError(f"must be above 0, got {value}")
    return value


def _exact_positive(value: object) -> Fraction:
    return positive(exact(value))


Exact = Annotated[Fraction, BeforeValidator(_exact_positive), PlainSerializer(str)]
Count = Annotated[int, Strict(), Field(gt=0)]
Natural = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0)]
Engine = Literal["pyautoattack", "reference", "exact"]
"""Who runs AutoAttack: the reference implementation, or our engine with its random numbers or with some by image."""


NORMS = {"linf": "L∞", "l2": "L2"}
"""What the norms of a threat are called."""
TUNED_LR, TUNED_DECAY = (0.05, 0.1, 0.2), (2e-4, 5e-4, 1e-3, 3.5e-3)
Several = Annotated[tuple[Positive, ...], Field(min_length=1)]


def unless(default: object) -> Any:  # noqa: ANN401 (what pydantic.Field returns)
    """Return the annotation of a choice that the first protocols did not have: left out of their JSON at `default`."""
    return Field(exclude_if=lambda value: value == default)


@dataclass(frozen=True, slots=True)
class ImageList:
    """A committed list of images: a file beside the published protocols, its sha256, and how many images it names.

    `content`: `image_lists.content` of the images, where official checksums need more images than the list has.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    file: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.txt$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    images: Count
    content: Annotated[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None, unless(None)] = None


@dataclass(frozen=True, slots=True)
class ExtraData:
    """Labelled images beyond the data set: an .npz in the data root, and the share of every batch that is of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    file: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*\.npz$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    images: Count
    share: Exact

    def __post_init__(self) -> None:
        """Refuse a share that leaves nothing of the data set."""
        if self.share >= 1:
            raise ValueError(f"share must be below 1, got {self.share}")

    @property
    def text(self) -> str:
        """The extra data in words."""
        return f"extra data: {self.file}, {self.images} images, {self.share} of every batch"


@dataclass(frozen=True, slots=True)
class Data:
    """Which data set, how the validation split is cut from its training set, and how training images are augmented.

    Attributes:
        name: data set, one of `advbench datasets`.
        validation: images held out of the training set for checkpoint selection.
        split_seed: seed of the permutation that cuts the split.
        augment: "crop-flip" (zero padding by `pad`, random crop, flip), "autoaugment" and "cutmix" (either after it),
            "none", or "resized-crop-flip" (ImageNet).
        pad: pixels of zero padding before the crop.
        test: size of the test set cut from data without an official one (digits); 0 means the official test set.
        train_limit: use only this many training images (user protocols; 0: all).
        test_limit: use only this many test images (user protocols; 0: all).
        train_list: the training set is these images, and validation is cut from them (None: the whole set).
        test_list: the test set is these images.
        side: larger square images are averaged over areas down to so many pixels (None: as they are).
        extra: training images from elsewhere, mixed into every batch; the open division.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    validation: Count
    split_seed: Natural = 0
    augment: Literal["crop-flip", "none", "resized-crop-flip", "autoaugment", "cutmix"] = "crop-flip"
    pad: Natural = 4
    test: Natural = 0
    train_limit: Natural = 0
    test_limit: Natural = 0
    train_list: Annotated[ImageList | None, unless(None)] = None
    test_list: Annotated[ImageList | None, unless(None)] = None
    side: Annotated[Count | None, unless(None)] = None
    extra: Annotated[ExtraData | None, unless(None)] = None


@dataclass(frozen=True, slots=True)
class TeacherFile:
    """A frozen teacher from elsewhere for one role of methods: weights of an architecture, a file in the data root."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    role: str
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    network: str


@dataclass(frozen=True, slots=True)
class Threat:
    """The ball of the adversary: norm and radius in [0,1] pixel units, clipped to [0,1]."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    norm: Literal["linf", "l2"]
    eps: Exact

    def __post_init__(self) -> None:
        """Refuse an L∞ radius above the image range."""
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(f"eps must be in (0, 1], got {self.eps}")

    @property
    def text(self) -> str:
        """The threat in words: "L∞, eps 8/255"."""
        return f"{NORMS[self.norm]}, eps {self.eps}"


@dataclass(frozen=True, slots=True)
class InnerBudget:
    """The most that a method's inner maximisation may do: `steps` sign steps of size `step` within `ceiling` · eps."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    steps: Count
    step: Exact
    ceiling: Annotated[Exact, unless(1)] = Fraction(1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate over training.

    "piecewise": `peak`, divided by 10 at the start of each zero-based epoch in `drops`. "one-cycle": per iteration,
    linear from 0 to `peak` over the first `rise` of all steps, then linear to 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["piecewise", "one-cycle"]
    peak: Positive
    drops: tuple[Count, ...] = ()
    rise: Exact = Fraction(2, 5)

    def __post_init__(self) -> None:
        """Refuse drops that are out of order or that a one-cycle schedule would ignore."""
        if list(self.drops) != sorted(set(self.drops)):
            raise ValueError(f"drops must be increasing epochs, got {list(self.drops)}")
        if self.kind == "one-cycle" and self.drops:
            raise ValueError("a one-cycle schedule takes no drops")
        if self.rise >= 1:
            raise ValueError(f"rise must be below 1, got {self.rise}")

    def learning_rate(self, iteration: int, *, per_epoch: int, epochs: int) -> float:
        """Return the learning rate of a zero-based iteration of a training of `epochs` × `per_epoch` iterations."""
        if self.kind == "piecewise":
            return self.peak / 10.0 ** sum(iteration // per_epoch >= drop for drop in self.drops)
        total = per_epoch * epochs
        rise = float(self.rise) * total
        if iteration < rise:
            return self.peak * iteration / rise
        return self.peak * (total - iteration) / (total - rise)


@dataclass(frozen=True, slots=True)
class Training:
    """The recipe every method is trained under: SGD, schedule, batch and inner budget.

    `weight_decay` applies to every parameter; the last incomplete batch of an epoch is dropped. `precision` "bf16" is
    bf16 autocast where the hardware computes in bf16, and fp32 elsewhere; the record has what was used. `tuned_lr` and
    `tuned_weight_decay` are the peak rates and decays that the tuned division draws from, beside a method's own knobs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epochs: Count
    batch: Count
    schedule: Schedule
    inner: InnerBudget
    momentum: Positive = 0.9
    weight_decay: Positive = 5e-4
    precision: Annotated[Literal["fp32", "bf16"], unless("fp32")] = "fp32"
    tuned_lr: Annotated[Several, unless(TUNED_LR)] = TUNED_LR
    tuned_weight_decay: Annotated[Several, unless(TUNED_DECAY)] = TUNED_DECAY

    def __post_init__(self) -> None:
        """Refuse drops after the end of training."""
        if self.schedule.drops and self.schedule.drops[-1] >= self.epochs:
            raise ValueError(f"schedule.drops {list(self.schedule.drops)} reach beyond the {self.epochs} epochs")

    @property
    def first_drop(self) -> float:
        """The fraction of training at which the learning rate first drops; one half under a one-cycle schedule."""
        return self.schedule.drops[0] / self.epochs if self.schedule.drops else 0.5

    def rate_at_end(self, epoch: int, per_epoch: int) -> float:
        """Return the learning rate of the last iteration of a zero-based epoch: what the learning curve shows."""
        last = (epoch + 1) * per_epoch - 1
        return self.schedule.learning_rate(last, per_epoch=per_epoch, epochs=self.epochs)


@dataclass(frozen=True, slots=True)
class CheckpointSelection:
    """The PGD on validation images that chooses `best`: `steps` sign steps of size `step`, one uniform start.

    `measure` is what counts: "ce", the images right under PGD on cross-entropy, or "worst", those right under that and
    under PGD on the margin from the same starts. Cross-entropy alone favours networks whose AutoAttack accuracy is far
    below their accuracy under CE-PGD.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    steps: Count
    step: Exact
    measure: Annotated[Literal["ce", "worst"], unless("ce")] = "ce"


@dataclass(frozen=True, slots=True)
class Iterated:
    """An attack of sign steps: last iterate, one uniform start, no early stop."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    steps: Count
    step: Exact


@dataclass(frozen=True, slots=True)
class AutoAttackSpec:
    """AutoAttack's version."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    version: Literal["standard"]


@dataclass(frozen=True, slots=True)
class Attacks:
    """The complete attack list; none may be missing.

    Attributes:
        shard: test images in one unit of work; the draws of the engines "pyautoattack" and "reference" depend on it.
        engine: who runs AutoAttack.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    shard: Count
    pgd20: Iterated
    pgd100: Iterated
    cw: Iterated
    autoattack: AutoAttackSpec
    engine: Annotated[Engine, unless("pyautoattack")] = "pyautoattack"

    def __post_init__(self) -> None:
        """Keep PGD-20 the 20th iterate of PGD-100: they must share their step."""
        if self.pgd20.step != self.pgd100.step:
            raise ValueError("pgd20.step and pgd100.step must be equal: PGD-20 is an iterate of PGD-100")
        if self.pgd20.steps >= self.pgd100.steps:
            raise ValueError("pgd20.steps must be below pgd100.steps")


@dataclass(frozen=True, slots=True)
class FlagThresholds:
    """When an evaluation counts as suspicious; see flags.py for the meaning of each. Part of the digest.

    Attacks beyond AutoAttack are tried on what it leaves of every `convergence_every`-th test image (0: on none), with
    so many target classes, restarts and iterations.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    margin_points: Positive = 0.2
    margin_images: Count = 5
    zero_gradient_share: Positive = 0.01
    forward_difference: Positive = 1e-4
    forward_repeats: Count = 5
    ratio_pgd_floor: Positive = 0.15
    ratio: Positive = 0.75
    ratio_upper: Positive = 0.85
    p_value: Positive = 0.01
    large_eps: Exact = Fraction(1, 2)
    large_steps: Count = 50
    large_survive: Positive = 0.05
    noise_draws: Count = 10
    low_power_images: Count = 1000
    constant_share: Positive = 0.9
    collapsed_seeds: Positive = 0.5
    convergence_every: Annotated[Natural, unless(0)] = 0
    convergence_targets: Annotated[Count, unless(3)] = 3
    convergence_restarts: Annotated[Count, unless(5)] = 5
    convergence_iterations: Annotated[Count, unless(500)] = 500


@dataclass(frozen=True, slots=True)
class Statistics:
    """Level of the tests and draws of the bootstrap behind ranks and ties. Part of the digest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    alpha: Positive = 0.05
    draws: Count = 10_000
    seed: Natural = 0
