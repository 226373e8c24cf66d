"""A factory of synthetic but valid records: made-up outcomes with the structure of real ones, never results."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from advbench.benchmark.protocol import Protocol, resolve
from advbench.benchmark.records.schema import (
    COLUMNS,
    Checkpoint,
    DataProvenance,
    Divergence,
    Environment,
    Epoch,
    Evaluation,
    Flag,
    MethodIdentity,
    Outcomes,
    Passes,
    Record,
    Teacher,
    TrainingRecord,
)

METHODS = {
    # name: (label, key, family, clean, pgd20 best, pgd20 last, autoattack below pgd20)
    "standard": ("Standard", "standard", "standard", 0.98, 0.02, 0.01, 0.02),
    "pgd_at": ("PGD-AT", "madry2018towards", "adversarial training", 0.84, 0.55, 0.46, 0.06),
    "trades": ("TRADES", "zhang2019theoretically", "regularised", 0.82, 0.62, 0.56, 0.04),
    "mart": ("MART", "wang2020improving", "regularised", 0.79, 0.60, 0.53, 0.08),
    "sglr": ("SGLR", "sglr2024", "label refinement", 0.85, 0.61, 0.60, 0.05),
    "act": ("ACT", "arani2020adversarial", "two networks", 0.86, 0.54, 0.52, 0.05),
}
CPU = Environment(
    advbench="0.1.0",
    commit="0" * 40,
    python="3.11.7",
    libraries={"torch": "2.9.1", "numpy": "2.0.0"},
    device="cpu",
    cpu="Synthetic CPU",
    threads=1,
    precision="fp32",
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def nested(
    rng: np.random.Generator, easiness: np.ndarray, shares: dict[str, float], spread: float
) -> dict[str, Outcomes]:
    """Outcomes in which the easiest images survive: a column's survivors are a subset of a weaker column's."""
    order = np.argsort(-(easiness + spread * rng.standard_normal(len(easiness))))
    found = {}
    for column, share in shares.items():
        correct = np.zeros(len(easiness), dtype=bool)
        correct[order[: round(share * len(easiness))]] = True
        found[column] = Outcomes.pack(correct)
    return found


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """`make_record("trades", seed=0, ...)`: see the signature of `make` for what can be changed."""

    def make(
        name: str = "pgd_at",
        *,
        seed: int = 0,
        protocol: Protocol | str = "digits-linf-full/1",
        images: int | None = None,
        without: tuple[str, ...] = (),
        checkpoints: tuple[str, ...] = ("best", "last"),
        flags: tuple[Flag, ...] = (),
        shift: float = 0.0,
        shares: dict[str, float] | None = None,
        diverged: bool = False,
        verified: bool = True,
        data_digest: str = "data",
        hyperparameters: dict[str, Any] | None = None,
        changed: dict[str, Any] | None = None,
        device: str = "cpu",
        teachers: bool = False,
        classes: int = 10,
        **identity: Any,
    ) -> Record:
        protocol = resolve(protocol) if isinstance(protocol, str) else protocol
        n = images or protocol.data.test or 2000
        label, key, family, clean, best, last, below = METHODS.get(
            name, (name, name, "regularised", 0.8, 0.5, 0.45, 0.05)
        )
        easiness = np.random.default_rng(0).standard_normal(n)
        rng = np.random.default_rng([seed, *name.encode()])
        jitter = shift + 0.006 * rng.standard_normal()
        robust = name != "standard"
        found = {}
        for checkpoint, pgd20 in (("best", best), ("last", last)):
            if checkpoint not in checkpoints:
                continue
            floor = max(0.0, pgd20 - below + jitter)
            accuracies = {
                "clean": clean + jitter / 2,
                "pgd20": max(0.0, pgd20 + jitter),
                "pgd100": max(0.0, pgd20 + jitter - 0.005),
                "cw": max(0.0, floor + 0.01),
                "autoattack": floor,
            } | (shares or {})
            columns = nested(rng, easiness, accuracies, 0.5)
            found[checkpoint] = Checkpoint(
                epoch=10 if checkpoint == "best" else protocol.training.epochs - 1,
                sha256=sha(f"{name}{seed}{checkpoint}"),
                evaluation=Evaluation(
                    columns={column: columns[column] for column in COLUMNS if column not in without},
                    predicted_classes=(n // classes,) * classes,
                    flags=flags,
                ),
            )
        epochs = protocol.training.epochs
        curve = tuple(
            Epoch(
                epoch=epoch,
                lr=0.1,
                loss=2.0 * 0.9**epoch,
                clean=clean * (1 - 0.7 * 0.6**epoch) + jitter,
                robust=max(
                    0.0,
                    jitter + best * (1 - 0.8 * 0.6**epoch) - (best - last) * max(0, epoch - epochs / 2) / (epochs / 2),
                ),
                seconds=1.0,
                images_per_second=1000.0,
                peak_memory_bytes=2**28,
                passes=Passes(forward=100),
                logged={"train_clean": 0.9, "train_robust": 0.6},
            )
            for epoch in range(epochs)
        )
        changed = changed or {}
        run = sha(f"{protocol.digest}{name}{hyperparameters}{changed}{seed}")[:16]
        described = {
            "name": name,
            "label": label,
            "hyperparameters": {"beta": 6.0} | (hyperparameters or {}) | changed,
            "changed": changed,
            "family": family,
            "title": f"A made-up paper on {label}: 100% robust & tested",
            "authors": "Ada Example and Émile Exämple",
            "venue": "ICML",
            "year": 2024,
            "url": "https://example.org/paper_1",
            "key": key,
            "robust": robust,
        } | identity
        return Record(
            run=run,
            created="2025-01-01T00:00:00Z",
            protocol=protocol.canonical(),
            protocol_name=protocol.name,
            protocol_digest=protocol.digest,
            official=protocol.official,
            network=protocol.network,
            method=MethodIdentity(**described),
            seed=seed,
            data=DataProvenance(
                name=protocol.data.name,
                source="synthetic",
                verified=verified,
                digest=sha(data_digest),
                train=1197,
                validation=240,
                test=n,
                split_sha256=sha("split"),
                num_classes=classes,
            ),
            training=TrainingRecord(
                environment=CPU.model_copy(update={"device": device}),
                epochs=epochs,
                seconds=90.0 + len(name) + seed,
                peak_memory_bytes=300 * 2**20,
                passes=Passes(forward=12_000, input_gradient=10_000, weight_gradient=1_000),
                images=1_000,
                parameters_deployed=14_762,
                parameters_trained=14_762 * (2 if family == "two networks" else 1),
                selection="validation-pgd" if robust else "validation-clean",
                best_epoch=10,
                teachers={"robust": Teacher(method="pgd_at", run="f" * 16, sha256=sha("t"), seconds=36.0)}
                if teachers
                else {},
                curve=curve,
                diverged=Divergence(epoch=3, step=17, last_good_epoch=2) if diverged else None,
            ),
            checkpoints={} if diverged else found,
        )

    return make


@pytest.fixture(scope="session")
def board_records(make_record: Callable[..., Record]) -> list[Record]:
    """Six methods and one variant with three seeds each, all sound."""
    records = [make_record(name, seed=seed) for name in METHODS for seed in (0, 1, 2)]
    return records + [make_record("trades", seed=seed, changed={"beta": 3.0}, shift=-0.03) for seed in (0, 1, 2)]


@pytest.fixture(scope="session")
def same_picture() -> Callable[[Path, str], None]:
    """`same_picture(path, "cost")`: a PNG is cost.png here, within a tolerance.

    A lost Pareto front exceeds it (0.6); other versions of matplotlib lay out otherwise and may differ more.
    `ADVBENCH_UPDATE_GOLDEN=1` writes the pictures anew; look at them before committing.
    """

    def compare(path: Path, name: str) -> None:
        with Image.open(path) as picture:
            size = (picture.width // 3, picture.height // 3)
            small = picture.convert("L").resize(size, Image.Resampling.BOX)
        golden = Path(__file__).parent / f"{name}.png"
        if os.environ.get("ADVBENCH_UPDATE_GOLDEN"):
            version = PngInfo()
            version.add_text("matplotlib", mpl.__version__)
            small.quantize(16).save(golden, optimize=True, pnginfo=version)
        with Image.open(golden) as expected:
            assert abs(small.width / small.height - expected.width / expected.height) < 0.05
            tolerance = 0.15 if expected.info["matplotlib"] == mpl.__version__ else 4.0
            both = (small.quantize(16).convert("L"), expected.convert("L"))
            pair = [np.asarray(one.resize((100, 100), Image.Resampling.BOX), dtype=float) for one in both]
        assert np.abs(pair[0] - pair[1]).mean() < tolerance

    return compare
