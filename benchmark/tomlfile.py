"""Read a TOML file, saying in one line what is wrong with it. Torch-free."""

import tomllib
from pathlib import Path
from typing import Any


def read(path: Path, error: type[ValueError]) -> dict[str, Any]:
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
