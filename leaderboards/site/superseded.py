"""What was corrected on a board: numbers before and after, reasons, what took the place of a record."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from advbench.leaderboards.correction_notes import MOVED, sentence, word
from advbench.leaderboards.site.source import Corrected
from advbench.leaderboards.table import decimals


def entries(corrected: Sequence[Corrected], files: Mapping[str, PurePosixPath]) -> list[dict[str, Any]]:
    """Return the corrections of a board for its page, the newest first.

    Args:
        corrected: those of its protocol, oldest first.
        files: current record file by sha256, see `source.by_digest`.
    """
    return [_entry(found, files) for found in reversed(corrected)]


def _entry(found: Corrected, files: Mapping[str, PurePosixPath]) -> dict[str, Any]:
    change, places = found.correction, decimals(found.correction.images)
    return {
        "date": change.date.isoformat(),
        "label": change.label,
        "seed": change.seed,
        "method": change.method,
        "place": found.place,
        "word": word(change),
        "withdrawn": change.kind == "withdrawn",
        "reason": change.reason,
        "text": sentence(change),
        "moved": [_step(*change.moved(key), places=places, gone=change.new is None) for key in MOVED],
        "old": change.old,
        "new": change.new,
        "file": None if change.new is None or change.new not in files else f"records/{files[change.new]}",
        "why": f"records/{found.path}",
    }


def _step(before: float | None, after: float | None, *, places: int, gone: bool) -> dict[str, str]:
    first, second = ("–" if one is None else f"{one:.{places}f}" for one in (before, after))
    return {"before": first, "after": "" if gone else second}
