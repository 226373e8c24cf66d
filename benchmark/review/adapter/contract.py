"""The contract of every method, on a tiny float64 workload: what may move, who may move it, and at what price.

Each check takes a method and raises `CheckError` where it does not hold. The test suite runs the same checks on every
method of the repository.
"""

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advbench.benchmark.method import Method
from advbench.benchmark.models.torch_state import isolated_rng
from advbench.benchmark.review.adapter.workload import TinyTask, make_step
from advbench.benchmark.review.finding import CheckError
from advbench.benchmark.training import side_effects
from advbench.benchmark.training.step import BudgetError, TrainingStep

EPS, STEPS, LATE = 0.1, 3, 0.95
EPOCHS = (0.0, 0.3, 0.6, LATE)
"""Progress of the epochs in which hooks are run."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_LEAVE = "leave weights, gradients and optimiser to step.backward and step.advance; perturb with weights.shifted"


@dataclass
class TinyRun:
    """A method, its nets and a real step late in training, when every switch of every method is on."""

    method: Method[Any]
    nets: nn.Module
    task: TinyTask
    step: TrainingStep

    @classmethod
    def of(
        cls, method: Method[Any], dtype: torch.dtype = torch.float64, *, progress: float = LATE, steps: int = STEPS
    ) -> "TinyRun":
        """Build the nets with a fixed seed; the global random state is left as it was."""
        task = TinyTask(dtype=dtype)
        with isolated_rng():
            torch.manual_seed(1)
            nets = method.build(task).to(dtype)
        step = make_step(nets, task, progress=progress, steps=steps, card=method.card)
        return cls(method, nets, task, step)

    def update(self, seed: int = 0) -> None:
        """Train on one batch."""
        batch = self.task.batch(seed=seed)
        with self.step.batch(len(batch.x)):
            self.method.update(self.nets, batch, self.step)

    def after(self) -> None:
        """Call the hooks after a step, and after an epoch."""
        with torch.no_grad():
            self.method.after_step(self.nets, self.step)
            self.method.after_epoch(self.nets, self.step)

    def epochs(self) -> Iterator[int]:
        """Enter the epochs of a training in turn, from its first to its last."""
        for epoch, progress in enumerate(EPOCHS):
            self.step.start_epoch(progress, epoch)
            yield epoch

    def parameters(self, *, trained: bool) -> dict[str, Tensor]:
        """Return copies of the trained or of the frozen parameters by name."""
        return {name: p.detach().clone() for name, p in self.nets.named_parameters() if p.requires_grad is trained}

    def gradients(self) -> dict[str, Tensor]:
        """Return copies of the gradients by name."""
        return {name: p.grad.detach().clone() for name, p in self.nets.named_parameters() if p.grad is not None}


def finite_loss_and_moving_parameters(method: Method[Any]) -> None:
    """The loss is finite and reaches every trained parameter; a step moves nothing that is frozen."""
    run = TinyRun.of(method)
    trained, frozen = run.parameters(trained=True), run.parameters(trained=False)
    run.update()
    if run.step.first_bad_batch() is not None:
        raise CheckError("the loss is not finite", "look for log(0), 0/0 or exp of large numbers")
    if "loss" not in run.step.means():
        hint = "update must end in step.backward(loss) and step.advance()"
        raise CheckError("no loss was given to step.backward", hint)
    after = dict(run.nets.named_parameters())
    idle = [name for name, value in trained.items() if torch.equal(after[name], value)]
    if idle:
        raise CheckError(f"{idle[0]} got no gradient", "use it in the loss, or make it requires_grad=False in build")
    moved = [name for name, value in frozen.items() if not torch.equal(after[name], value)]
    if moved:
        raise CheckError(f"frozen {moved[0]} moved in update", "move averages in after_step or after_epoch")


def deployed_is_one_network_of_the_protocol(method: Method[Any]) -> None:
    """What is deployed is one network as task.network() makes it, without hooks; training changes it."""
    run = TinyRun.of(method)
    hint = "deployed must return a network from task.network(), or an average of one, untouched"
    plain, deployed = run.task.network(), method.deployed(run.nets)
    before = {name: value.clone() for name, value in deployed.state_dict().items()}
    if set(before) != set(plain.state_dict()):
        raise CheckError("deployed is not one network of the protocol's architecture", hint)
    for ours, theirs in zip(plain.modules(), deployed.modules(), strict=True):
        if type(ours) is not type(theirs) or "forward" in vars(theirs):
            raise CheckError(f"a {type(theirs).__name__} of the deployed network has another forward", hint)
        if any(len(getattr(theirs, name)) > len(getattr(ours, name)) for name in _HOOKS):
            raise CheckError(f"a {type(theirs).__name__} of the deployed network has hooks", hint)
    for epoch in run.epochs():
        run.update(epoch)
        run.after()
    after = method.deployed(run.nets).state_dict()
    if all(torch.equal(before[name], after[name]) for name in before if after[name].is_floating_point()):
        raise CheckError("training does not change the deployed network", "let the loss reach nets.target")


def inner_budget(method: Method[Any]) -> None:
    """The inner maximisation keeps to its passes, to the ball and to [0,1]; a robust method crafts at all.

    In every part of training: the trainer counts the passes of each batch, here as in any run.
    """
    run = TinyRun.of(method)
    seen: list[tuple[Tensor, Tensor]] = []
    for name in ("craft", "single"):
        setattr(run.step, name, _recorded(getattr(run.step, name), seen))
    try:
        for epoch in run.epochs():
            run.update(epoch)
            run.after()
    except BudgetError as error:
        raise CheckError(str(error), "the protocol owns the inner budget") from None
    if bool(seen) != method.card.robust:
        crafts = "crafts" if seen else "crafts nothing"
        message = f"the card says robust={method.card.robust}, the method {crafts}"
        raise CheckError(message, "correct the card or the loss")
    declared = method.card.family == "single step"
    for x, x_adv in seen:
        if x_adv.min() < 0 or x_adv.max() > 1:
            raise CheckError("crafted images leave [0,1]", "use what step.craft or step.single return")
        if not declared and (x_adv - x).abs().max() > EPS + 1e-12:
            raise CheckError("crafted images leave the ball", 'declare it: family="single step"')


def _recorded(original: Callable[..., Tensor], seen: list[tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 (whatever the method passes on)
        x_adv = original(x, *args, **kwargs)
        seen.append((x, x_adv))
        return x_adv

    return call


def only_the_optimiser_moves_weights(method: Method[Any]) -> None:
    """Trained weights move by the one optimiser step alone, along the gradients of step.backward."""
    run = TinyRun.of(method)
    optimiser = run.step._optimiser  # noqa: SLF001 (what methods must not touch)
    before_all = _settings_of(optimiser)
    gradients: list[dict[str, Tensor]] = []
    steps: list[dict[str, Tensor]] = []
    real_step, real_backward = optimiser.step, run.step.backward

    def backward(loss: Tensor) -> None:
        if gradients and not _same(gradients[-1], run.gradients()):
            raise CheckError("gradients were changed between backward passes", _LEAVE)
        real_backward(loss)
        gradients.append(run.gradients())

    def advance() -> None:
        if not gradients or not _same(gradients[-1], run.gradients()):
            raise CheckError("the gradients are not those of step.backward", _LEAVE)
        before = run.parameters(trained=True)
        real_step()
        steps.append({name: value - before[name] for name, value in run.parameters(trained=True).items()})

    if method.card.blends:  # declared, and held by the trainer: what is looked for here is what else moves weights
        run.step.blend = lambda *_, **__: None  # type: ignore[method-assign]  # (for this object alone)
    # (mypy: both stand in for methods of these two objects alone)
    run.step.backward, optimiser.step = backward, advance  # type: ignore[method-assign,assignment]  # watched
    for epoch in run.epochs():
        start = run.parameters(trained=True)
        gradients.clear()
        steps.clear()
        run.update(epoch)
        run.after()
        for name, value in run.parameters(trained=True).items():  # weight perturbation comes and goes around the step
            if not torch.allclose(value - start[name], steps[0][name], rtol=1e-6, atol=1e-9):
                raise CheckError(f"{name} was moved by something else than the optimiser's step", _LEAVE)
    if _settings_of(optimiser) != before_all:
        raise CheckError("the optimiser's settings were changed", _LEAVE)


def _settings_of(optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [{**group, "params": [id(p) for p in group["params"]]} for group in optimiser.param_groups]


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def state_lives_in_the_nets(method: Method[Any]) -> None:
    """Nothing is remembered outside the nets, whose state makes the trip through a checkpoint; batches stay whole."""
    run = TinyRun.of(method)
    module = sys.modules[type(method).__module__]
    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    outside = _data_of(module)
    batch = run.task.batch()
    given = [part.clone() for part in batch]
    with run.step.batch(len(batch.x)):
        method.update(run.nets, batch, run.step)
    run.after()
    hint = "what is remembered belongs into nets: register_buffer"
    if vars(method) != fields:
        raise CheckError("the method's own fields changed", hint)
    if _data_of(module) != outside:
        raise CheckError("something outside the nets changed", hint)
    if not all(torch.equal(a, b) for a, b in zip(given, batch, strict=True)):
        raise CheckError("the method writes into its batch", "clone before you change")
    copy.deepcopy(run.nets).load_state_dict(run.nets.state_dict())


def _data_of(module: Any) -> dict[str, str]:  # noqa: ANN401 (a module)
    """Return what a module and its classes hold beside code, as text."""
    held = {"": module, **{name: kind for name, kind in vars(module).items() if isinstance(kind, type)}}
    return {
        f"{owner}.{name}": repr(value)
        for owner, namespace in held.items()
        for name, value in vars(namespace).items()
        if not name.startswith("__") and not callable(value)
        if isinstance(value, bool | int | float | str | list | dict | set | tuple | Tensor)
    }


def leaves_the_process_alone(method: Method[Any]) -> None:
    """No global state is moved, no function of the benchmark replaced."""
    run = TinyRun.of(method)
    before = side_effects.code()
    try:
        with isolated_rng():
            torch.manual_seed(987_654_321)  # whoever seeds leaves another state than this
            for epoch in run.epochs():
                with side_effects.settings_kept():
                    run.update(epoch)
                    run.after()
                side_effects.check_code(before, run.nets, type(method).__module__)
    except side_effects.SideEffectError as error:
        message, _, hint = str(error).partition(": ")
        raise CheckError(message, hint) from None


def neutral_to_device_and_dtype(method: Method[Any]) -> None:
    """A batch is trained on in float32 as in float64, and every tensor is made where the batch is."""
    for dtype in (torch.float64, torch.float32):
        run = TinyRun.of(method, dtype)
        run.update()
        other = [name for name, p in run.nets.named_parameters() if p.dtype is not dtype]
        if run.step.first_bad_batch() is not None or other:
            raise CheckError(
                f"training in {dtype} goes wrong", "make tensors like others: x.new_zeros, torch.zeros_like"
            )
    run = TinyRun.of(method)
    run.step.log = lambda **_scalars: None  # type: ignore[method-assign]  # (it makes tensors of its own)
    batch = run.task.batch()
    try:
        # On this default device tensors have no data: one that is made without saying where cannot meet the batch.
        with torch.device("meta"), run.step.batch(len(batch.x)):
            method.update(run.nets, batch, run.step)
    except (RuntimeError, NotImplementedError) as error:
        message = f"a tensor is made on the default device ({str(error).splitlines()[0][:100]})"
        raise CheckError(
            message, "say where: x.new_zeros, torch.zeros_like(x), torch.arange(n, device=x.device)"
        ) from None


Check = Callable[[Method[Any]], None]
CHECKS: dict[str, Check] = {
    check.__name__.replace("_", " "): check
    for check in (
        finite_loss_and_moving_parameters,
        deployed_is_one_network_of_the_protocol,
        inner_budget,
        only_the_optimiser_moves_weights,
        state_lives_in_the_nets,
        leaves_the_process_alone,
        neutral_to_device_and_dtype,
    )
}
"""Every check by its name in words."""
