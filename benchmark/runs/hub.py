"""Runs in repositories of the Hugging Face hub: pushed with their record and a model card, pulled and checked.

A repository holds `record.json`, the weights that the record names by their sha256, and `README.md`, whose figures and
model-index are the record's. No code of a method is in it. Tokens and caches are the library's (`hf auth login`).
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCardData, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from advbench.benchmark.files import file_sha256
from advbench.benchmark.records.flags import raised
from advbench.benchmark.records.schema import COLUMNS, Record, RecordError
from advbench.benchmark.runs.run_folder import RunFolder

LABELS = {"clean": "Clean", "pgd20": "PGD-20", "pgd100": "PGD-100", "cw": "CW", "autoattack": "AutoAttack"}
_FAILURES = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError)


class HubError(RuntimeError):
    """A run that cannot be pushed, or a repository that is no whole run; the message is one line."""


@dataclass(frozen=True)
class PulledRun:
    """A repository's files on this machine: its record, and a folder with the weights that the record names."""

    record: Record
    folder: Path


def push(folder: RunFolder, repository: str, *, private: bool = False) -> str:
    """Push a run to a repository, which is made if there is none; return its address.

    Raises:
        HubError: if the run has no whole record, or the hub refuses.
    """
    record = folder.record()
    if record is None or not record.checkpoints:
        raise HubError(f"{folder.spec.label} has no whole record; `advbench evaluate {folder.id[:8]}` makes one")
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(folder.record_path, place)
        for name in record.checkpoints:
            shutil.copy(folder.weights(name), place)
        Path(place, "README.md").write_text(card(record, repository), encoding="utf-8")
        _check(PulledRun(record, Path(place)), repository)
        try:
            api = HfApi()
            address = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=place, commit_message=f"Add {folder.spec.label}")
        except _FAILURES as error:
            raise HubError(f"{repository}: {' '.join(str(error).split())[:300]}") from error
    return str(address)


def pull(repository: str, revision: str | None = None) -> PulledRun:
    """Download a run into the library's cache, or find it there; its weights are those that its record names.

    Raises:
        HubError: if there is no such repository, or it is no whole run.
    """
    try:
        patterns = ["record.json", "*.safetensors"]
        place = Path(str(snapshot_download(repository, revision=revision, allow_patterns=patterns)))
        found = PulledRun(Record.load(place / "record.json"), place)
    except _FAILURES as error:
        raise HubError(f"{repository}: {' '.join(str(error).split())[:300]}") from error
    except (OSError, RecordError) as error:
        raise HubError(f"{repository}: is no run of advbench ({error})") from error
    _check(found, repository)
    return found


def _check(run: PulledRun, repository: str) -> None:
    """Refuse weights that are not those of the record."""
    for name, saved in run.record.checkpoints.items():
        path = run.folder / f"{name}.safetensors"
        if not path.is_file() or file_sha256(path) != saved.sha256:
            raise HubError(f"{repository}: {name}.safetensors is not the network that the record names")


def card(record: Record, repository: str) -> str:
    """Return the model card: metadata with a model-index, then the figures, in Markdown."""
    method, data = record.method, record.data.name
    metadata = ModelCardData(
        model_name=f"{method.row} ({record.protocol_name}, seed {record.seed})",
        pipeline_tag="image-classification",
        library_name="advbench",
        tags=["adversarial-robustness", "adversarial-training", record.network],
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=data,
                dataset_name=data,
                dataset_split="test",
                metric_type="accuracy",
                metric_name=f"{LABELS[column]} accuracy ({checkpoint}, %)",
                metric_value=round(percent, 2),
            )
            for checkpoint, column, percent in _figures(record)
        ],
    )
    rows = "".join(f"| {name} | {LABELS[column]} | {percent:.2f} |\n" for name, column, percent in _figures(record))
    doubts = "".join(
        f"- **{flag.name}** ({name}): {flag.reason}\n"
        for name, saved in record.checkpoints.items()
        for flag in raised(saved.evaluation.flags)
    )
    signs = f"Signs of a broken evaluation:\n\n{doubts}" if doubts else "No flag that was looked for is raised."
    under = record.protocol_name if record.official else f"{record.protocol_name}, unofficial"
    return f"""---
{metadata.to_yaml()}
---

# {method.row} on {data}

{method.title} ({method.authors}, {method.venue} {method.year}), trained and attacked by advbench under the protocol
`{under}` (sha256 `{record.protocol_digest}`):
{record.network}, {record.protocol.threat.text}, seed {record.seed}.
Accuracy in % on {record.data.test} test images; `record.json` has the outcome of each.

| Checkpoint | Attack | Accuracy (%) |
|---|---|---:|
{rows}
{signs}

```python
from advbench import load_model

network = load_model("{repository}")  # images (B, C, H, W) in [0,1] to logits
```
"""


def _figures(record: Record) -> Iterator[tuple[str, str, float]]:
    """Yield checkpoint, column and accuracy in % of what was measured."""
    for name, saved in record.checkpoints.items():
        for column in COLUMNS:
            accuracy = saved.evaluation.accuracy(column)
            if accuracy is not None:
                yield name, column, 100 * accuracy
