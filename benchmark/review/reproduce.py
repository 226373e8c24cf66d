"""Recompute what a record claims, from its checkpoint, and say whether it is equal.

Two ways. `shards`: whole shards, exactly as they were measured; on the CPU that measured them they are equal to the
bit. `images`: single random images, in a batch of their own: the starts depend on protocol and image alone, but another
batch may be added up in another order, which turns an image whose margin is within rounding. AutoAttack draws for a
whole shard at once, so only shards of it can be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advbench.benchmark.data.splits import Split
from advbench.benchmark.evaluation.evaluator import attack_images, evaluate_shard
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records import flags
from advbench.benchmark.records.outcomes import COLUMNS_OF, gather
from advbench.benchmark.records.schema import Bits, Checkpoint, Environment, Record
from advbench.benchmark.records.shard_result import ShardResult

Verdict = Literal["equal", "within tolerance", "different"]
_TRANSFER, _PROBED = "transfer-beats-white-box", "probabilities"
"""The flag that needs peers, and one that masking probes alone can judge."""
NUMERIC_LIBRARIES = ("torch", "numpy", "pyautoattack")
"""Libraries that compute outcomes."""
TOLERANCES = {"clean": 0.001, "pgd20": 0.002, "pgd100": 0.002, "cw": 0.002, "autoattack": 0.005}
"""Share of images that may differ where rounding is not the same: another device, library or batch. One always may.

PGD and CW follow signs of gradients, which rounding can turn; AutoAttack draws random numbers, which devices do not
share.
"""


class VerificationError(ValueError):
    """A record that cannot be verified here; the message is one line."""


def threads(record: Record) -> int | None:
    """Return the number of threads that every column was measured with, if it is one."""
    counts = {
        outcome.environment.threads
        for found in record.checkpoints.values()
        for outcome in found.evaluation.columns.values()
        if outcome.environment is not None
    }
    return counts.pop() if len(counts) == 1 else None


@dataclass(frozen=True)
class Claim:
    """One column of a checkpoint, as claimed and as found again.

    Attributes:
        images: test indices that were recomputed.
        claimed, found: outcomes at `images`.
        exact: whether nothing may differ: same kind of hardware, libraries, threads and batches.
        why: what may round otherwise; empty if `exact`.
    """

    checkpoint: str
    column: str
    images: NDArray[np.int64]
    claimed: Bits
    found: Bits
    why: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing may differ."""
        return not self.why

    @property
    def differing(self) -> list[int]:
        """Test indices whose outcome is another."""
        return [int(image) for image in self.images[self.claimed != self.found]]

    @property
    def allowed(self) -> int:
        """How many images may differ."""
        return 0 if self.exact else max(1, round(TOLERANCES[self.column] * len(self.images)))

    @property
    def verdict(self) -> Verdict:
        """What comes of it."""
        if not self.differing:
            return "equal"
        return "within tolerance" if len(self.differing) <= self.allowed else "different"

    @property
    def message(self) -> str:
        """The verdict in words, with its reason."""
        if not self.differing:
            return "equal to the bit"
        count = f"{len(self.differing)} of {len(self.images)} images differ"
        if self.exact:
            return f"{count}, although hardware, libraries and batches are the same: none may"
        limit = "no more than" if self.verdict == "within tolerance" else "more than"
        return f"{count}, {limit} the {self.allowed} that may since {'; '.join(self.why)}"

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "checkpoint": self.checkpoint,
            "column": self.column,
            "images": self.images.tolist(),
            "claimed": int(self.claimed.sum()),
            "found": int(self.found.sum()),
            "differing": self.differing,
            "allowed": self.allowed,
            "verdict": self.verdict,
            "message": self.message,
        }


