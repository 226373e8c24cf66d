"""Bundles: what a submission hands over, one zip of records, shards, weights and sources. Torch-free; runs nothing.

    bundle.json                               format, declaration, sha256 of every other file
    records/<protocol>/<variant>/seed<n>.json the records, as boards read them
    runs/<protocol>/<run folder>/…            what the records were built from: run.json, training.json, evaluation/
    runs/…/best.safetensors, last.safetensors on request
    methods/<file>.py                         the adapter's source

A record is rebuilt from its shards and compared, so numbers cannot be edited in one place.
"""

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from advbench.benchmark.files import MOST_JSON, MOST_TOML, file_sha256, read_json, write_bytes
from advbench.benchmark.records.publish import destination
from advbench.benchmark.records.schema import CHECKPOINTS, Record, RecordError
from advbench.benchmark.records.tuning import FILE as TUNING
from advbench.benchmark.review.adapter import source_rules
from advbench.benchmark.review.consistency import differing, name, validate
from advbench.benchmark.review.finding import Finding
from advbench.benchmark.runs.build_record import build_record
from advbench.benchmark.runs.run_folder import RunFolder, StoreError, Trained
from advbench.benchmark.runs.store import FOLDER_NAME

MANIFEST, FORMAT = "bundle.json", 1
MOST_BYTES, MOST_FILES = 16 * 2**30, 20_000
LARGEST = {".json": MOST_JSON, ".jsonl": 2**28, ".safetensors": 2**31, ".py": MOST_TOML, ".toml": MOST_TOML}
"""The kinds of file in a bundle, and how many bytes one of each may have."""
NONE = "none"
"""What is declared where no data but the protocol's were used."""


class BundleError(ValueError):
    """A bundle that cannot be made or opened; the message is one line that names the reason."""


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle that holds what its manifest says."""

    folder: Path
    extra_data: str
    records: tuple[Record, ...]
    sources: tuple[Path, ...]

    def run(self, record: Record) -> RunFolder | None:
        """Return the run that a record was built from, if it is there."""
        for path in sorted((self.folder / "runs").glob(f"*/*-{record.run}")):
            if FOLDER_NAME.fullmatch(path.name):
                return _Submitted(path, record.run)
        return None


class _Submitted(RunFolder):
    """A run folder whose weights may have stayed at home."""

    def trained(self) -> Trained | None:
        """Return what training said it left."""
        return self.training_json()


def submit(
    folders: Iterable[RunFolder],
    path: Path,
    *,
    sources: Iterable[Path] = (),
    extra_data: str = NONE,
    open_division: bool = False,
    weights: bool = False,
) -> tuple[Record, ...]:
    """Write a bundle of finished runs; return their records.

    Args:
        folders: finished runs of a store.
        path: the zip to write.
        sources: the adapters' files.
        extra_data: data beside the protocol's, in words; "none" if there were none.
        open_division: whether the records are for the open division: own protocol, or extra data.
        weights: whether the checkpoints go along (else their digests alone).

    Raises:
        BundleError: for a run without a whole record.
    """
    records: list[Record] = []
    files: dict[str, bytes] = {}
    for folder in folders:
        record = folder.record()
        if record is None:
            raise BundleError(f"{folder.path}: no whole record; `advbench evaluate {folder.id[:8]}` makes it")
        record = record.model_copy(update={"division": "open"} if open_division else {})
        records.append(record)
        files[destination(record, Path("records")).as_posix()] = record.dumps().encode()
        place = f"runs/{folder.path.parent.name}/{folder.path.name}"
        for part in _parts(folder, weights=weights):
            files[f"{place}/{part.relative_to(folder.path).as_posix()}"] = part.read_bytes()
    files |= {f"methods/{file.name}": file.read_bytes() for file in sources}
    manifest = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "extra_data": extra_data,
        "files": {place: hashlib.sha256(raw).hexdigest() for place, raw in sorted(files.items())},
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
        for place, raw in sorted(files.items()):
            archive.writestr(place, raw)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, packed.getvalue())
    return tuple(records)


def _parts(folder: RunFolder, *, weights: bool) -> Iterator[Path]:
    yield folder.path / "run.json"
    yield folder.path / "training.json"
    if (folder.path / TUNING).exists():
        yield folder.path / TUNING
    yield from sorted((folder.path / "evaluation").rglob("*.jsonl"))
    if weights:
        yield from (file for file in map(folder.weights, CHECKPOINTS) if file.exists())


def unpack(path: Path, folder: Path) -> Bundle:
    """Open a bundle into an empty folder; nothing is written unless every name and size is in order.

    Raises:
        BundleError: naming what is wrong: a path outside the folder, a pickle payload, a file that was edited.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = _listed(archive)
            for info in infos:
                _extract(archive, info, folder)
    except BundleError:
        raise
    except Exception as error:  # noqa: BLE001 (zipfile, zlib and lzma raise whatever damage makes them meet)
        raise BundleError(f"{path}: not a readable zip ({type(error).__name__}: {error})") from None
    manifest = _manifest(folder)
    there = {info.filename for info in infos if not info.is_dir()} - {MANIFEST}
    if there != set(manifest["files"]):
        odd = min(there ^ set(manifest["files"]))
        raise BundleError(f"files and manifest differ: {odd}")
    for place, digest in manifest["files"].items():
        if file_sha256(folder / place) != digest:
            raise BundleError(f"edited: {place} is not what the manifest says")
    try:
        records = tuple(Record.load(file) for file in sorted((folder / "records").rglob("*.json")))
    except RecordError as error:
        raise BundleError(f"schema: {error}".replace(f"{folder}/", "")) from None
    if not records:
        raise BundleError("it holds no record")
    return Bundle(folder, str(manifest["extra_data"]), records, tuple(sorted((folder / "methods").glob("*.py"))))


