"""What was corrected on a board, with the files that prove it: superseded records, reasons, what took their place."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from advbench.leaderboards.correction_notes import MOVED
from advbench.leaderboards.measures import test_images
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.site.source import Corrected
from advbench.leaderboards.table import Change, Table, decimals

WORDS = {"replaced": "measured again", "withdrawn": "withdrawn"}


def entries(table: Table, corrected: Sequence[Corrected], files: Mapping[str, PurePosixPath]) -> list[dict[str, Any]]:
    """Return the corrections of a board for its page, the newest first.

    Args:
        table: the board, whose history was made of these corrections.
        corrected: those of its protocol, in the same order.
        files: record file by sha256, see `source.by_digest`.
    """
    pairs = list(zip(table.history, corrected, strict=True))
    return [_entry(change, one, files) for change, one in reversed(pairs)]


def _entry(change: Change, one: Corrected, files: Mapping[str, PurePosixPath]) -> dict[str, Any]:
    places = decimals(test_images([one.event.before]))
    return {
        "date": change.date,
        "label": change.label,
        "seed": change.seed,
        "page": f"methods/{slug(change.method)}.html",
        "method": change.method,
        "place": one.place,
        "word": WORDS[change.kind],
        "withdrawn": change.kind == "withdrawn",
        "reason": change.reason,
        "text": change.text,
        "moved": [_step(*change.moved[key], places=places, gone=change.new is None) for key in MOVED],
        "old": {"sha256": change.old, "file": f"records/{one.old.path}", "run": change.old_run},
        "new": None if change.new is None else {"sha256": change.new, "file": f"records/{files[change.new]}"},
        "why": f"records/{one.path}",
    }


def _step(before: float | None, after: float | None, *, places: int, gone: bool) -> dict[str, str]:
    first, second = ("–" if one is None else f"{one:.{places}f}" for one in (before, after))
    return {"before": first, "after": "" if gone else second}
