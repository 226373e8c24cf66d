"""Find, and on demand remove, what the store holds that no board uses. Torch-free.

Only files that the store itself writes are ever touched, only in folders that say what run they are, and never while
somebody works on that run. Links are not followed.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from advbench.benchmark.runs.run_folder import RunFolder, StoreError
from advbench.benchmark.runs.store import Store

_OURS = re.compile(
    r"(run|training)\.json|resume(-older)?\.pt|(best|last)\.safetensors|record\.json(\.sha256)?"
    r"|evaluation/(best|last)/[a-z]+\.jsonl|failures/[A-Za-z0-9._-]+\.json|logs/[A-Za-z0-9._-]+\.log"
    r"|locks/[A-Za-z0-9._-]+\.lock"
)
"""Paths within a run folder that the store writes."""
_LEFT_OVER = re.compile(r"(failures/)?\.[A-Za-z0-9._-]+\.\d+-[0-9a-f]+\.tmp")
"""What a writer that was killed leaves beside a file."""
_FOLDERS = ("evaluation/best", "evaluation/last", "evaluation", "failures", "logs", "locks")


@dataclass(frozen=True)
class Item:
    """Something that may go: files of one run for one reason."""

    run: RunFolder
    label: str
    reason: str
    files: tuple[Path, ...]
    bytes: int
    whole: bool
    """Whether the whole run goes."""


def find(store: Store, keep: AbstractSet[str] | None = None) -> tuple[Item, ...]:
    """Return what may go: resume files of trained runs, left-overs of killed writers, and runs not to be kept.

    Args:
        store: the store.
        keep: identities of the runs that boards or suites use; their teachers are kept as well. None keeps all runs.
    """
    folders = {}
    for folder in store.folders():
        with contextlib.suppress(StoreError):  # not a run, or of another version: not ours to touch
            folders[folder.id] = (folder, folder.spec)
    kept = set(folders) if keep is None else set(keep)
    while True:  # teachers of teachers, too
        teachers = {teacher for run in kept if run in folders for teacher in folders[run][1].teachers.values()}
        if teachers <= kept:
            break
        kept |= teachers
    found: list[Item] = []
    for identity, (folder, spec) in folders.items():
        if folder.scan().held:
            continue
        if identity not in kept:
            found.append(_item(folder, spec.label, "no board or suite uses it", _files(folder, _OURS), whole=True))
            continue
        resumes = folder.resumes()
        if resumes and folder.trained() is not None:
            found.append(_item(folder, spec.label, "training is done", resumes, whole=False))
        left_over = list(_files(folder, _LEFT_OVER))
        if left_over:
            found.append(_item(folder, spec.label, "left by a killed process", left_over, whole=False))
    return tuple(found)


def remove(items: Iterable[Item]) -> int:
    """Remove what `find` found; return the bytes freed. A run that somebody has begun to work on since is left alone.

    Raises:
        StoreError: if the disk refuses.
    """
    freed = 0
    for item in items:
        with item.run.claim("train") as free:
            if not free or set(item.run.scan().held) - {"train"}:
                continue
            try:
                freed += sum(_remove(path) for path in item.files)
            except OSError as error:
                raise StoreError(f"{item.run.path}: cannot be removed ({error.strerror or error})") from None
            item.run.retire("train")
        if item.whole:
            _remove_folders(item.run.path)
    return freed


def _item(folder: RunFolder, label: str, reason: str, files: Iterable[Path], *, whole: bool) -> Item:
    listed = tuple(files)
    if whole:
        listed = (*_files(folder, _LEFT_OVER), *listed)
    return Item(folder, label, reason, listed, sum(path.stat().st_size for path in listed), whole)


def _files(folder: RunFolder, pattern: re.Pattern[str]) -> Iterator[Path]:
    # run.json goes last: a removal that is cut short is found again.
    for path in sorted(folder.path.rglob("*"), key=lambda path: (path.name == "run.json", path)):
        relative = path.relative_to(folder.path).as_posix()
        if pattern.fullmatch(relative) and path.is_file() and not path.is_symlink():
            yield path


def _remove(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _remove_folders(path: Path) -> None:
    """Remove the folders of a run that are empty now; what is not ours keeps its place."""
    for part in (*_FOLDERS, "."):
        with contextlib.suppress(OSError):
            (path / part).rmdir() if part != "." else path.rmdir()
