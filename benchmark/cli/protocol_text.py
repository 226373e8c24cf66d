"""A protocol as text: to read, and as TOML to copy and change."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from advbench.benchmark.protocol import Protocol


def to_toml(protocol: Protocol) -> str:
    """Return TOML that reads back to the same protocol, defaults spelt out."""
    plain = protocol.canonical()
    lines = [f"{key} = {_value(value)}" for key, value in plain.items() if not isinstance(value, dict)]
    for key, value in plain.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *(f"{name} = {_value(one)}" for name, one in value.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """Return a TOML value; JSON's strings, numbers, booleans and lists are TOML as they stand."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def describe(protocol: Protocol) -> str:
    """Return the protocol for people: digest first, then every key, one a line."""
    lines = [
        protocol.name,
        protocol.summary,
        f"{'official' if protocol.official else 'unofficial'}, sha256 {protocol.digest}",
        "",
    ]
    keys = [(key, value) for key, value in _flat(protocol.canonical()) if key not in {"name", "summary"}]
    width = max(len(key) for key, _ in keys)
    lines += [f"{key:<{width}}  {value}" for key, value in keys]
    return "\n".join(lines) + "\n"


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
