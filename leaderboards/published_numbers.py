"""Numbers that papers and repositories published: shown beside ours, marked as such, never mixed into ranks.

One TOML file a method in `published/`, named as the method. Only numbers with a source that was read are here; what is
merely remembered is not. They were measured under other recipes, radii and networks than ours: each row says which.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.protocol_parts import exact
from advbench.benchmark.records.schema import MethodIdentity
from advbench.leaderboards.bibtex import citable
from advbench.leaderboards.table import ELSEWHERE, Cell, Note, Quoted, Table
from advbench.leaderboards.writers.escaping import display

Percent = float | None
QUOTED = ("clean", "pgd20", "autoattack")
"""What a source may give of the columns of a board; another attack is told in words."""


class PublishedError(ValueError):
    """A file of published numbers that does not fit the schema; one line naming file and key."""


class Published(BaseModel):
    """One published result. Accuracies are in percent, as the source prints them; None where it gives none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: str
    network: str
    norm: Literal["linf", "l2"] = "linf"
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

    @field_validator("eps")
    @classmethod
    def _number(cls, eps: str) -> str:
        exact(eps)
        return eps


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


def load_all() -> dict[str, tuple[Published, ...]]:
    """Return what was published of every method, by name.

    Raises:
        PublishedError: if a file does not fit the schema.
    """
    folder = resources.files("advbench.leaderboards") / "published"
    names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
    return {name: load(name) for name in names}


def matches(one: Published, protocol: Protocol) -> bool:
    """Whether a number was measured on a protocol's data set and network under its threat."""
    return same_name(protocol.network, one.network) and same_threat(one, protocol)


def same_threat(one: Published, protocol: Protocol) -> bool:
    """Whether a number was measured on a protocol's data set at its very radius: 0.031 is not 8/255."""
    threat = protocol.threat
    return same_name(protocol.data.name, one.dataset) and (one.norm, exact(one.eps)) == (threat.norm, threat.eps)


def beside(
    table: Table,
    protocol: Protocol,
    *,
    methods: Iterable[MethodIdentity] = (),
    numbers: Mapping[str, Iterable[Published]] | None = None,
) -> Table:
    """Return a board with the published numbers that match its data set, network and threat, in `Table.published`.

    They are in the order of methods' names and of their files: the order says nothing. Ranks, comparisons and rows are
    left alone.

    Args:
        table: the board, before it is narrowed by `select`.
        protocol: that of the board.
        methods: who the methods are, for family and citation, where no record of the board says so.
        numbers: published numbers by method; those of this package by default.

    Raises:
        PublishedError: if a file of numbers does not fit the schema.
    """
    known = {identity.name: identity for identity in methods}
    known |= {row.identity.name: row.identity for row in table.rows}
    found = tuple(
        _quote(method, one, known.get(method))
        for method, several in (load_all() if numbers is None else numbers).items()
        for one in several
        if matches(one, protocol)
    )
    if not found:
        text = "No published number known here matches data set, network and radius of this protocol."
        return replace(table, notes=(*table.notes, Note(text)))
    text = (
        f"{ELSEWHERE}: under the sources' own recipes, attacks' settings and checkpoints; neither ranked nor averaged, "
        "and no test compares them with the rows above."
    )
    brief = f"{ELSEWHERE}: under other recipes; not ranked."
    return replace(table, published=found, notes=(*table.notes, Note(text, brief)))


def _quote(method: str, one: Published, identity: MethodIdentity | None) -> Quoted:
    label = one.row or (identity.label if identity else method)
    values = {key: value for key in QUOTED if (value := getattr(one, key)) is not None}
    # TOML keeps no trailing zeros: a source prints all of a row's numbers with the same number of decimals.
    printed = [*values.values(), *([] if one.other is None else [one.other])]
    places = max((len(repr(value).partition(".")[2].rstrip("0")) for value in printed), default=0)
    cells = {key: Cell(values=(value,), expected=1) for key, value in values.items()}
    return Quoted(
        method=method,
        label=label,
        checkpoint=one.checkpoint,
        family=identity.family if identity else "",
        key=identity.key if identity and citable(identity) else "",
        source=one.source,
        cells={"method": Cell(text=label), "checkpoint": Cell(text=one.checkpoint), **cells},
        other="" if one.other is None else f"{one.other:.{places}f} under {one.attack}",
        decimals=places,
    )


def same_name(ours: str, theirs: str) -> bool:
    """Compare a paper's name with a protocol's: "PreActResNet-18" and "preactresnet18"."""
    plain = {re.sub(r"[^a-z0-9]", "", name.casefold()) for name in (theirs, display(theirs))}
    return re.sub(r"[^a-z0-9]", "", ours.casefold()) in plain
