"""Evidence against a row: adversarial examples that somebody else made, judged as the evaluator judges its own.

An adaptive attack (Tramèr et al. 2020, https://arxiv.org/abs/2002.08347) needs no code here: its images are enough. A
file is an .npz of `x_adv`, float32 (n, C, H, W) in [0,1], and `index`, (n,) test indices, each once; `checkpoint`,
"best" or "last", may be there. Whatever falls is no longer robust, so accuracy is at most what still stands.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advbench.benchmark.attacks.ball import Ball
from advbench.benchmark.attacks.wrapped_network import View, frozen, strict_fp32
from advbench.benchmark.evaluation.arena import dispose, predicted
from advbench.benchmark.losses import margin_each
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import CHECKPOINTS, Bits, CheckpointName, Evaluation
from advbench.benchmark.review.reproduce import Verifier

CLOSE = 1e-4
"""A margin below this is within what another device rounds otherwise."""
_SPARE = 2**20


class EvidenceError(ValueError):
    """A file of adversarial examples that cannot be judged; the message is one line with the fix."""


@dataclass(frozen=True)
class Examples:
    """Adversarial images, float32 (n, C, H, W), of the test images `index`, int64 (n,)."""

    x_adv: NDArray[np.float32]
    index: NDArray[np.int64]
    checkpoint: CheckpointName | None = None


def read(path: Path, test: int, shape: tuple[int, ...]) -> Examples:
    """Read a file of examples; no code in it runs, and no more is unpacked than the test set is large.

    Args:
        path: the .npz file.
        test: images in the test set.
        shape: (C, H, W) of an image.

    Raises:
        EvidenceError: if it is anything else than what this module's docstring says.
    """
    found = _arrays(path, test * (4 * int(np.prod(shape)) + 8) + _SPARE)
    if not {"x_adv", "index"} <= set(found) <= {"x_adv", "index", "checkpoint"}:
        raise EvidenceError(f"{path}: holds {', '.join(sorted(found)) or 'nothing'}; it must hold x_adv and index")
    named = str(found["checkpoint"]) if "checkpoint" in found else None
    checkpoint = next((name for name in CHECKPOINTS if name == named), None)
    if checkpoint != named:
        raise EvidenceError(f"{path}: checkpoint is {named!r}, neither best nor last")
    x_adv, index = found["x_adv"], found["index"]
    if x_adv.dtype != np.float32 or x_adv.shape[1:] != shape or not len(x_adv):
        due = f"float32 (n, {', '.join(map(str, shape))}), n > 0"
        raise EvidenceError(f"{path}: x_adv is {x_adv.dtype} {x_adv.shape}, it must be {due}")
    if index.dtype.kind not in "iu" or index.shape != x_adv.shape[:1]:
        raise EvidenceError(f"{path}: index is {index.dtype} {index.shape}, it must be integers ({len(x_adv)},)")
    if int(index.min()) < 0 or int(index.max()) >= test:
        spans = f"index spans {index.min()} to {index.max()}"
        raise EvidenceError(f"{path}: {spans}, test images are 0 to {test - 1}")
    values, counts = np.unique(index, return_counts=True)
    if counts.max() > 1:
        raise EvidenceError(f"{path}: test image {values[counts.argmax()]} is there {counts.max()} times, once is due")
    return Examples(x_adv, index.astype(np.int64), checkpoint)


def _arrays(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file that unpacks to no more than `most` bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size <= most:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise EvidenceError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EvidenceError(f"{path}: not an .npz file of plain arrays ({str(error).splitlines()[0]})") from None
    raise EvidenceError(f"{path}: {size:,} bytes unpacked, every test image once is {most:,} at most")


@dataclass(frozen=True)
class Fallen:
    """One image that is classified wrongly although the record counts it as robust.

    Attributes:
        predicted: the class that the network gives, −1 for logits that are not finite.
        margin: max_{j≠y} z_j − z_y; NaN or infinite for such logits.
    """

    index: int
    label: int
    predicted: int
    margin: float


@dataclass(frozen=True)
class Judgement:
    """What adversarial examples do to a checkpoint's claims.

    Attributes:
        column: what "robust" means: "worst", every attack together, or "autoattack" where one was not measured.
        test: images of the test set.
        examples: images in the file; fooled: those that are classified wrongly, robust or not before.
        claimed: images that the record counts as robust; fallen: those that are classified wrongly now.
        autoattack: images right under AutoAttack, as recorded; autoattack_left: without the fallen.
        farthest: largest distance of an example from its clean image, of a pixel in L∞.
        tolerance: how far outside of the ball an example may be, which is clipped before it is judged.
    """

    checkpoint: str
    column: str
    test: int
    examples: int
    fooled: int
    claimed: int
    fallen: tuple[Fallen, ...]
    autoattack: int
    autoattack_left: int
    farthest: float
    tolerance: float

    @property
    def left(self) -> int:
        """Images that still count as robust."""
        return self.claimed - len(self.fallen)

    @property
    def close(self) -> int:
        """Fallen images that another device may round back."""
        return sum(fallen.margin < CLOSE for fallen in self.fallen)

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        fallen = [{**vars(f), "margin": f.margin if math.isfinite(f.margin) else None} for f in self.fallen]
        return {
            **vars(self),
            "left": self.left,
            "robust_accuracy_claimed": self.claimed / self.test,
            "robust_accuracy_upper_bound": self.left / self.test,
            "autoattack_claimed": self.autoattack / self.test,
            "autoattack_upper_bound": self.autoattack_left / self.test,
            "fallen": fallen,
            "fallen_within_rounding": self.close,
        }


def claims(evaluation: Evaluation) -> tuple[str, Bits]:
    """Return which images count as robust, and by which column.

    Raises:
        EvidenceError: without AutoAttack.
    """
    if evaluation.worst is not None:
        return "worst", evaluation.worst
    if "autoattack" not in evaluation.columns:
        raise EvidenceError("the record has no AutoAttack on this checkpoint, so no image counts as robust")
    return "autoattack", evaluation.columns["autoattack"].correct


def judge(examples: Examples, of: Verifier) -> Judgement:
    """Judge examples in strict fp32, in batches of the protocol's shard size, after clipping them to the ball.

    Args:
        examples: what `read` returned.
        of: the recorded checkpoint, its network and the test set.

    Raises:
        EvidenceError: for an example outside of the ball or of [0,1], or that is not finite.
    """
    evaluation = of.checkpoint.evaluation
    column, robust = claims(evaluation)
    autoattack = evaluation.columns["autoattack"].correct
    ball, size = _ball(of.protocol), of.protocol.attacks.shard
    order = np.argsort(examples.index)
    index, x_adv = examples.index[order], examples.x_adv[order]
    farthest = _inside(index, x_adv, of)
    view, wrong = View(of.network), list[Fallen]()
    for start in range(0, len(index), size):
        part = slice(start, start + size)
        x, y = of.images(index[part])
        with frozen(of.network), strict_fp32(x.device), torch.no_grad():
            logits = view(dispose(torch.from_numpy(x_adv[part]).to(x.device), x, ball))
            answers, margins = predicted(logits), margin_each(logits, y)
        rows = zip(index[part].tolist(), y.tolist(), answers.tolist(), margins.tolist(), strict=True)
        wrong += [Fallen(*row) for row in rows if row[1] != row[2]]
    fallen = tuple(example for example in wrong if robust[example.index])
    gone = [example.index for example in fallen]
    return Judgement(
        checkpoint=of.name,
        column=column,
        test=len(of.split),
        examples=len(index),
        fooled=len(wrong),
        claimed=int(robust.sum()),
        fallen=fallen,
        autoattack=int(autoattack.sum()),
        autoattack_left=int(autoattack.sum()) - int(autoattack[gone].sum()),
        farthest=farthest,
        tolerance=ball.tolerance,
    )


def _ball(protocol: Protocol) -> Ball:
    return Ball(protocol.threat.norm, float(protocol.threat.eps))


def _inside(index: NDArray[np.int64], x_adv: NDArray[np.float32], of: Verifier) -> float:
    """Return the largest distance; refuse what no adversary of the protocol may show."""
    ball, size = _ball(of.protocol), of.protocol.attacks.shard
    finite = np.isfinite(x_adv).reshape(len(x_adv), -1).all(axis=1)
    if not finite.all():
        raise EvidenceError(f"test image {index[int(finite.argmin())]}: its example is not finite")
    low, high = float(x_adv.min()), float(x_adv.max())
    if low < 0 or high > 1:
        raise EvidenceError(f"examples span [{low:.6g}, {high:.6g}]: clip them to [0,1]")
    parts = [slice(start, start + size) for start in range(0, len(index), size)]
    distance = torch.cat(
        [ball.distance(torch.from_numpy(x_adv[part]), of.images(index[part])[0].cpu()) for part in parts]
    ).numpy()
    outside = distance > ball.eps + ball.tolerance
    if outside.any():
        first = int(outside.argmax())
        raise EvidenceError(
            f"{int(outside.sum())} examples outside of the ball, the first of test image {index[first]} "
            f"({distance[first]:.8g}, eps {of.protocol.threat.eps} is {ball.eps:.8g} and "
            f"{ball.tolerance:.2g} is tolerated): project them "
            "onto it, in pixels of [0,1]"
        )
    return float(distance.max())
