"""Open a checkpoint of a run of ours for whoever attacks networks of any origin."""

import torch

from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import external, weight_files
from advbench.benchmark.records.schema import CheckpointName
from advbench.benchmark.runs.run_folder import RunFolder


def open_run(
    folder: RunFolder, name: CheckpointName, workload: external.Workload, *, device: torch.device | str
) -> external.Opened:
    """Open a checkpoint of a run of ours, its file compared with the checksum that training left.

    Raises:
        external.ExternalError: if the run has no such checkpoint, or the file is not what training wrote.
    """
    trained = folder.trained()
    if trained is None or name not in trained.checkpoints:
        raise external.ExternalError(f"{folder.spec.label} has no {name} checkpoint: train it first")
    path, said = folder.weights(name), trained.checkpoints[name].sha256
    if file_sha256(path) != said:
        raise external.ExternalError(
            f"{path}: not the weights that training wrote (sha256 differs); train the run again"
        )
    architecture = folder.spec.protocol.network
    network = external.untrained(architecture, workload)
    origin = external.Origin(
        f"{folder.id[:8]} {folder.spec.label} {name}", "run", external.SAID["run"], architecture, said
    )
    return external.Opened(weight_files.load_weights(network, path).to(device).eval(), origin)
