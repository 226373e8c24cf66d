"""The adapter interface: all that the author of a method imports, beside `losses` and `weights`.

A method is a frozen dataclass whose fields are its hyper-parameters. Everything that it trains or remembers lives in
one `nn.Module` made by `build`, so checkpoint, device and resume need no code. It turns a batch into one scalar loss;
the protocol owns everything else: data, augmentation, learning rate, epochs, inner budget, checkpoint selection.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from advbench.benchmark.recipe import Recipe as Recipe  # noqa: PLC0414 (authors import it from here)

N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")
Objective = Callable[[Tensor], Tensor]
"""x_adv (B, C, H, W) → scalar, the SUM over images of what the inner maximisation ascends."""
Freeze = Callable[[Tensor], Tensor]
"""x_adv → bool (B,): images to hold where they are from this step on; called after the objective of each step."""
Start = Literal["uniform", "gaussian", "clean"]
Family = Literal[
    "standard",
    "adversarial training",
    "regularised",
    "weight perturbation",
    "two networks",
    "distillation",
    "label refinement",
    "averaging",
    "reweighting",
    "single step",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Who a method is from and how it is shown.

    Attributes:
        name: identifier in commands and records, lower case with underscores ("trades_awp").
        label: name in tables ("TRADES-AWP").
        title, authors, venue, year, url: the paper. `authors` is "First Last and First Last", as BibTeX has it.
        key: citation key.
        code: the authors' repository, or None.
        robust: False for training without an adversary: `best` is then chosen by clean validation accuracy.
        attacks: networks that the inner maximisation differentiates; each has the protocol's steps.
        blends: whether weights of trained networks are set by `Step.blend`; the board says so.
        forwards: passes per training image at ten inner steps, in forwards F; several where they change in training.
        recipe: how the authors train where a protocol trains otherwise; its rows are a division of their own.
        differs: what differs from the release and why, a sentence each.
        notes: what a reader of the board must know about the row, a short clause each ("own inner step").
    """

    name: str
    label: str
    title: str
    authors: str
    venue: str
    year: int
    url: str
    key: str
    family: Family
    code: str | None = None
    robust: bool = True
    attacks: int = 1
    blends: bool = False
    forwards: float | tuple[float, ...] = ()
    recipe: Recipe | None = None
    differs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[float, ...]:
        """Passes per training image in each phase of training, in forwards F."""
        return self.forwards if isinstance(self.forwards, tuple) else (self.forwards,)

    @property
    def cost(self) -> str:
        """The passes in words: "27F", "23F, then 24F"."""
        return ", then ".join(f"{forwards:g}F" for forwards in self.phases)


class Batch(NamedTuple):
    """One minibatch: augmented images (B, C, H, W) in [0,1], labels (B,), indices (B,) into the training split."""

    x: Tensor
    y: Tensor
    index: Tensor  # type: ignore[assignment]  # a module's attribute  # shadows tuple.index, which nobody needs here


class OneNetwork(nn.Module):
    """One trained network."""

    def __init__(self, target: nn.Module) -> None:
        super().__init__()
        self.target = target


