"""Open a checkpoint of a run of ours for whoever attacks networks of any origin."""

import torch
from torch import nn

from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.models import external, weight_files
from advbench.benchmark.runs.run_folder import RunFolder


def open_run(folder: RunFolder, name: str, device: torch.device | str) -> external.OpenedNetwork:
    """Open a checkpoint of a run of ours, its file compared with the checksum that training left.

    Raises:
        external.ExternalError: if the run has no such checkpoint, or the file is not what training wrote.
    """
    trained = folder.trained()
    checkpoints = {} if trained is None else {str(key): weights for key, weights in trained.checkpoints.items()}
    if trained is None or name not in checkpoints:
        raise external.ExternalError(f"{folder.spec.label} has no {name} checkpoint: train it first")
    architecture, sha256 = folder.spec.protocol.network, checkpoints[name].sha256
    path = folder.path / f"{name}.safetensors"
    try:
        network = weight_files.load(
            path,
            architecture,
            num_classes=trained.data.num_classes,
            channels=KNOWN[trained.data.name].shape[0],
            sha256=sha256,
            device=device,
        )
    except weight_files.ChangedWeightsError:
        raise external.ExternalError(
            f"{path}: not the weights that training wrote (sha256 differs); train the run again"
        ) from None
    origin = external.Origin(f"{folder.id[:8]} {folder.spec.label} {name}", "run", architecture, sha256)
    return external.OpenedNetwork(network, origin)


def open_pulled(repository: str, name: str, device: torch.device | str) -> nn.Module:
    """Open a checkpoint of a run in a repository of the hub.

    Raises:
        HubError: if there is no such repository, or it is no whole run with that checkpoint.
    """
    from advbench.benchmark.runs import hub  # noqa: PLC0415 (an extra)

    pulled = hub.pull(repository)
    path, record = pulled.folder / f"{name}.safetensors", pulled.record
    if name not in record.checkpoints:
        raise hub.HubError(f"{repository}: has no {name} checkpoint")
    channels = KNOWN[record.data.name].shape[0]
    return weight_files.load(
        path, record.network, num_classes=record.data.num_classes, channels=channels, device=device
    )
