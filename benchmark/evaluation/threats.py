"""One shard under another threat than the board's: L2, or L∞ and L2 in expectation over a network's randomness (EOT).

By the board's rules: an attack proposes, this module clips to the ball and to [0,1] and judges in strict fp32.
"""

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from advbench.benchmark.attacks import autoattack, l2, pgd
from advbench.benchmark.attacks.ball import Ball, Norm
from advbench.benchmark.attacks.cw import margin_sum
from advbench.benchmark.attacks.wrapped_network import ForwardError, View, frozen, strict_fp32
from advbench.benchmark.evaluation.evaluator import dispose, predicted
from advbench.benchmark.evaluation.masking_probes import Subject, examine
from advbench.benchmark.losses import ce_sum
from advbench.benchmark.models.pass_counter import Ledger
from advbench.benchmark.models.robustbench import contained
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.outcomes import Cost, EvaluationError, ShardResult
from advbench.benchmark.records.schema import STAGES

FAMILIES = ("clean", "pgd", "cw", "autoattack")
RAND_STAGES = ("apgd-ce", "apgd-dlr")
"""AutoAttack's version for randomised defenses."""


@dataclass(frozen=True)
class Setting:
    """One threat and what to attack with.

    Attributes:
        norm: "linf" or "l2".
        eps: radius in units of pixels in [0,1].
        families: some of `FAMILIES`; "clean" is always measured.
        eot: draws over which gradients are averaged and votes are taken; 0: the network is deterministic.
        examine: gather the evidence of the flags, too; of a randomised network only outcomes tell.
    """

    norm: Norm
    eps: Fraction
    families: tuple[str, ...] = FAMILIES
    eot: int = 0
    examine: bool = True

    @property
    def said(self) -> str:
        """The threat in words: "L∞, eps 8/255"."""
        return f"{'L∞' if self.norm == 'linf' else 'L2'}, eps {self.eps}"

    def check(self, shape: Sequence[int], num_classes: int) -> None:
        """Refuse what cannot be measured.

        Raises:
            EvaluationError: for an eps that is not above 0 or beyond what images in [0,1] can move, for unknown
                attacks, or for AutoAttack with fewer than four classes; one line.
        """
        farthest = 1.0 if self.norm == "linf" else math.sqrt(math.prod(shape))
        if not 0 < self.eps <= farthest:
            norm = self.said.partition(",")[0]
            raise EvaluationError(
                f"eps must be above 0 and at most {farthest:.4g}, the farthest that images in [0,1] are apart "
                f"in {norm}; got {self.eps}"
            )
        odd = [name for name in self.families if name not in FAMILIES]
        if odd:
            raise EvaluationError(f"no family of attacks {odd[0]!r}; there are {', '.join(FAMILIES)}")
        if "autoattack" in self.families and num_classes < autoattack.FEWEST_CLASSES:
            raise EvaluationError(f"AutoAttack's targeted DLR loss needs 4 classes or more; there are {num_classes}")


