"""Export a row to RobustBench (Croce et al. 2021, https://arxiv.org/abs/2010.09670): claim, checkpoint, zoo entry.

What their README asks of a new model, in their layout:

    model_info/<dataset>/Linf/<name>.json  the claim, keys and strings as their files have them
    models/<dataset>/Linf/<name>.pt        the state dict, where their `load_model` looks for it
    <name>.py                              the entry for their model zoo, with a class where theirs lack ours

Accuracies are the record's. A row that the board would not rank is refused unless it is forced; the reasons are then
written into the footnote.
"""

import inspect
import io
import json
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from advbench.benchmark.files import file_sha256, write_bytes
from advbench.benchmark.models import networks
from advbench.benchmark.records.flags import ABOUT, raised
from advbench.benchmark.records.schema import Evaluation, Record

THREAT = "Linf"
CheckpointName = Literal["best", "last"]


class ExportError(ValueError):
    """A row that cannot be exported; the message is one line."""


@dataclass(frozen=True)
class Leaderboard:
    """A leaderboard of RobustBench: radius, size of the test set, shape of images, classes."""

    eps: Fraction
    test: int
    side: int
    classes: int


LEADERBOARDS = {
    "cifar10": Leaderboard(Fraction(8, 255), 10_000, 32, 10),
    "cifar100": Leaderboard(Fraction(8, 255), 10_000, 32, 100),
    "imagenet": Leaderboard(Fraction(4, 255), 50_000, 224, 1000),
}
"""Their data sets, with the radius of their L∞ leaderboards. Of ImageNet they judge 5,000 of the 50,000 images."""


@dataclass(frozen=True)
class Architecture:
    """An architecture of ours as RobustBench names and builds it.

    Attributes:
        title: as their tables have it; suffix: as their model names have it.
        head: first lines of the entry; build: the expression that makes the network, of `classes`.
        parts: definitions of ours that the entry brings along, where RobustBench lacks the architecture.
    """

    title: str
    suffix: str
    head: tuple[str, ...]
    build: str
    parts: tuple[Any, ...] = ()


_RESNET = "from robustbench.model_zoo.architectures.resnet import"
_SWISH = "from robustbench.model_zoo.architectures.dm_wide_resnet import Swish,"
_SWISH_OPTIONS = "activation_fn=Swish, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)"


def _wide(depth: int, factor: int) -> Architecture:
    head = ("from robustbench.model_zoo.architectures.wide_resnet import WideResNet",)
    build = f"WideResNet(depth={depth}, widen_factor={factor}, num_classes={{classes}})"
    return Architecture(f"WideResNet-{depth}-{factor}", f"WRN-{depth}-{factor}", head, build)


def _swish_wide(depth: int, factor: int) -> Architecture:
    build = f"DMWideResNet(num_classes={{classes}}, depth={depth}, width={factor}, {_SWISH_OPTIONS})"
    names = (f"WideResNet-{depth}-{factor} (Swish)", f"WRN-{depth}-{factor}-swish")
    return Architecture(*names, (f"{_SWISH} DMWideResNet",), build)


ARCHITECTURES = {
    "preactresnet18": Architecture(
        "PreActResNet-18",
        "PRN18",
        (f"{_RESNET} PreActBlockV2, PreActResNet",),
        "PreActResNet(PreActBlockV2, [2, 2, 2, 2], num_classes={classes}, bn_before_fc=True)",
    ),
    "resnet18": Architecture(
        "ResNet-18",
        "RN18",
        (f"{_RESNET} BasicBlock, ResNet",),
        "ResNet(BasicBlock, [2, 2, 2, 2], num_classes={classes})",
    ),
    "wrn28-10": _wide(28, 10),
    "wrn34-10": _wide(34, 10),
    "wrn34-20": _wide(34, 20),
    "wrn70-16": _wide(70, 16),
    "wrn28-10-swish": _swish_wide(28, 10),
    "wrn70-16-swish": _swish_wide(70, 16),
    "preactresnet18-swish": Architecture(
        "PreActResNet-18 (Swish)",
        "PRN18-swish",
        (f"{_SWISH} DMPreActResNet",),
        f"DMPreActResNet(num_classes={{classes}}, {_SWISH_OPTIONS})",
    ),
    # Of ImageNet their loader puts "model." before every name, which the normalisation of other entries makes right.
    "resnet50": Architecture(
        "ResNet-50",
        "RN50",
        ("from collections import OrderedDict", "", "from torch import nn", "from torchvision import models"),
        "nn.Sequential(OrderedDict(model=models.resnet50(num_classes={classes})))",
    ),
    "smallcnn": Architecture(
        "SmallCNN",
        "SmallCNN",
        (
            "from functools import partial",
            "",
            "import torch.nn.functional as F",
            "from torch import Tensor, nn",
            "",
            "conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)",
        ),
        "SmallCNN(num_classes={classes}, channels=3)",
        (networks.pool, networks.Classifier, networks.SmallCNN),
    ),
}