@dataclass(frozen=True)
class FlagClaim:
    """One flag of a checkpoint, as claimed and as found again from the recorded outcomes and new masking probes."""

    checkpoint: str
    flag: str
    claimed: str
    found: str
    reason: str

    @property
    def verdict(self) -> Verdict:
        """Whether the flag is in the same state."""
        return "equal" if self.claimed == self.found else "different"

    def to_plain(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**vars(self), "verdict": self.verdict}


def differences(claimed: Environment | None, here: Environment, devices: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what may round otherwise here than where a column was measured."""
    if claimed is None:
        return ("the record does not say where it was measured",)
    found = []
    if claimed.device != here.device or len(devices) > 1:
        found.append(f"measured on {', '.join(devices) or claimed.device}, repeated on {here.device}")
    elif here.device == "cpu" and claimed.cpu != here.cpu:
        found.append(f"measured on {claimed.cpu}, repeated on {here.cpu}")
    if here.device == "cpu" and claimed.threads != here.threads:
        found.append(f"measured with {claimed.threads} threads, repeated with {here.threads}")
    for name in NUMERIC_LIBRARIES:
        there, now = claimed.libraries.get(name), here.libraries.get(name)
        if there != now:
            found.append(f"measured with {name} {there}, repeated with {now}")
    if here.device != "cpu":
        found.append("GPUs do not promise the same order of sums")
    return tuple(found)


@dataclass(frozen=True)
class Verifier:
    """A record, and what is needed to repeat it.

    Attributes:
        network: the checkpoint's network, in eval mode on the device.
        split: the test set.
        here: the environment of the repetition.
    """

    record: Record
    protocol: Protocol
    name: Literal["best", "last"]
    network: nn.Module
    split: Split
    here: Environment

    @property
    def checkpoint(self) -> Checkpoint:
        """What the record says of the checkpoint."""
        return self.record.checkpoints[self.name]

    @property
    def probed(self) -> bool:
        """Whether the record's flags rest on masking probes."""
        return any(flag.name == _PROBED and flag.state != "not run" for flag in self.checkpoint.evaluation.flags)

    def images(self, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return test images (n, C, H, W) and labels (n,)."""
        return self.split.take(torch.from_numpy(index))

    def families(self, wanted: Sequence[str]) -> list[str]:
        """Return the wanted families of attacks that the record has in full."""
        columns = self.checkpoint.evaluation.columns
        return [family for family in COLUMNS_OF if family in wanted and all(c in columns for c in COLUMNS_OF[family])]

    def _shard(
        self, family: str, number: int, peers: Mapping[str, nn.Module] | None = None
    ) -> tuple[NDArray[np.int64], ShardResult]:
        """Attack one shard; return the test indices of its images with the result."""
        size = self.protocol.attacks.shard
        index = np.arange(number * size, min((number + 1) * size, len(self.split)))
        x, y = self.images(index)
        return index, evaluate_shard(
            self.network,
            x,
            y,
            first=number * size,
            family=family,
            protocol=self.protocol,
            seed=self.record.seed,
            num_classes=self.record.data.num_classes,
            peers=peers,
        )

    def repeat_shards(
        self, family: str, numbers: Sequence[int], on_shard: Callable[[int], None] = lambda _shard: None
    ) -> list[Claim]:
        """Repeat whole shards of a family, exactly as they were measured."""
        clean = self.checkpoint.evaluation.columns.get("clean")
        indices, found = [], {column: list[Bits]() for column in COLUMNS_OF[family]}
        for number in numbers:
            on_shard(number)
            index, result = self._shard(family, number)
            indices.append(index)
            for column, parts in found.items():
                own = result.columns[column]
                parts.append(own if clean is None or column == "clean" else own & clean.correct[index])
        images = np.concatenate(indices)
        return [self._claim(column, images, np.concatenate(parts), ()) for column, parts in found.items()]

    def repeat_images(self, family: str, images: Sequence[int]) -> list[Claim]:
        """Repeat single images of "clean", "pgd" or "cw", in batches of their own.

        Raises:
            VerificationError: for AutoAttack.
        """
        if family == "autoattack":
            raise VerificationError("AutoAttack draws for whole shards: repeat shards of it, not images")
        index = np.asarray(sorted(images), dtype=np.int64)
        size = self.protocol.attacks.shard
        parts: dict[str, list[Bits]] = {column: [] for column in COLUMNS_OF[family]}
        for start in range(0, len(index), size):
            some = index[start : start + size]
            x, y = self.images(some)
            found = attack_images(self.network, x, y, images=some.tolist(), family=family, protocol=self.protocol)
            for column, right in found.items():
                parts[column].append(right)
        why = ("other images are in the batch",)
        return [self._claim(column, index, np.concatenate(bits), why) for column, bits in parts.items()]

    def repeat_flags(
        self, peers: Mapping[str, nn.Module], on_shard: Callable[[int], None] = lambda _shard: None
    ) -> list[FlagClaim]:
        """Probe the whole test set again and compare every flag that was judged; "not run" claims nothing.

        Args:
            peers: networks whose examples are tried, by the names that the record's evidence has. The flag that needs
                them is left out where others are here than there.
            on_shard: called with the number of each shard.
        """
        parts = []
        for number in range(self.protocol.shards(len(self.split))):
            on_shard(number)
            parts.append(self._shard("examination", number, peers)[1])
        record = self.record
        found = flags.find(
            self.checkpoint.evaluation,
            gather(parts),
            protocol=self.protocol,
            num_classes=self.record.data.num_classes,
            training=flags.TrainingFacts.of(
                self.name,
                self.checkpoint.epoch,
                record.training,
                robust=record.method.robust,
                images=record.data.validation,
            ),
        )
        again = {flag.name: flag for flag in found}
        claims = []
        for flag in self.checkpoint.evaluation.flags:
            now = again.get(flag.name)
            if now is None or flag.state == "not run":
                continue
            if flag.name == _TRANSFER and {*flag.evidence.get("peers", ())} != {*now.evidence.get("peers", ())}:
                continue
            claims.append(FlagClaim(self.name, flag.name, flag.state, now.state, now.reason))
        return claims

    def _claim(self, column: str, images: NDArray[np.int64], found: Bits, why: tuple[str, ...]) -> Claim:
        outcome = self.checkpoint.evaluation.columns[column]
        devices = outcome.settings.get("devices", ())
        why = (*why, *differences(outcome.environment, self.here, devices))
        return Claim(self.name, column, images, outcome.correct[images], found, why)


def check_provenance(record: Record, protocol: Protocol, split: Split, digest: str) -> None:
    """Refuse a record whose protocol or data are not those here.

    Raises:
        VerificationError: one line saying what is other.
    """
    if protocol.digest != record.protocol_digest:
        raise VerificationError(
            f"record {record.run}: its protocol does not have the digest it claims "
            f"({protocol.digest[:12]}, not {record.protocol_digest[:12]}): it was edited"
        )
    if digest != record.data.digest or len(split) != record.data.test:
        raise VerificationError(
            f"record {record.run}: measured on {record.data.source} ({record.data.digest[:12]}, {record.data.test} "
            f"images), here are others ({digest[:12]}, {len(split)}): point $ADVBENCH_DATA at the same"
        )
    for name, found in record.checkpoints.items():
        for column, outcome in found.evaluation.columns.items():
            if outcome.n != record.data.test:
                raise VerificationError(f"record {record.run}: {name} {column} has {outcome.n} outcomes")


def sample(test: int, size: int, images: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw test images without replacement, and as many whole shards as hold about that many images."""
    generator = np.random.default_rng(seed)
    chosen = sorted(generator.choice(test, size=min(images, test), replace=False).tolist())
    shards = -(-test // size)
    count = min(shards, max(1, round(len(chosen) / size)))
    return chosen, sorted(generator.choice(shards, size=count, replace=False).tolist())
