"""Recipes: what of a protocol's training a run replaces, and what tuning may spend. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

_KEPT: Any = Field(exclude_if=lambda value: value is None)
"""Annotation of a setting that is left out of the JSON where the protocol's is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Training settings in place of a protocol's own; None keeps the protocol's.

    Attributes:
        lr: peak learning rate.
        weight_decay: of every parameter.
        epochs: length of training.
        drops: zero-based epochs at whose start the rate is divided by 10, in place of the protocol's schedule.
        augment: how training images are augmented, as protocols name it.
        pad: pixels of padding before the crop.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)
    lr: Annotated[float | None, _KEPT] = None
    weight_decay: Annotated[float | None, _KEPT] = None
    epochs: Annotated[int | None, _KEPT] = None
    drops: Annotated[tuple[int, ...] | None, _KEPT] = None
    augment: Annotated[str | None, _KEPT] = None
    pad: Annotated[int | None, _KEPT] = None

    def plain(self) -> dict[str, Any]:
        """Return the settings that are given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        """The recipe in words: "lr 0.01, weight decay 0.0035, 120 epochs"."""
        words = {
            "lr": "lr {:g}",
            "weight_decay": "weight decay {:g}",
            "epochs": "{} epochs",
            "augment": "{}",
            "pad": "padding {}",
        }
        text = {name: words[name].format(value) for name, value in self.plain().items() if name in words}
        if self.drops is not None:
            text["drops"] = f"rate / 10 at {', '.join(map(str, self.drops))}" if self.drops else "constant rate"
        return ", ".join(text.values())


@dataclass(frozen=True, slots=True)
class Budget:
    """What tuning may spend: how many settings, the default among them, each trained with how many tuning seeds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    settings: Annotated[int, Field(ge=2)]
    seeds: Annotated[int, Field(ge=1)] = 1


def in_words(hyperparameters: Mapping[str, object], recipe: Recipe | None) -> str:
    """Return what differs from a method's defaults and the protocol's training: "beta=3.0, lr 0.05", or "default"."""
    words = [f"{key}={value}" for key, value in sorted(hyperparameters.items())]
    return ", ".join([*words, *([str(recipe)] if recipe else [])]) or "default"
