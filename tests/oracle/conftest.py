"""What oracle tests share: formulas written out, a reference ascent, and eyes on what a training step does."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class Formulas:
    """Losses per image, from their definitions; probabilities are formed first, unlike in the library."""

    @staticmethod
    def softmax(z: Tensor, temperature: float = 1.0) -> Tensor:
        e = (z / temperature).exp()
        return e / e.sum(dim=1, keepdim=True)

    @classmethod
    def ce(cls, z: Tensor, y: Tensor) -> Tensor:
        """-log p_y, or -sum_c t_c log p_c for probabilities t."""
        log_p = cls.softmax(z).log()
        if y.dim() == 1:
            return torch.stack([-row[label] for row, label in zip(log_p, y.tolist(), strict=True)])
        return -(y * log_p).sum(dim=1)

    @classmethod
    def kl(cls, reference: Tensor, other: Tensor, temperature: float = 1.0) -> Tensor:
        """sum_c p_c (log p_c - log q_c), p = softmax(reference / T), q = softmax(other / T)."""
        p, q = cls.softmax(reference, temperature), cls.softmax(other, temperature)
        return (p * (p.log() - q.log())).sum(dim=1)


@pytest.fixture
def formulas() -> type[Formulas]:
    return Formulas


@dataclass
class Crafted:
    """What a method asked `craft` for, and its objective at the probe x + 0.03 with every network in eval mode."""

    start: str = ""
    value: Tensor = field(default_factory=lambda: torch.zeros(()))
    gradient: Tensor = field(default_factory=lambda: torch.zeros(()))
    x_adv: Tensor = field(default_factory=lambda: torch.zeros(()))
    calls: int = 0


class Stage:
    """A method's networks beside an untouched twin of them, on which the reference is computed.

    Outputs are confident, and batch-norm statistics are unlike any batch's, so that eval and train mode disagree.
    """

    def __init__(self, method: Any, task: Any, make_step: Callable[..., Any], **options: Any) -> None:
        self.method, self.task, self.batch = method, task, task.batch()
        self.nets = self._sharpened(method.build(task))
        self.twin = copy.deepcopy(self.nets)
        self.step = make_step(self.nets, task, card=method.card, **options)
        self.twin.train()
        self.generator = torch.Generator().manual_seed(0)  # as the step's
        self.forwards: list[tuple[str, Tensor]] = []
        for name, net in self.nets.named_children():
            net.register_forward_pre_hook(self._noting(name))

    @staticmethod
    def _sharpened(nets: nn.Module) -> Any:
        generator = torch.Generator().manual_seed(7)
        for module in nets.modules():
            if isinstance(module, nn.Linear):
                module.weight.data.mul_(6)
            if isinstance(module, nn.BatchNorm2d):
                shape, dtype = module.running_mean.shape, module.running_mean.dtype
                module.running_mean.copy_(torch.randn(shape, generator=generator, dtype=dtype))
                module.running_var.copy_(0.5 + torch.rand(shape, generator=generator, dtype=dtype))
        return nets

    def _noting(self, name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
            if module.training:
                self.forwards.append((name, inputs[0].detach().clone()))

        return note

    def order(self) -> list[str]:
        """The forwards in train mode so far, such as "target(x')": what batch norm saw, in its order."""
        return [f"{name}({'x' if torch.equal(x, self.batch.x) else 'x_adv'})" for name, x in self.forwards]

    def loss(self) -> tuple[Tensor, Crafted]:
        """Compute the method's loss and its gradients; return it with what was crafted on the way."""
        seen = self.watch()
        loss = self.method.loss(self.nets, self.batch, self.step)
        loss.backward()
        return loss.detach(), seen

    def watch(self) -> Crafted:
        """Let `step.craft` work as it does, and note what it is asked."""
        original, seen, nets = self.step.craft, Crafted(), self.nets

        def craft(x: Tensor, objective: Callable[[Tensor], Tensor], start: str = "uniform", **options: Any) -> Tensor:
            modes = {module: module.training for module in nets.modules()}
            nets.eval()
            probe = (x + 0.03).requires_grad_()
            value = objective(probe)
            (seen.gradient,) = torch.autograd.grad(value, probe)
            self.task.ledger.begin_batch()  # the probe is this test's, not the method's
            for module, training in modes.items():
                module.training = training
            seen.start, seen.value, seen.calls = start, value.detach(), seen.calls + 1
            seen.x_adv = original(x, objective, start, **options)
            return seen.x_adv

        self.step.craft = craft
        return seen

    def update(self) -> int:
        """Train on the batch; return the passes it took in forwards per image."""
        self.task.ledger.reset()
        with self.step.batch(len(self.batch.x)):
            self.method.update(self.nets, self.batch, self.step)
        per_image, rest = divmod(self.task.ledger.passes.forwards, len(self.batch.x))
        assert rest == 0
        return per_image

    def ascend(self, objective: Callable[[Tensor], Tensor], start: str, *, steps: int = 3) -> Tensor:
        """Sign ascent as the protocol has it, at the default budget of the `make_step` fixture."""
        x, eps, size = self.batch.x, 1 / 10, 1 / 25
        if start == "gaussian":
            x_adv = x + 0.001 * torch.randn(x.shape, generator=self.generator, dtype=x.dtype)
        else:
            noise = torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
            x_adv = torch.clamp(x + eps * (2 * noise - 1), 0, 1)
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(x_adv), x_adv)
            x_adv = x_adv + size * torch.sign(gradient)
            x_adv = torch.clamp(torch.minimum(torch.maximum(x_adv, x - eps), x + eps), 0, 1)
        return x_adv.detach()

    def assert_attack(self, seen: Crafted, objective: Callable[[Tensor], Tensor], start: str) -> None:
        """Hold value, gradient and result of the inner maximisation against the reference objective."""
        probe = (self.batch.x + 0.03).requires_grad_()
        value = objective(probe)
        torch.testing.assert_close(seen.value, value.detach(), rtol=1e-10, atol=0)
        torch.testing.assert_close(seen.gradient, torch.autograd.grad(value, probe)[0], rtol=1e-8, atol=1e-12)
        assert (seen.start, seen.calls) == (start, 1)
        torch.testing.assert_close(seen.x_adv, self.ascend(objective, start), rtol=0, atol=1e-12)

    def assert_same(self, *, rtol: float = 1e-9, atol: float = 1e-12) -> None:
        """Compare parameters, gradients and buffers with the twin's."""
        theirs = dict(self.twin.named_parameters())
        for name, ours in self.nets.named_parameters():
            torch.testing.assert_close(ours.data, theirs[name].data, rtol=rtol, atol=atol, msg=f"{name}: {{}}".format)
            assert (ours.grad is None) == (theirs[name].grad is None), name
            if ours.grad is not None:
                gradient = theirs[name].grad
                torch.testing.assert_close(ours.grad, gradient, rtol=rtol, atol=atol, msg=f"grad {name}: {{}}".format)
        buffers = dict(self.twin.named_buffers())
        for name, buffer in self.nets.named_buffers():
            torch.testing.assert_close(buffer, buffers[name], rtol=rtol, atol=atol, msg=f"{name}: {{}}".format)


@pytest.fixture
def stage(tiny_task: Callable[..., Any], make_step: Callable[..., Any]) -> Callable[..., Stage]:
    """`stage(method, num_classes=5, **options of make_step)`."""

    def make(method: Any, *, num_classes: int = 5, **options: Any) -> Stage:
        return Stage(method, tiny_task(num_classes=num_classes), make_step, **options)

    return make
