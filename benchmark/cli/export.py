"""`advbench export`: a row in the form that another benchmark takes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed
from advbench.benchmark.cli.options import FOLDER, store_option

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
@click.argument("record", metavar="RUN|RECORD")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", show_default=True)
@click.option("--weights", type=click.Path(path_type=Path), help="The weights file, or a folder of them.")
@click.option("--name", default="", help="Of the model.  [default: as in Zhang2019Theoretically_PRN18]")
@click.option("--additional-data", is_flag=True, help="Data beside the protocol's were used.")
@click.option("--force", is_flag=True, help="Export what the board would not rank; the footnote says why not.")
@click.option("--out", type=FOLDER, default=Path("robustbench"), show_default=True, help="Folder to write into.")
@store_option
def robustbench(
    *,
    record: str,
    checkpoint: "CheckpointName",
    weights: Path | None,
    name: str,
    additional_data: bool,
    force: bool,
    out: Path,
    store_root: Path | None,
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
    from advbench.benchmark.cli.read_records import find_weights, load_network, read_record
    from advbench.benchmark.models import robustbench_export

    claimed, folder = read_record(record, store_root)
    against = robustbench_export.admit(claimed, checkpoint, force=force)
    path = find_weights(claimed, checkpoint, weights, folder)
    network = load_network(path, claimed.network, claimed.data.num_classes, 3)
    exported = robustbench_export.export(
        claimed, checkpoint, network, out, name=name, additional_data=additional_data, against=against
    )
    for one in against:
        click.echo(f"footnote: {one}", err=True)
    for path in (exported.claim, exported.weights, exported.entry):
        click.echo(f"wrote {path}")
    _compare(exported, network)


def _compare(exported: "Exported", network: "torch.nn.Module") -> None:
    """Say whether RobustBench, where it is installed, makes the same network of what was exported.

    Raises:
        Failed: if it makes another.
    """
    from advbench.benchmark.models.robustbench import BridgeError
    from advbench.benchmark.models.robustbench_export import compare

    try:
        found = compare(exported, network)
    except BridgeError as error:
        click.echo(f"not loaded with RobustBench: {error}")
        return
    if found.same < found.images:
        raise Failed(f"{exported.name}: RobustBench's network predicts {found.images - found.same} images otherwise")
    said = "equal to the bit" if not found.difference else f"at most {found.difference:.1g} apart"
    click.echo(f"loaded with RobustBench: the same classes on {found.images} images, logits {said}")
