"""Reader of results that are no records: JSON files of evaluations off the board, diagnoses, transfer matrices."""

from pathlib import Path
from typing import Any

from advbench.benchmark.files import read_json
from advbench.reports.drawing.style import ReportError

KINDS = {
    "evaluation off the board": ("evaluate NETWORK --eps-sweep LIST --out FILE", "threats images network"),
    "diagnosis": (
        "diagnose NETWORK",
        "eps images test clean columns agreement flags against_eps against_steps against_noise against_peers",
    ),
    "transfer": ("transfer", "names clean accuracy images"),
}
"""Kind of result → the command that makes it, and the keys that its file must have."""


def read(path: Path) -> dict[str, Any]:
    """Read one result.

    Raises:
        ReportError: if the file cannot be read, is no result, or is not whole; one line.
    """
    found = read_json(path, ReportError)
    kind = found.get("kind") if isinstance(found, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        made = ", ".join(f"`advbench {command}`" for command, _ in KINDS.values())
        raise ReportError(f"{path}: no result that can be drawn; {made} write such files")
    missing = [key for key in KINDS[kind][1].split() if key not in found]
    if missing:
        raise ReportError(f"{path}: not a whole {kind}: no {missing[0]}; make it anew")
    return dict(found)
