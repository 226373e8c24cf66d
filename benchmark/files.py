"""Files: written atomically, checksummed, read strictly. Standard library only.

A sealed file is ordinary JSON, `{"sha256": "…", "payload": …}`, on one line; the checksum covers the payload's bytes as
they stand. A sealed journal has one such line for each entry; a line torn by a kill is skipped, the others stay good.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
_HEAD = b'{"sha256":"'
_MIDDLE = b'","payload":'
_START = len(_HEAD) + 64 + len(_MIDDLE)


class TornError(ValueError):
    """A file whose checksum does not fit its contents: torn or edited; the message is one line."""


def seal(payload: object) -> bytes:
    """Return one line of JSON that carries the sha256 of its payload.

    Raises:
        ValueError: if the payload holds a number that is not finite.
    """
    raw = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
    return _HEAD + hashlib.sha256(raw).hexdigest().encode() + _MIDDLE + raw + b"}\n"


def unseal(line: bytes, source: str) -> Any:  # noqa: ANN401 (JSON data)
    """Return the payload of one sealed line.

    Raises:
        TornError: if the checksum does not fit.
    """
    return json.loads(_checked(line, source))


def _checked(line: bytes, source: str) -> bytes:
    """Return the bytes of the payload of one sealed line."""
    line = line.rstrip()
    raw = line[_START:-1]
    expected = line[len(_HEAD) : len(_HEAD) + 64]
    whole = line.startswith(_HEAD) and line.endswith(b"}") and line[_START - len(_MIDDLE) : _START] == _MIDDLE
    if not whole or hashlib.sha256(raw).hexdigest().encode() != expected:
        raise TornError(f"{source}: torn or edited, its checksum does not fit")
    return raw


def _head(raw: bytes, last: str) -> Any:  # noqa: ANN401 (JSON data)
    """Return a payload without its last key, whose value is not parsed."""
    before, found, _ = raw.partition(f',"{last}":'.encode())
    with contextlib.suppress(json.JSONDecodeError):  # the key stood deeper inside
        return json.loads(before + b"}" if found else raw)
    return json.loads(raw)


def write_bytes(path: Path, raw: bytes) -> None:
    """Replace a file: a reader sees the old contents or the new, never half, even after a power cut."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("xb") as handle:
            handle.write(raw)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sum_line(raw: bytes, name: str) -> bytes:
    """Return what `sha256sum` prints for contents under a file name."""
    return f"{hashlib.sha256(raw).hexdigest()}  {name}\n".encode()


def write_sealed(path: Path, payload: object) -> None:
    """Replace a sealed file."""
    write_bytes(path, seal(payload))


def read_sealed(path: Path) -> Any:  # noqa: ANN401 (JSON data)
    """Return the payload of a sealed file.

    Raises:
        TornError: if it is torn or edited.
        FileNotFoundError: if it is not there.
    """
    return unseal(path.read_bytes(), str(path))


def append_sealed(path: Path, payload: object) -> None:
    """Add an entry to a journal and flush it to disk; the caller holds the lock that keeps other writers out."""
    with path.open("ab+") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":  # the writer before was killed in the middle of a line
                handle.write(b"\n")
        handle.write(seal(payload))
        handle.flush()
        os.fsync(handle.fileno())


def sealed_entries(path: Path, *, without: str | None = None) -> Iterator[Any]:
    """Yield the payloads of a journal in order; torn lines are skipped with a warning, a missing file has none.

    `without` names the last key of the entries where its value is large and not wanted: their checksums are tested as
    ever, but parsing the rest is several times faster.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line:
            continue
        try:
            raw_payload = _checked(line, f"{path}, line {number}")
        except TornError as error:
            log.warning("%s: it counts as missing", error)
            continue
        yield json.loads(raw_payload) if without is None else _head(raw_payload, without)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_toml(path: Path, error: type[ValueError]) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        ValueError: of the kind given, if it cannot be read or is no TOML; one line that names the file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path}: not valid TOML ({problem})") from None
