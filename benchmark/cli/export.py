"""`advbench export`: a row in the form that another benchmark takes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.options import RUN, checkpoint_option, flag, gather, out_folder, store_folder
from advbench.benchmark.cli.read_records import RecordRef, weights_option

if TYPE_CHECKING:
    import torch

    from advbench.benchmark.models.robustbench_export import CheckpointName, Exported


@click.group(short_help="Write a row as another benchmark takes it.")
def export() -> None:
    """Write a row as another benchmark takes it.

    \b
    Examples:
      advbench export robustbench 3fa9
    """


@export.command(short_help="Claim, checkpoint and zoo entry for RobustBench.")
@gather("ref", RecordRef, click.argument("record", metavar="RUN|RECORD", type=RUN), checkpoint_option(), weights_option)
@click.option("--name", default="", help="Of the model.  [default: as in Zhang2019Theoretically_PRN18]")
@flag("--additional-data", help="Data beside the protocol's were used.")
@flag("--force", help="Export what the board would not rank; the footnote says why not.")
@out_folder("robustbench")
@store_folder
def robustbench(
    *, ref: RecordRef, name: str, additional_data: bool, force: bool, out: Path, store_root: Path | None
) -> None:
    """Write what RobustBench asks of a new model: model_info JSON, checkpoint, entry of its model zoo.

    Every number is the record's. CIFAR-10, CIFAR-100 and ImageNet have leaderboards there; digits and Tiny ImageNet
    have none. A row with raised flags, another eps, a part of the test set, a protocol of one's own or data without
    known checksums is refused; --force exports it with the reasons in the footnote. Where robustbench is installed
    its own loader reads the files back, and its logits are compared with ours.

    \b
    Examples:
      advbench export robustbench 3fa9
      advbench export robustbench leaderboards/records/cifar10-linf-1/trades/seed0.json --weights best.safetensors
    """
    from advbench.benchmark.models import robustbench_export, weight_files

    checkpoint: CheckpointName = "last" if ref.checkpoint == "last" else "best"
    claimed, folder = ref.read(store_root)
    against = robustbench_export.admit(claimed, checkpoint, force=force)
    path = ref.find_weights(claimed, checkpoint, folder)
    network = weight_files.load(path, claimed.network, num_classes=claimed.data.num_classes, channels=3)
    exported = robustbench_export.export(
        claimed, checkpoint, network, out, name=name, additional_data=additional_data, against=against
    )
    for reason in against:
        click.echo(f"footnote: {reason}", err=True)
    for path in (exported.claim, exported.weights, exported.entry):
        click.echo(f"wrote {path}")
    _compare(exported, network)


def _compare(exported: "Exported", network: "torch.nn.Module") -> None:
    """Compare the network that RobustBench, where it is installed, makes of what was exported."""
    from advbench.benchmark.models.robustbench import BridgeError
    from advbench.benchmark.models.robustbench_reload import compare

    try:
        found = compare(exported, network)
    except BridgeError as error:
        click.echo(f"not loaded with RobustBench: {error}")
        return
    if found.same < found.images:
        raise Failed(f"{exported.name}: RobustBench's network predicts {found.images - found.same} images otherwise")
    logits = "equal to the bit" if not found.difference else f"at most {found.difference:.1g} apart"
    click.echo(f"loaded with RobustBench: the same classes on {found.images} images, logits {logits}")