@dataclass
class Field:
    """One shard under L2, or under EOT."""

    view: View
    x: Tensor
    y: Tensor
    first: int
    setting: Setting
    protocol: Protocol
    seed: int
    peers: dict[str, nn.Module]
    ledger: Ledger = field(default_factory=Ledger)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Count the passes."""
        self.ledger.watch(self.view)

    @property
    def eps(self) -> float:
        """The radius as the nearest double."""
        return float(self.setting.eps)

    @property
    def ball(self) -> Ball:
        """What the adversary may do."""
        return Ball(self.setting.norm, self.eps)

    def run(self, family: str) -> ShardResult:
        """Attack with one family; draws of a random network depend on seed, family and shard."""
        text = f"{self.protocol.digest}|{self.seed}|{family}|{self.first}"
        draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        gpus = [self.x.device] if self.x.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=gpus), frozen(self.view.network), strict_fp32(self.x.device):
                torch.manual_seed(draw)
                with torch.no_grad():
                    answer = predicted(self.view(self.x))
                right = self._votes(self.x, self.y)
                result = ShardResult(family=family, first=self.first, predictions=answer.cpu().numpy().astype(np.int64))
                attack = {
                    "clean": self._clean,
                    "pgd": self._pgd,
                    "cw": self._cw,
                    "examination": self._examination,
                    "autoattack": self._autoattack,
                }
                attack[family](result, right)
        except ForwardError as error:
            raise EvaluationError(str(error)) from error.__cause__
        return result

    def _votes(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether most of the draws are right; of a deterministic network one forward is asked."""
        with torch.no_grad():
            draws = range(max(1, self.setting.eot))
            votes = torch.stack([predicted(self.view(x)) == y for _ in draws]).double().mean(dim=0)
        return votes > 0.5

    def _disposed(self, proposal: Tensor, x: Tensor) -> Tensor:
        if self.setting.norm == "linf":
            return dispose(proposal, x, self.eps)
        kept = l2.project(torch.where(proposal.isfinite(), proposal.detach().to(x.dtype), x), x, self.eps)
        distance = (kept.double() - x.double()).flatten(1).norm(dim=1).amax().item()
        if not (distance <= self.eps * (1 + l2.ROUNDING) and kept.amin().item() >= 0 and kept.amax().item() <= 1):
            raise EvaluationError(
                f"an input outside the ball or [0,1] was about to be judged (distance {distance:.9g})"
            )
        return kept

    def _start(self, family: str) -> Tensor:
        images = range(self.first, self.first + len(self.x))
        return self.ball.start(self.x, self.protocol.digest, family, images)

    def _climb(self, x_adv: Tensor, loss: pgd.Loss, steps: int, step: float) -> Tensor:
        """Take steps along the gradient, under EOT along its mean over draws."""
        draws = max(1, self.setting.eot)

        def objective(z: Tensor) -> Tensor:
            values = [loss(self.view(z), self.y) for _ in range(draws)]
            return torch.stack(values).mean()

        with self.ledger.differentiating("input"):
            return self.ball.ascend(self.x, x_adv, objective, step=step, steps=steps)

    def _column(self, result: ShardResult, name: str, outcome: Tensor, **settings: object) -> None:
        result.columns[name] = outcome.cpu().numpy().astype(np.bool_)
        now = time.perf_counter()
        result.costs[name] = Cost(now - self.started, self.ledger.reset())
        self.started = now
        common = {"norm": self.setting.norm, "eps": str(self.setting.eps), "batch": self.protocol.attacks.shard}
        judged = f"right in most of {self.setting.eot} draws" if self.setting.eot else "one forward, strict fp32"
        result.settings[name] = {**common, "eot": self.setting.eot, "judged": judged, **settings}

    def _clean(self, result: ShardResult, right: Tensor) -> None:
        self._column(result, "clean", right, attack="none")

    def _pgd(self, result: ShardResult, right: Tensor) -> None:
        x_adv, done = self._start("pgd"), 0
        for name, spec in (("pgd20", self.protocol.attacks.pgd20), ("pgd100", self.protocol.attacks.pgd100)):
            step = float(spec.step)
            x_adv, done = self._climb(x_adv, ce_sum, spec.steps - done, step), spec.steps
            outcome = right & self._votes(self._disposed(x_adv, self.x), self.y)
            self._column(result, name, outcome, attack="PGD", loss="cross-entropy", steps=spec.steps, step=step)

    def _cw(self, result: ShardResult, right: Tensor) -> None:
        spec = self.protocol.attacks.cw
        steps, step = spec.steps, float(spec.step)
        x_adv = self._climb(self._start("cw"), margin_sum, steps, step)
        outcome = right & self._votes(self._disposed(x_adv, self.x), self.y)
        self._column(result, "cw", outcome, attack="CW", loss="margin", steps=steps, step=step)

    def _autoattack(self, result: ShardResult, right: Tensor) -> None:
        alive, shard = right.clone(), self.first // self.protocol.attacks.shard
        for attack in RAND_STAGES if self.setting.eot else STAGES:
            among = alive.nonzero().flatten()
            if len(among):
                x, y = self.x[among], self.y[among]
                seed = autoattack.seed_of(self.protocol.digest, self.seed, attack, shard)
                with self.ledger.differentiating("input"):
                    proposal = self._proposed(x, y, attack, seed)
                alive[among] = self._votes(self._disposed(proposal, x), y)
            result.stages[attack] = alive.cpu().numpy().astype(np.bool_)
        version = f"rand, EOT {self.setting.eot}" if self.setting.eot else "standard"
        self._column(result, "autoattack", alive, attack="AutoAttack", version=version)

    def _examination(self, result: ShardResult, right: Tensor) -> None:
        subject = Subject(
            view=self.view,
            x=self.x,
            y=self.y,
            right=right,
            first=self.first,
            ball=self.ball,
            protocol=self.protocol,
            ledger=self.ledger,
            predict=predicted,
        )
        result.evidence.update(examine(subject, self.peers))
        result.costs["examination"] = Cost(time.perf_counter() - self.started, self.ledger.reset())

    def _proposed(self, x: Tensor, y: Tensor, attack: str, seed: int) -> Tensor:
        classes = self.view.num_classes
        if not self.setting.eot:
            return l2.propose(self.view, x, y, eps=self.eps, attack=attack, seed=seed, num_classes=classes)[0]
        norm = "Linf" if self.setting.norm == "linf" else "L2"
        with contained(x.device):
            engine = AutoAttack(self.view, norm=norm, eps=self.eps, seed=seed, version="rand", device=x.device)
            engine.verbose = False
            engine.apgd.eot_iter = self.setting.eot
            engine.attacks_to_run = [attack]
            x_adv: Tensor = engine.run_standard_evaluation(x, y, batch_size=len(x))[0]
        return x_adv.detach()