def _listed(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return what a zip holds, judged by name and size before anything is written."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(infos) > MOST_FILES or sum(info.file_size for info in infos) > MOST_BYTES:
        raise BundleError(f"too large: more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB unpacked")
    if len({name.lower() for name in names}) != len(names):
        raise BundleError("two files have one name")
    for info in infos:
        path = PurePosixPath(info.filename)
        outside = path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename
        if outside or stat.S_ISLNK(info.external_attr >> 16):
            raise BundleError(f"path outside its folder: {info.filename}")
        if info.is_dir():
            continue
        if path.suffix not in LARGEST:
            raise BundleError(f"{info.filename}: a bundle holds {', '.join(sorted(LARGEST))} files only")
        if info.file_size > LARGEST[path.suffix]:
            raise BundleError(f"too large: {info.filename} has more than {LARGEST[path.suffix]:,} bytes unpacked")
    return infos


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / info.filename
    if info.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as packed, target.open("xb") as unpacked:
        while block := packed.read(2**20):
            unpacked.write(block)
    if target.suffix == ".safetensors":
        with target.open("rb") as file:
            head = file.read(9)
        length = int.from_bytes(head[:8], "little")
        if head[:1] == b"\x80" or head[:2] == b"PK" or head[8:] != b"{" or length > target.stat().st_size:
            raise BundleError(f"pickle payload: {info.filename} is not a safetensors file, whatever its name says")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = read_json(folder / MANIFEST, BundleError)
        good = manifest["format"] == FORMAT and isinstance(manifest["files"], dict) and manifest["extra_data"]
    except (BundleError, KeyError, TypeError):
        good = False
    if not good:
        raise BundleError(f"{MANIFEST} is missing or of another version; `advbench submit` makes bundles")
    return dict(manifest)


def inspect(bundle: Bundle) -> tuple[Finding, ...]:
    """Return everything that is wrong or strange about a bundle; the adapter is read, never run."""
    found = list(validate(bundle.records))
    for record in bundle.records:
        folder = bundle.run(record)
        if folder is None:
            message = "the run it was built from is not in the bundle"
            found.append(Finding("forged record", "refused", name(record), message))
        else:
            found += against_run(folder, record)
        if record.division != "open" and bundle.extra_data != NONE:
            message = f"extra data declared ({bundle.extra_data}): submit --open"
            found.append(Finding("division", "refused", name(record), message))
    sources = {f"methods/{file.name}": file.read_bytes() for file in bundle.sources}
    return (*found, *against_sources(bundle.records, sources))


def against_run(folder: RunFolder, record: Record) -> Iterator[Finding]:
    """Rebuild a record from its shards and compare: an edited number, a shuffled outcome, other weights differ."""
    message = ""
    try:
        fields = differing(build_record(folder), record)
    except Exception as error:  # noqa: BLE001 (what a stranger sealed may have any shape)
        reason = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        message = f"it cannot be rebuilt from its shards: {reason.replace(str(folder.path), folder.path.name)}"
    else:
        message = f"{', '.join(fields)} are not what its shards give" if fields else ""
    if message:
        yield Finding("forged record", "refused", name(record), message)
    for checkpoint, saved in record.checkpoints.items():
        file = folder.weights(checkpoint)
        if file.exists() and file_sha256(file) != saved.sha256:
            message = f"{checkpoint} does not have the recorded digest"
            yield Finding("other weights", "refused", name(record), message)


def against_sources(records: Iterable[Record], sources: Mapping[str, bytes]) -> Iterator[Finding]:
    """Hold adapters to the rules, unrun; name the records that none of them made, as they are now."""
    for place, text in sources.items():
        yield from source_rules.examine(text, place)
    digests = {hashlib.sha256(text).hexdigest() for text in sources.values()}
    for record in records:
        if record.method.source_sha256 not in digests:
            message = "the adapter that made it is not here, or was changed since"
            yield Finding("adapter", "suspicious", name(record), message)
