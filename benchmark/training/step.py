"""The `Step` that methods see: crafting inside the budget, one optimiser step a batch, logging without host syncs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf

import torch
from torch import Tensor, nn

from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.sign_ascent import gaussian_start, input_gradient
from advbench.benchmark.method import Card, Freeze, Objective, Start
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.models.torch_state import evaluating
from advbench.benchmark.protocol import InnerBudget, Threat
from advbench.benchmark.training.seeding import derive
from advbench.benchmark.weights import average_into


class BudgetError(RuntimeError):
    """A method asked for more than the protocol grants."""


class TrainingStep:
    """Implements `method.Step` for one run; the trainer moves it from batch to batch."""

    def __init__(
        self,
        nets: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        threat: Threat,
        inner: InnerBudget,
        generator: torch.Generator,
        ledger: Ledger,
        refresh: Callable[[nn.Module], None],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        first_drop: float = 0.5,
        card: Card | None = None,
    ) -> None:
        self._nets = nets
        self._optimiser = optimiser
        self._norm, self._eps = threat.norm, float(threat.eps)
        self._step, self._steps = float(inner.step), inner.steps
        self._ceiling = float(inner.ceiling)
        self._generator, self.generator = generator, torch.Generator(generator.device)
        self._ledger = ledger
        self._refresh = refresh
        self._autocast = autocast
        self._first_drop = first_drop
        self._attacks, self._blends = (card.attacks, card.blends) if card else (1, False)
        self._images, self._blended = 0, set[nn.Module]()
        self._advanced = False
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._bad: Tensor | None = None
        self._progress, self._epoch, self._end = 0.0, 0, 1.0
        self._batch = 0

    @property
    def progress(self) -> float:
        """Zero-based epoch / epochs."""
        return self._progress

    @property
    def epoch(self) -> int:
        """Zero-based epoch."""
        return self._epoch

    @property
    def first_drop(self) -> float:
        """Fraction of training at which the learning rate first drops; see `method.Step.first_drop`."""
        return self._first_drop

    @property
    def end_of_epoch(self) -> float:
        """(zero-based epoch + 1) / epochs."""
        return self._end

    @property
    def inner_steps(self) -> int:
        """Sign steps that the protocol grants."""
        return self._steps

    @property
    def ceiling(self) -> float:
        """Largest radius that the protocol grants, in multiples of its own."""
        return self._ceiling

    def start_epoch(self, progress: float, epoch: int = 0, end: float = 1.0) -> None:
        """Enter an epoch, from `progress` to `end`; forget the logged scalars."""
        self._progress, self._epoch, self._end = progress, epoch, end
        self.generator.manual_seed(derive(self._generator.initial_seed(), "method"))
        self._sums = {}
        self._bad = None
        self._batch = 0

    @contextmanager
    def batch(self, images: int) -> Iterator[None]:
        """Hold one batch of so many images: exactly one optimiser step inside, and no more than the inner budget."""
        self._advanced = False
        self._images = images
        self._blended.clear()
        self._ledger.begin_batch()
        with self._autocast():
            yield
        self._hold_budget()
        if not self._advanced:
            raise BudgetError("the method ended its batch without step.advance(): one optimiser step a batch is due")
        self._batch += 1

    def _hold_budget(self) -> None:
        """Refuse a batch, its hooks included, that differentiates more inputs than the protocol grants each network."""
        passes = self._ledger.attacked
        if self._images and len(passes) > self._attacks:
            raise BudgetError(f"a batch attacks {len(passes)} networks, the card declares attacks={self._attacks}")
        if self._images and max(passes, default=0) > self._steps * self._images:
            text = f"a batch takes {max(passes) / self._images:g} input gradients an image of one network"
            raise BudgetError(f"{text}, the protocol grants {self._steps}: craft once a batch")

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
        """Maximise the objective in the ball; see `method.Step.craft`."""
        count = self._steps if steps is None else steps
        if not 0 < count <= self._steps:
            raise BudgetError(f"craft asked for {count} inner steps, the protocol grants 1 to {self._steps}")
        ball = self._ball(eps, x)
        size = self._step if step is None else self._eps * self._multiple(step, x)
        if start == "uniform":
            x_adv = ball.random(x, self._generator)
        elif start == "gaussian":
            x_adv = gaussian_start(x, self._generator)
        else:
            x_adv = x.clone()
        with evaluating(self._nets), self._ledger.differentiating("input"):
            x_adv = ball.ascend(x, x_adv, objective, step=size, steps=count, freeze=freeze)
        self._hold_budget()
        return x_adv

    def _ball(self, eps: float | Tensor, x: Tensor) -> Ball:
        """Return the ball of `eps` radii, at most as many as the protocol grants."""
        return Ball(self._norm, self._eps, self._multiple(eps, x, self._ceiling))

    @staticmethod
    def _multiple(multiple: float | Tensor, x: Tensor, most: float = inf) -> float | Tensor:
        """Return a multiple of the radius, one for all images or (B,), as broadcasts with images (B, C, H, W)."""
        bounds = [multiple] if not isinstance(multiple, Tensor) else []
        if isinstance(multiple, Tensor) and multiple.device.type == "cpu":  # asking a GPU would make the host wait
            bounds = [float(multiple.min()), float(multiple.max())]
        if not all(0 <= bound <= most for bound in bounds):
            raise BudgetError(f"craft asked for {bounds[-1]:g} radii, the protocol grants 0 to {most:g}")
        if not isinstance(multiple, Tensor):
            return multiple
        return multiple.clamp(0, most).to(x).view(-1, *[1] * (x.dim() - 1))

    def project(self, x_adv: Tensor, x: Tensor, eps: float | Tensor = 1.0) -> Tensor:
        """Clip to the ball; see `method.Step.project`."""
        return self._ball(eps, x).project(x_adv, x)

    def single(
        self, x: Tensor, objective: Objective, *, noise: float = 1.0, step_size: float = 1.25, project: bool = True
    ) -> Tensor:
        """Take one sign step in multiples of eps; see `method.Step.single`."""
        ball = Ball(self._norm, self._eps)
        x_start = Ball(self._norm, self._eps, noise).random(x, self._generator)
        with evaluating(self._nets), self._ledger.differentiating("input"):
            moved = x_start + step_size * self._eps * ball.direction(input_gradient(objective, x_start))
        self._hold_budget()
        return (ball.project(moved, x) if project else moved.clamp(0, 1)).detach()

    def predict(self, net: nn.Module, x: Tensor) -> Tensor:
        """Return logits of `net` in eval mode, without gradient."""
        with torch.no_grad(), evaluating(net):
            logits: Tensor = net(x)
        return logits

    def features(self, net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return penultimate activations and logits of one forward; see `method.Step.features`."""
        seen: list[Tensor] = []
        head: nn.Module = net.head  # type: ignore[assignment]  # every network of a protocol has one
        handle = head.register_forward_pre_hook(lambda _head, inputs: seen.append(inputs[0]))
        try:
            logits: Tensor = net(x)
        finally:
            handle.remove()
        return seen[0], logits

    @torch.no_grad()
    def blend(self, net: nn.Module, source: nn.Module, keep: float = 0.0) -> None:
        """Set a trained network to a mix of itself and another; see `method.Step.blend`."""
        if not self._blends:
            raise BudgetError("step.blend sets weights by hand: declare blends=True on the card, which the board shows")
        if net in self._blended:
            raise BudgetError("step.blend was called twice for one network in a batch: the protocol grants one")
        self._blended.add(net)
        average_into(net, source, keep)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a scalar loss and remember the first batch in which it was not finite."""
        if loss.dim() != 0:
            raise BudgetError(f"step.backward takes a scalar loss, got shape {tuple(loss.shape)}")
        value = loss.detach()
        self.log(loss=value)
        # Kept on the device: the host asks once an epoch on a GPU, at once on a CPU.
        here = torch.where(torch.isfinite(value), float("inf"), float(self._batch))
        self._bad = here if self._bad is None else torch.minimum(self._bad, here)
        with self._ledger.differentiating("weight"):
            loss.backward()  # type: ignore[no-untyped-call]  # torch

    def advance(self) -> None:
        """Move the weights by one optimiser step; once a batch."""
        if self._advanced:
            raise BudgetError("step.advance() was called twice in a batch: the protocol grants one optimiser step")
        self._advanced = True
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def refresh_bn(self, net: nn.Module) -> None:
        """Re-estimate batch-norm statistics; see `method.Step.refresh_bn`."""
        self._refresh(net)

    def log(self, **scalars: Tensor | float) -> None:
        """Add scalars to the means of the epoch."""
        for name, value in scalars.items():
            now = torch.as_tensor(value, dtype=torch.float32).detach()
            before, count = self._sums.get(name, (torch.zeros_like(now), 0))
            self._sums[name] = (before + now, count + 1)

    def first_bad_batch(self) -> int | None:
        """Return the first batch of this epoch whose loss was not finite (waits for the device)."""
        if self._bad is None or torch.isinf(self._bad):
            return None
        return int(self._bad)

    def means(self) -> dict[str, float]:
        """Return the mean of every logged scalar over the epoch (waits for the device)."""
        return {name: float(total) / count for name, (total, count) in self._sums.items()}