class TwoNetworks(nn.Module):
    """Two networks trained together; only `target` is deployed."""

    def __init__(self, target: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.target = target
        self.guide = guide


class Taught(OneNetwork):
    """One trained network and its frozen teacher."""

    def __init__(self, target: nn.Module, teacher: nn.Module) -> None:
        super().__init__(target)
        self.teacher = teacher


class Task(Protocol):
    """The workload, as far as a method may know it. It has no name: nothing may branch on the workload's identity."""

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        ...

    @property
    def labels(self) -> Tensor:
        """Labels (N,) of the training split, in the order of `Batch.index`."""
        ...

    def network(self) -> nn.Module:
        """Make a freshly initialised network of the protocol's architecture."""
        ...

    def guide(self) -> nn.Module:
        """Make a freshly initialised network to train beside the target; protocols may give it another architecture."""
        ...

    def teacher(self, role: str) -> nn.Module:
        """Return the frozen teacher of a role named in `Method.requires`: parameters frozen, always in eval mode."""
        ...


class Step(Protocol):
    """Operations of the trainer on a batch. Budgets are the protocol's and cannot be exceeded."""

    @property
    def progress(self) -> float:
        """Zero-based epoch / epochs, constant within an epoch: `progress >= 0.45` switches at epoch ceil(0.45 E)."""
        ...

    @property
    def epoch(self) -> int:
        """Zero-based epoch, for what takes a number of epochs however many there are; else use `progress`."""
        ...

    @property
    def end_of_epoch(self) -> float:
        """(zero-based epoch + 1) / epochs: the progress of releases that count epochs from 1."""
        ...

    @property
    def generator(self) -> torch.Generator:
        """Randomness for the method alone, on the batch's device; seeded by run and epoch, so it resumes to the bit."""
        ...

    @property
    def inner_steps(self) -> int:
        """Sign steps that the protocol grants: of one `craft`, and of all of a batch for each attacked network."""
        ...

    @property
    def ceiling(self) -> float:
        """Largest radius that the protocol grants to `craft`, in multiples of its own; 1 unless it says otherwise."""
        ...

    @property
    def first_drop(self) -> float:
        """Fraction of training at which the learning rate first drops; one half under a one-cycle schedule."""
        ...

    def craft(
        self,
        x: Tensor,
        objective: Objective,
        start: Start = "uniform",
        *,
        steps: int | None = None,
        eps: float | Tensor = 1.0,
        step: float | Tensor | None = None,
        freeze: Freeze | None = None,
    ) -> Tensor:
        """Maximise the objective inside the ball around x with the protocol's sign steps; return x_adv, detached.

        All networks are in eval mode meanwhile and only x_adv is differentiated. `start`: "uniform" in the ball,
        clipped to [0,1]; "gaussian" x + 0.001·N(0,1), not clipped before the first step; "clean" x itself. `steps`: at
        most the protocol's, which is the default. `eps` and `step`: radius and size of a step in multiples of the
        protocol's radius, one for all images or (B,), one for each; `eps` is at most `ceiling`, and `step` by default
        the protocol's. An image is held still from a step on by `freeze`.
        """
        ...

    def project(self, x_adv: Tensor, x: Tensor, eps: float | Tensor = 1.0) -> Tensor:
        """Return x_adv clipped to [0,1] and to the ball around x; `eps` as in `craft`."""
        ...

    def single(
        self,
        x: Tensor,
        objective: Objective,
        *,
        noise: float = 1.0,
        step_size: float = 1.25,
        project: bool = True,
    ) -> Tensor:
        """Take one sign step of `step_size`·eps from x + U(-noise·eps, noise·eps), clipped; return x_adv in [0,1].

        `project=False` leaves the ball (N-FGSM): a training-only exception, to be declared in the card's notes.
        """
        ...

    def predict(self, net: nn.Module, x: Tensor) -> Tensor:
        """Return the logits of `net` in eval mode, without gradient."""
        ...

    def features(self, net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return penultimate activations (B, D) and logits (B, C) of one forward of a network of the protocol."""
        ...

    def blend(self, net: nn.Module, source: nn.Module, keep: float = 0.0) -> None:
        """Set net ← keep·net + (1 − keep)·source, weights and statistics; the optimiser's momentum stays.

        At most once a batch for each network, after the step or after an epoch; the card must say `blends=True`.
        """
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of a scalar loss; a loss that is not finite stops the run."""
        ...

    def advance(self) -> None:
        """Move every trained parameter by one optimiser step and clear the gradients."""
        ...

    def refresh_bn(self, net: nn.Module) -> None:
        """Re-estimate the batch-norm statistics of `net`: one pass over augmented clean training batches."""
        ...

    def log(self, **scalars: Tensor | float) -> None:
        """Record scalars; the learning curve shows their mean over the epoch."""
        ...


@dataclass(frozen=True)
class Method(ABC, Generic[N]):
    """A defense: subclass as a frozen dataclass, fill in `card`, write `build` and `loss`."""

    card: ClassVar[Card]
    requires: ClassVar[Mapping[str, str]] = {}
    """Frozen teachers, role → method name; the planner trains them first, same protocol, same seed."""

    @abstractmethod
    def build(self, task: Task) -> N:
        """Make the one module that holds every network, average and memory. Averages have requires_grad=False."""

    @abstractmethod
    def loss(self, nets: N, batch: Batch, step: Step) -> Tensor:
        """Return the scalar loss of the batch; craft inside. Networks are in train mode."""

    def update(self, nets: N, batch: Batch, step: Step) -> None:
        """Train on one batch; override only if one loss cannot express the method (AWP): shown on the board."""
        step.backward(self.loss(nets, batch, step))
        step.advance()

    def after_step(self, nets: N, step: Step) -> None:
        """Update moving averages after an optimiser step; runs without gradients."""

    def after_epoch(self, nets: N, step: Step) -> None:
        """Update averages after an epoch, before validation; runs without gradients."""

    def rates(self) -> Mapping[str, float]:
        """Return factors of the protocol's learning rate for modules of the nets, by name; the board shows them."""
        return {}

    def notes(self, epochs: int, steps: int) -> tuple[str, ...]:  # noqa: ARG002 (for methods whose notes depend on them)
        """Return what a reader of the board must know about the row in a training of so many epochs and batches."""
        return self.card.notes

    def deployed(self, nets: N) -> nn.Module:
        """Return the network that is validated, saved and evaluated."""
        target: nn.Module = nets.target  # type: ignore[assignment]  # a module's attribute
        return target

    def hyperparameters(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)


def knob(default: T, source: str, tune: tuple[T, ...] = ()) -> T:
    """Declare a hyper-parameter: its default and where that comes from (paper, release, or our decision).

    `tune`: values among which the tuned division draws, the same for every data set; of a method's knobs at most three
    have them.
    """
    return dataclasses.field(default=default, metadata={"source": source, "tune": tune})
