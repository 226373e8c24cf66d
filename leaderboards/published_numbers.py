"""Numbers that papers and repositories published: shown beside ours, marked as such, never mixed into ranks.

One TOML file a method in `published/`, named as the method. Only numbers with a source that was read are here; what is
merely remembered is not. They were measured under other recipes, radii and networks than ours: each row says which.
"""

import tomllib
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Percent = float | None


class PublishedError(ValueError):
    """A file of published numbers that does not fit the schema; one line naming file and key."""


class Published(BaseModel):
    """One published result. Accuracies are in percent, as the source prints them; None where it gives none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: str
    network: str
    eps: str
    source: str
    row: str = ""
    """What the source calls the row, where a file holds several."""
    checkpoint: str = "not stated"
    attack: str = ""
    """What `other` was measured with, in the source's words."""
    clean: Percent = Field(None, ge=0, le=100)
    pgd20: Percent = Field(None, ge=0, le=100)
    other: Percent = Field(None, ge=0, le=100)
    autoattack: Percent = Field(None, ge=0, le=100)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    result: tuple[Published, ...]


def load(method: str) -> tuple[Published, ...]:
    """Return what was published of a method, empty where nothing sourced is known.

    Raises:
        PublishedError: if its file does not fit the schema.
    """
    file = resources.files("advbench.leaderboards") / "published" / f"{method}.toml"
    if not file.is_file():
        return ()
    try:
        return _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).result
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise PublishedError(f"published/{method}.toml: {str(error).splitlines()[0]}") from None
