"""The contract of every method, on a tiny float64 workload: what may move, who may move it, and at what price.

Each check takes a method and raises `Broken` where it does not hold. The test suite runs the same checks on every
method of the repository.
"""

import copy
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advbench.benchmark.method import Method
from advbench.benchmark.review.adapter.report import Broken
from advbench.benchmark.review.adapter.side_effects import fingerprint, listening, replaced, settings
from advbench.benchmark.review.adapter.workload import TinyTask, make_step
from advbench.benchmark.training.step import TrainingStep

EPS, STEPS, LATE = 0.1, 3, 0.95
INNER = {"craft", "single"}


@dataclass
class Case:
    """A method, its nets and a real step late in training, when every switch of every method is on."""

    method: Method[Any]
    nets: nn.Module
    task: TinyTask
    step: TrainingStep

    @classmethod
    def of(cls, method: Method[Any], dtype: torch.dtype = torch.float64) -> "Case":
        """Build the nets with a fixed seed; the global random state is left as it was."""
        task = TinyTask(dtype=dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            nets = method.build(task).to(dtype)
        return cls(method, nets, task, make_step(nets, task, progress=LATE, steps=STEPS))

    def update(self, seed: int = 0) -> None:
        """Train on one batch, hooks after the step included."""
        with self.step.batch():
            self.method.update(self.nets, self.task.batch(seed=seed), self.step)
        with torch.no_grad():
            self.method.after_step(self.nets, self.step)

    def trained(self) -> dict[str, Tensor]:
        """Return copies of the trained parameters by name."""
        return {name: p.detach().clone() for name, p in self.nets.named_parameters() if p.requires_grad}

    def frozen(self) -> dict[str, Tensor]:
        """Return copies of the frozen parameters by name."""
        return {name: p.detach().clone() for name, p in self.nets.named_parameters() if not p.requires_grad}


def finite_loss_and_moving_parameters(method: Method[Any]) -> None:
    """The loss is finite and reaches every trained parameter; a step moves nothing that is frozen."""
    case = Case.of(method)
    trained, frozen = case.trained(), case.frozen()
    with case.step.batch():
        method.update(case.nets, case.task.batch(), case.step)
    if case.step.first_bad_batch() is not None:
        raise Broken("the loss is not finite", "look for log(0), 0/0 or exp of large numbers")
    if "loss" not in case.step.means():
        raise Broken("no loss was given to step.backward", "update must end in step.backward(loss) and step.advance()")
    after = dict(case.nets.named_parameters())
    idle = [name for name, value in trained.items() if torch.equal(after[name], value)]
    if idle:
        raise Broken(f"{idle[0]} got no gradient", "use it in the loss, or make it requires_grad=False in build")
    moved = [name for name, value in frozen.items() if not torch.equal(after[name], value)]
    if moved:
        raise Broken(f"frozen {moved[0]} moved in update", "move averages in after_step or after_epoch")


def deployed_is_one_network_of_the_protocol(method: Method[Any]) -> None:
    """What is deployed is one network as task.network() makes it, without hooks; training changes it."""
    case = Case.of(method)
    mend = "deployed must return a network from task.network(), or an average of one, untouched"
    plain, deployed = case.task.network(), method.deployed(case.nets)
    before = {name: value.clone() for name, value in deployed.state_dict().items()}
    if set(before) != set(plain.state_dict()):
        raise Broken("deployed is not one network of the protocol's architecture", mend)
    for ours, theirs in zip(plain.modules(), deployed.modules(), strict=True):
        if type(ours) is not type(theirs) or "forward" in vars(theirs):
            raise Broken(f"a {type(theirs).__name__} of the deployed network has another forward", mend)
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(len(getattr(theirs, name)) > len(getattr(ours, name)) for name in hooks):
            raise Broken(f"a {type(theirs).__name__} of the deployed network has hooks", mend)
    for seed in range(3):
        case.update(seed)
    with torch.no_grad():
        method.after_epoch(case.nets, case.step)
    after = method.deployed(case.nets).state_dict()
    if all(torch.equal(before[name], after[name]) for name in before if after[name].is_floating_point()):
        raise Broken("training does not change the deployed network", "let the loss reach nets.target")


def inner_budget(method: Method[Any]) -> None:
    """The inner maximisation keeps to its passes, to the ball and to [0,1]; a robust method crafts at all."""
    case = Case.of(method)
    seen: list[tuple[Tensor, Tensor]] = []
    for name in sorted(INNER):
        setattr(case.step, name, _spied(getattr(case.step, name), seen))
    batch = case.task.batch()
    case.task.ledger.reset()
    with case.step.batch():
        method.update(case.nets, batch, case.step)
    granted = STEPS * len(batch.x) * max(1, len(method.requires) + 1)
    taken = case.task.ledger.passes.input_gradient
    if taken > granted:
        raise Broken(f"{taken} input-gradient passes, {granted} are granted", "craft once a batch")
    if bool(seen) != method.card.robust:
        said = "crafts" if seen else "crafts nothing"
        raise Broken(f"the card says robust={method.card.robust}, the method {said}", "mend the card or the loss")
    declared = any("own inner step" in note for note in method.card.notes)
    for x, x_adv in seen:
        if x_adv.min() < 0 or x_adv.max() > 1:
            raise Broken("crafted images leave [0,1]", "use what step.craft or step.single return")
        if not declared and (x_adv - x).abs().max() > EPS + 1e-12:
            raise Broken("crafted images leave the ball", 'declare it: notes=("own inner step",)')


def _spied(original: Callable[..., Tensor], seen: list[tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def spy(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 (whatever the method passes on)
        x_adv = original(x, *args, **kwargs)
        seen.append((x, x_adv))
        return x_adv

    return spy


def only_the_optimiser_moves_weights(method: Method[Any]) -> None:
    """Trained weights move by the one optimiser step alone, along the gradients of step.backward."""
    case = Case.of(method)
    optimiser, mend = case.step._optimiser, MEND_OPTIMISER  # noqa: SLF001 (what methods must not touch)
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    handled = [id(p) for group in optimiser.param_groups for p in group["params"]]
    gradients: list[dict[str, Tensor]] = []
    steps: list[dict[str, Tensor]] = []
    real_step, real_backward = optimiser.step, case.step.backward

    def backward(loss: Tensor) -> None:
        before = _gradients(case.nets)
        if gradients and not _same(gradients[-1], before):
            raise Broken("gradients were changed between backward passes", mend)
        real_backward(loss)
        gradients.append(_gradients(case.nets))

    def advance() -> None:
        if not gradients or not _same(gradients[-1], _gradients(case.nets)):
            raise Broken("the gradients are not those of step.backward", mend)
        before = case.trained()
        real_step()
        steps.append({name: value - before[name] for name, value in case.trained().items()})

    case.step.backward, optimiser.step = backward, advance  # type: ignore[method-assign,assignment]
    for seed in range(2):
        start = case.trained()
        gradients.clear()
        steps.clear()
        case.update(seed)
        with torch.no_grad():
            method.after_epoch(case.nets, case.step)
        for name, value in case.trained().items():  # weight perturbation comes and goes around the step
            if not torch.allclose(value - start[name], steps[0][name], rtol=1e-6, atol=1e-9):
                raise Broken(f"{name} was moved by something else than the optimiser's step", mend)
    now = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    if now != groups or handled != [id(p) for group in optimiser.param_groups for p in group["params"]]:
        raise Broken("the optimiser's settings were changed", mend)


MEND_OPTIMISER = (
    "leave weights, gradients and optimiser to step.backward and step.advance; perturb with weights.shifted"
)


def _gradients(nets: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.detach().clone() for name, p in nets.named_parameters() if p.grad is not None}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def state_lives_in_the_nets(method: Method[Any]) -> None:
    """Nothing is remembered outside the nets, whose state makes the trip through a checkpoint; batches stay whole."""
    case = Case.of(method)
    module = sys.modules[type(method).__module__]
    fields = {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
    outside = _plain(module)
    batch = case.task.batch()
    given = [part.clone() for part in batch]
    with case.step.batch():
        method.update(case.nets, batch, case.step)
    with torch.no_grad():
        method.after_step(case.nets, case.step)
        method.after_epoch(case.nets, case.step)
    if vars(method) != fields:
        raise Broken("the method's own fields changed", "what is remembered belongs into nets: register_buffer")
    if _plain(module) != outside:
        raise Broken("something outside the nets changed", "what is remembered belongs into nets: register_buffer")
    if not all(torch.equal(a, b) for a, b in zip(given, batch, strict=True)):
        raise Broken("the method writes into its batch", "clone before you change")
    other = copy.deepcopy(case.nets)
    other.load_state_dict(case.nets.state_dict())


def _plain(module: Any) -> dict[str, str]:  # noqa: ANN401 (a module)
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
    """No file, socket or process is touched, no global state moved, no function of the house replaced."""
    Case.of(method).update()  # the first time Python may import lazily
    case = Case.of(method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(987_654_321)  # whoever seeds leaves another state than this
        _watch(case)


def _watch(case: Case) -> None:
    before, code = settings(), fingerprint()
    with listening() as heard:
        case.update()
        with torch.no_grad():
            case.method.after_epoch(case.nets, case.step)
    if heard:
        raise Broken(f"it touched {heard[0]}", "a method reads and writes nothing")
    changed = replaced(code)
    if changed:
        raise Broken(f"it replaced {changed[0]}", "never assign to what is not yours")
    now = settings()
    moved = [name for name, value in before.items() if now[name] != value]
    if moved:
        raise Broken(f"it moved {moved[0]}", "draw nothing from global generators and set nothing global")


def neutral_to_device_and_dtype(method: Method[Any]) -> None:
    """A batch is trained on in float32 as in float64, and every tensor is made where the batch is."""
    for dtype in (torch.float64, torch.float32):
        case = Case.of(method, dtype)
        batch = case.task.batch()
        with case.step.batch():
            method.update(case.nets, batch, case.step)
        other = [name for name, p in case.nets.named_parameters() if p.dtype is not dtype]
        if case.step.first_bad_batch() is not None or other:
            raise Broken(f"training in {dtype} goes wrong", "make tensors like others: x.new_zeros, torch.zeros_like")
    case = Case.of(method)
    case.step.log = lambda **_scalars: None  # type: ignore[method-assign]  # makes tensors of its own
    batch = case.task.batch()
    try:
        # On this default device tensors have no data: one that is made without saying where cannot meet the batch.
        with torch.device("meta"), case.step.batch():
            method.update(case.nets, batch, case.step)
    except (RuntimeError, NotImplementedError) as error:
        said = f"a tensor is made on the default device ({str(error).splitlines()[0][:100]})"
        raise Broken(said, "say where: x.new_zeros, torch.zeros_like(x), torch.arange(n, device=x.device)") from None


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