def leaderboard(record: Record, checkpoint: CheckpointName) -> Leaderboard:
    """Return the leaderboard that a checkpoint of a record belongs to.

    Raises:
        ExportError: if there is none, or the numbers that it shows were not measured.
    """
    if record.data.name not in LEADERBOARDS:
        names = ", ".join(LEADERBOARDS)
        raise ExportError(f"run {record.run}: RobustBench has {names}; {record.data.name} cannot be exported")
    if record.network not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise ExportError(f"run {record.run}: no zoo entry for {record.network}; there are {names}")
    board = LEADERBOARDS[record.data.name]
    if record.data.num_classes != board.classes:
        raise ExportError(f"run {record.run}: {record.data.num_classes} classes, RobustBench has {board.classes}")
    if checkpoint not in record.checkpoints:
        raise ExportError(f"run {record.run}: it has no {checkpoint} checkpoint")
    missing = [
        name for name in ("clean", "autoattack") if name not in record.checkpoints[checkpoint].evaluation.columns
    ]
    if missing:
        message = f"{missing[0]} of {checkpoint} was not measured; `advbench evaluate {record.run[:8]}` goes on"
        raise ExportError(f"run {record.run}: {message}")
    return board


def objections(record: Record, checkpoint: CheckpointName) -> tuple[str, ...]:
    """Return why a row should not be put on RobustBench's leaderboard; empty if nothing stands against it.

    Raises:
        ExportError: if it cannot be exported at all.
    """
    board, evaluation = leaderboard(record, checkpoint), record.checkpoints[checkpoint].evaluation
    found = []
    for flag in raised(evaluation.flags):
        reason = f" ({flag.reason})" if flag.reason else ""
        found.append(f"flag {flag.name}: {ABOUT[flag.name].sign}{reason}" if flag.name in ABOUT else flag.name)
    eps = record.protocol.threat.eps
    if record.protocol.threat.norm != "linf":
        found.append(f"trained and attacked under {record.protocol.threat.text}, the leaderboard is of L∞")
    elif eps != board.eps:
        found.append(f"trained and attacked at eps {eps}, the leaderboard is of {board.eps}")
    if record.data.test != board.test or not _whole(record, evaluation):
        found.append(f"attacked on {record.data.test} test images, there are {board.test}")
    if record.division == "open":
        found.append("open division: not made under a published protocol, or with extra data")
    elif not record.official:
        found.append(f"its protocol, {record.protocol_name}, is not a published one")
    if not record.data.verified:
        found.append(f"the data ({record.data.source}) have no known checksums")
    return tuple(found)


def admit(record: Record, checkpoint: CheckpointName, *, force: bool = False) -> tuple[str, ...]:
    """Return the objections that are overridden.

    Raises:
        ExportError: if there are objections and the export is not forced, or if it cannot be exported at all.
    """
    against = objections(record, checkpoint)
    if against and not force:
        raise ExportError(f"run {record.run}: {'; '.join(against)}; --force exports it and says so in the footnote")
    return against


def _whole(record: Record, evaluation: Evaluation) -> bool:
    return all(outcomes.n == record.data.test for outcomes in evaluation.columns.values())


def authors(bibtex: str) -> str:
    """Return "First Last, First Last" of BibTeX's "Last, First and Last, First"."""
    names = []
    for author in bibtex.split(" and "):
        last, _, first = author.strip().partition(", ")
        names.append(f"{first} {last}".strip())
    return ", ".join(names)


def zoo_name(record: Record) -> str:
    """Return a name by their habit, "Zhang2019Theoretically_PRN18": author, year, first word of the title, network."""
    family = record.method.authors.split(" and ")[0].partition(",")[0]
    title = record.method.title.removeprefix("The ").removeprefix("A ").removeprefix("An ")
    parts = [_letters(family), str(record.method.year), _letters(re.split(r"[\s:]", title)[0]).capitalize()]
    return f"{''.join(parts)}_{ARCHITECTURES[record.network].suffix}"


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]", "", plain)


