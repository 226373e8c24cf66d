"""External rows: networks that others trained, attacked here under a protocol; beside boards, never ranked. Torch-free.

One JSON file each below `records/PROTOCOL/external-networks/`. It is made of what `advbench evaluate --out` wrote.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from advbench.benchmark.files import file_sha256, read_json, write_bytes
from advbench.benchmark.protocol import Protocol, explain, published
from advbench.benchmark.records.schema import (
    COLUMNS,
    DataProvenance,
    Environment,
    Evaluation,
    Outcomes,
    Part,
    RecordError,
    Sha256,
)

FOLDER = "external-networks"
"""Folder of these files beside those of the methods, whose names hold no hyphen."""


class Replaced(Part):
    """A file that stood in this one's place: when and why it was replaced, and its sha256."""

    date: date
    reason: str
    old: Sha256


class ExternalRecord(Part):
    """What the attacks of a protocol leave of a network that others trained.

    Attributes:
        label: the row's name.
        source: where the weights were published, with the address.
        licence: under which they may be used.
        note: what a reader must know, such as extra training data.
        network: name of the architecture, or the reference that opened it.
        kind: how the network was opened: an architecture of ours with a state dict, RobustBench's zoo, or a program.
        sha256: of the file of weights or program.
        replaced: the files that stood here before, oldest first.
    """

    schema_version: Literal[1] = 1
    label: str = Field(min_length=1, max_length=80)
    source: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    note: str = ""
    network: str
    kind: Literal["weights", "zoo", "exported", "scripted"]
    sha256: Sha256
    created: str
    protocol: Protocol
    protocol_name: str
    protocol_digest: Sha256
    data: DataProvenance
    environment: Environment
    evaluation: Evaluation
    replaced: tuple[Replaced, ...] = ()

    @field_validator("label", "source", "licence", "note")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if text != " ".join(text.split()):
            raise ValueError("write it in one line")
        return text

    @model_validator(mode="after")
    def _digest(self) -> Self:
        if (self.protocol.name, self.protocol.digest) != (self.protocol_name, self.protocol_digest):
            raise ValueError("the protocol does not have the name and digest that are claimed")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            RecordError: if it cannot be read or fails the schema; one line naming file and key.
        """
        try:
            return cls.model_validate(read_json(path, RecordError))
        except ValidationError as error:
            raise RecordError(f"{path}: not an external row: {explain(error, 'record', 1)}") from None

    def dumps(self) -> str:
        """Serialise as stable, readable JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def files(folder: Path) -> list[Path]:
    """Return the files of external rows below a folder of records, in order of their paths."""
    return sorted(folder.rglob(f"{FOLDER}/*.json"))


def load(folder: Path) -> tuple[ExternalRecord, ...]:
    """Read the external rows below a folder of records.

    Raises:
        RecordError: if one cannot be read; a board that left it out would not say so.
    """
    return tuple(map(ExternalRecord.load, files(folder)))


def read_evaluation(path: Path, protocol: Protocol | None = None, **about: str) -> ExternalRecord:
    """Make an external row of a document that `advbench evaluate NETWORK --protocol NAME --out FILE` wrote.

    Args:
        path: the document.
        protocol: under which it was made; by default the published one that it names.
        about: label, source, licence and note.

    Raises:
        RecordError: unless it holds every column on every test image, under the protocol's own threat, of a network
            with a sha256; one line.
    """
    plain = read_json(path, RecordError)
    if not isinstance(plain, Mapping) or plain.get("kind") != "evaluation off the board":
        raise RecordError(f"{path}: not what `advbench evaluate NETWORK --protocol NAME --out FILE` writes")
    try:
        under = protocol or published()[plain["protocol"]]
        if under.digest != plain["protocol_digest"]:
            raise RecordError(f"{path}: made under another protocol than {under.name}; name it with --protocol")
        (threat,) = plain["threats"]
        _require_whole(plain, threat, under, path)
        predicted = np.bincount(threat["predictions"], minlength=plain["data"]["num_classes"]).tolist()
        origin = plain["network"]
        columns = {name: _outcomes(column) for name, column in threat["columns"].items()}
        return ExternalRecord.model_validate(
            {
                **about,
                "network": origin["architecture"] or origin["reference"],
                "kind": origin["kind"],
                "sha256": origin["sha256"],
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "protocol": under.canonical(),
                "protocol_name": under.name,
                "protocol_digest": under.digest,
                "data": plain["data"],
                "environment": plain["environment"],
                "evaluation": {"columns": columns, "predicted_classes": predicted, "flags": threat["flags"]},
            }
        )
    except ValidationError as error:
        raise RecordError(f"{path}: no external row can be made of it: {explain(error, 'record', 1)}") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path}: not a whole evaluation ({type(error).__name__}: {error})") from None


def _require_whole(plain: Mapping[str, Any], threat: Mapping[str, Any], protocol: Protocol, path: Path) -> None:
    own = (protocol.threat.norm, str(protocol.threat.eps), 0)
    missing = [name for name in COLUMNS if name not in threat["columns"]]
    if (threat["norm"], threat["eps"], threat["eot"]) != own:
        raise RecordError(f"{path}: attacked under another threat than {protocol.name}'s, eps {protocol.threat.eps}")
    if plain["subset"] or plain["images"] != plain["test"]:
        raise RecordError(f"{path}: {plain['images']} of {plain['test']} test images; leave out --subset")
    if missing:
        raise RecordError(f"{path}: not measured: {', '.join(missing)}; leave out --attacks")
    if plain["network"]["kind"] == "run":
        raise RecordError(f"{path}: a run of the store is no external network; `advbench publish RUN` publishes it")
    if plain["network"]["sha256"] is None:
        raise RecordError(f"{path}: its weights have no sha256; evaluate one file of weights or one program")


def _outcomes(column: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in column.items() if key in Outcomes.model_fields}


def publish(row: ExternalRecord, root: Path, *, reason: str | None = None, day: date | None = None) -> Path | None:
    """Write an external row below `root`; return its path, or None where the same stands there already.

    Args:
        row: what to publish.
        root: such as `leaderboards/records`.
        reason: why a row of this label that says something else is replaced; None where it must not be.
        day: of the replacement; today in UTC by default.

    Raises:
        RecordError: if another row has this label and there is no reason to replace it.
    """
    name = re.sub(r"[^a-z0-9.]+", "-", row.label.lower()).strip("-.") or "network"
    path = root / row.protocol_name.replace("/", "-") / FOLDER / f"{name}.json"
    if path.exists():
        old = ExternalRecord.load(path)
        if old.model_copy(update={"created": row.created, "replaced": ()}) == row:
            return None
        if not reason or not reason.strip():
            raise RecordError(f"{path}: another row stands there; another --label, or --replace --reason")
        entry = Replaced(date=day or datetime.now(UTC).date(), reason=" ".join(reason.split()), old=file_sha256(path))
        row = row.model_copy(update={"replaced": (*old.replaced, entry)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, row.dumps().encode())
    return path
