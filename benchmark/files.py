"""Files: written atomically, checksummed, read strictly. Standard library only.

A sealed file is ordinary JSON, `{"sha256": "…", "payload": …}`, on one line; the checksum covers the payload's bytes as
they stand. A sealed journal has one such line for each entry; a line torn by a kill is skipped, the others stay good.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
_HEAD = b'{"sha256":"'
_MIDDLE = b'","payload":'
_START = len(_HEAD) + 64 + len(_MIDDLE)
MOST_TOML, MOST_JSON = 2**20, 2**26
"""Bytes of the largest file of its kind that is read: a thousand and a hundred times what real ones have."""
_MOST_DOTS = 256
_DEEPEST = 64
_LARGEST = 2**63
_STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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
    return parse_json(_checked(line, source), TornError, source)


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
        source = f"{path}, line {number}"
        try:
            payload = unseal(line, source) if without is None else _head(_checked(line, source), without)
        except (ValueError, RecursionError) as error:
            log.warning("%s: it counts as missing", error)
            continue
        yield payload


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_text(path: Path, error: type[Exception], most: int) -> str:
    """Return the text of a file.

    Raises:
        Exception: of the kind given, if it cannot be read, has more than `most` bytes, or is not UTF-8; one line.
    """
    try:
        with path.open("rb") as handle:
            raw = handle.read(most + 1)
        text = raw.decode("utf-8")
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 text ({problem.reason} at byte {problem.start})") from None
    if len(raw) > most:
        raise error(f"{path}: too large: more than {most:,} bytes")
    return text


def read_toml(path: Path, error: type[Exception]) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        Exception: of the kind given, if it cannot be read, is no TOML, or holds what no file of ours does; one line.
    """
    text = read_text(path, error, MOST_TOML)
    if max(line.count(".") for line in text.split("\n")) > _MOST_DOTS:  # a key of n parts costs n² bytes
        raise error(f"{path}: not valid TOML of ours (a line with more than {_MOST_DOTS} dots)")
    try:
        plain = tomllib.loads(text)
        require_plain(plain)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid TOML ({problem})") from None
    return plain


def read_json(path: Path, error: type[Exception], most: int = MOST_JSON) -> Any:  # noqa: ANN401 (JSON data)
    """Return what a JSON file holds.

    Raises:
        Exception: of the kind given, if it cannot be read, is no JSON, or holds what no file of ours does; one line.
    """
    return parse_json(read_text(path, error, most), error, str(path))


def parse_json(text: str | bytes, error: type[Exception], source: str) -> Any:  # noqa: ANN401 (JSON data)
    """Return what JSON text holds; see `read_json`."""
    try:
        plain = json.loads(text, parse_float=_finite, parse_constant=_finite)
        require_plain(plain)
    except (ValueError, RecursionError) as problem:
        raise error(f"{source}: not valid JSON ({problem})") from None
    return plain


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def require_plain(value: object, depth: int = _DEEPEST) -> None:
    """Refuse what is valid in JSON or TOML and harms whoever goes on with it.

    Raises:
        ValueError: for an integer beyond 64 bits, text with characters that steer terminals or turn the direction of
            writing, and values nested more than `depth` deep.
    """
    if depth < 0:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        if found := _STEERING.search(value):
            raise ValueError(f"text with the control character U+{ord(found[0]):04X}")
    elif isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            if not isinstance(part, float):  # most of a record: not worth a call
                require_plain(part, depth - 1)
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError("an integer beyond 64 bits")


def without_steering(text: str) -> str:
    """Return a text of unknown origin without the characters that steer terminals or turn the direction of writing."""
    return _STEERING.sub("", text)
