"""The store: a directory of runs, addressed by content, locked, checksummed. Torch-free.

    <root>/<protocol>/<method>-s<seed>-<run id>/
        run.json                 what the run is
        adapter.py               the source that trains; its sha256 is in training.json and in the record
        resume.pt, resume-older.pt    where training goes on after a kill, and the state before that one
        best.safetensors, last.safetensors
        training.json            what training did, sha256 of the weights; while it is missing the run is not trained
        evaluation/<checkpoint>/<family>.jsonl      one line for each shard of test images
        tuning.json              of a tuned run: how its settings were chosen
        record.json, record.json.sha256             the record, derived from the above
        failures/<job>.json      why a job failed last time, and its log
        logs/<job>.log
        locks/<work>.lock        held while somebody works on it

Whatever is torn, edited or of other weights counts as missing and is done again. Everything here is written under a
lock, so any number of executors, on any number of machines, may work on one store.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Record
from advbench.benchmark.runs.job import RunSpec
from advbench.benchmark.runs.run_folder import RunFolder, StoreError, Trained

log = logging.getLogger(__name__)
__all__ = ["RunFolder", "Store", "StoreError", "default_root"]
FOLDER_NAME = re.compile(r"[A-Za-z0-9_.-]+-s\d+-[0-9a-f]{16}")
PEERS, PEER_SEED = ("standard", "pgd_at"), 0
"""Runs whose adversarial examples are tried on all others."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def default_root() -> Path:
    """Return `$ADVBENCH_STORE`, or `runs` in the working directory."""
    return Path(os.environ.get("ADVBENCH_STORE") or "runs")


@dataclass(frozen=True)
class Store:
    """A directory of runs."""

    root: Path

    def folder(self, spec: RunSpec) -> RunFolder:
        """Return the folder of a run, which need not exist yet.

        Raises:
            StoreError: if the names of protocol or method cannot be folder names.
        """
        identity = spec.id
        for name in (spec.protocol.slug, spec.method):
            if not _SAFE.fullmatch(name):
                raise StoreError(f"{name!r} cannot name a folder: use letters, digits, '.', '_' and '-' only")
        return RunFolder(self.root / spec.protocol.slug / f"{spec.method}-s{spec.seed}-{identity}", identity, spec)

    def sibling(self, spec: RunSpec, run_id: str) -> RunFolder:
        """Return the folder of another run under the same protocol: a teacher.

        Raises:
            StoreError: if there is none.
        """
        for path in (self.root / spec.protocol.slug).glob(f"*-{run_id}"):
            if FOLDER_NAME.fullmatch(path.name):
                return RunFolder(path, run_id)
        raise StoreError(f"{spec.label} needs run {run_id} as a teacher, which is not in {self.root}: plan again")

    def peers(self, protocol: Protocol) -> Iterator[tuple[RunFolder, Trained]]:
        """Yield the trained peers under a protocol: standard and PGD-AT with their defaults, first seed.

        They are told by what the store says of them; no code of a method is loaded for it.
        """
        for method in PEERS:
            for path in sorted((self.root / protocol.slug).glob(f"{method}-s{PEER_SEED}-*")):
                folder = RunFolder(path, path.name[-16:])
                trained = folder.trained() if FOLDER_NAME.fullmatch(path.name) else None
                if trained is None or trained.method.changed or "best" not in trained.checkpoints:
                    continue
                with contextlib.suppress(StoreError):
                    if folder.spec.protocol.digest == protocol.digest and folder.spec.division == "closed":
                        yield folder, trained

    def folders(self) -> Iterator[RunFolder]:
        """Yield every folder that is named like a run, sorted by path; its `run.json` is not read yet."""
        if not self.root.is_dir():
            return
        for protocol in sorted(self.root.iterdir()):
            if not protocol.is_dir() or protocol.is_symlink():
                continue
            for path in sorted(protocol.iterdir()):
                if FOLDER_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                    yield RunFolder(path, path.name[-16:])

    def find(self, run_id: str) -> RunFolder:
        """Return the folder of a run by its identity or an unambiguous beginning of it.

        Raises:
            StoreError: if there is none, or more than one.
        """
        found = [folder for folder in self.folders() if run_id and folder.id.startswith(run_id)]
        if len(found) != 1:
            many = f"{len(found)} runs begin with" if found else "no run"
            raise StoreError(f"{self.root}: {many} {run_id!r}; `advbench status` lists the runs")
        return found[0]

    def records(self) -> Iterator[tuple[RunFolder, Record]]:
        """Yield every trained run with its record; a record that is missing, torn or edited is built again."""
        for folder in self.folders():
            record = folder.record() or _rebuilt(folder)
            if record is not None:
                yield folder, record


def _rebuilt(folder: RunFolder) -> Record | None:
    from advbench.benchmark.runs.build_record import build_record  # noqa: PLC0415 (SciPy takes a second to import)

    if folder.trained() is None:
        return None
    try:
        return folder.write_record(build_record)
    except (ValueError, RuntimeError, OSError) as error:  # whatever is wrong costs this run alone
        log.warning("%s has no record: %s", folder.path, error)
        return None