def model_info(
    record: Record, checkpoint: CheckpointName, *, additional_data: bool = False, against: tuple[str, ...] = ()
) -> dict[str, str | int | bool]:
    """Return the claim with the keys of their `model_info` files; accuracies are strings in per cent, as theirs.

    Args:
        record: where all numbers are from.
        checkpoint: which of its networks.
        additional_data: whether data beside the protocol's were used.
        against: objections that are overridden; they end up in the footnote.

    Raises:
        ExportError: if it cannot be exported.
    """
    leaderboard(record, checkpoint)
    evaluation = record.checkpoints[checkpoint].evaluation
    clean, robust = (f"{100 * (evaluation.accuracy(column) or 0.0):.2f}" for column in ("clean", "autoattack"))
    footnote = (
        f"{record.method.row}, trained and attacked with advbench under its protocol {record.protocol_name} "
        f"(sha256 {record.protocol_digest[:12]}), seed {record.seed}, {checkpoint} checkpoint, run {record.run}."
    )
    if against:
        footnote += f" To be read with care: {'; '.join(against)}."
    return {
        "link": record.method.url,
        "name": record.method.title,
        "authors": authors(record.method.authors),
        "additional_data": additional_data,
        "number_forward_passes": 1,
        "dataset": record.data.name,
        "venue": f"{record.method.venue} {record.method.year}",
        "architecture": ARCHITECTURES[record.network].title,
        "eps": str(record.protocol.threat.eps),
        "clean_acc": clean,
        "reported": robust,
        "autoattack_acc": robust,
        "footnote": footnote,
        "unreliable": bool(raised(evaluation.flags, "masking")),
    }


def zoo_entry(record: Record, name: str, digest: str) -> str:
    """Return a Python file that defines ENTRY, a pair for the dictionary `linf` of their zoo's file for the data set.

    Args:
        record: whose network it is.
        name: of the model.
        digest: sha256 of the .pt file.
    """
    made = ARCHITECTURES[record.network]
    data = record.data.name
    lines = [
        f'"""Entry of {name} in `linf` of robustbench/model_zoo/{data}.py.',
        "",
        f"Upload models/{data}/{THREAT}/{name}.pt (sha256 {digest})",
        "and give its Google Drive id as gdrive_id; with the file in place nothing is downloaded.",
        '"""',
        "",
        *made.head,
        *(line for part in made.parts for line in ("", "", inspect.getsource(part).rstrip())),
        *([""] if made.parts else []),
        "",
        "ENTRY = (",
        f'    "{name}",',
        "    {",
        f'        "model": lambda: {made.build.format(classes=record.data.num_classes)},',
        '        "gdrive_id": "",',
        *(['        "preprocessing": "Res256Crop224",'] if data == "imagenet" else []),
        "    },",
        ")",
        "",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Exported:
    """The files of an export."""

    name: str
    dataset: str
    claim: Path
    weights: Path
    entry: Path


def export(
    record: Record,
    checkpoint: CheckpointName,
    network: nn.Module,
    folder: Path,
    *,
    name: str = "",
    additional_data: bool = False,
    against: tuple[str, ...] = (),
) -> Exported:
    """Write claim, checkpoint and zoo entry of a row.

    Args:
        record: where every number is from.
        checkpoint: which of its networks.
        network: that network.
        folder: where the files go.
        name: of the model; empty: by their habit.
        additional_data: whether data beside the protocol's were used.
        against: what `admit` returned; the footnote names it.

    Raises:
        ExportError: if it cannot be exported, or under no such name.
    """
    leaderboard(record, checkpoint)
    name = name or zoo_name(record)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ExportError(f"{name!r} cannot name a model: letters, digits, _ and - only")
    claim = model_info(record, checkpoint, additional_data=additional_data, against=against)
    data = record.data.name
    exported = Exported(
        name,
        data,
        folder / "model_info" / data / THREAT / f"{name}.json",
        folder / "models" / data / THREAT / f"{name}.pt",
        folder / f"{name}.py",
    )
    for path in (exported.claim, exported.weights):
        path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    packed = io.BytesIO()
    torch.save(state, packed)
    write_bytes(exported.weights, packed.getvalue())
    write_bytes(exported.claim, (json.dumps(claim, indent=2) + "\n").encode())
    write_bytes(exported.entry, zoo_entry(record, name, file_sha256(exported.weights)).encode())
    return exported
