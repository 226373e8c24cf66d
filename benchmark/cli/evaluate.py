"""`advbench evaluate`: attack a trained run, or any network under any threat."""

from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.any_network import NETWORK_OPTIONS, NetworkRef
from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.cluster_options import cluster_options
from advbench.benchmark.cli.off_board import ThreatOptions, attack_off_board, threat_options
from advbench.benchmark.cli.options import FAMILIES, RUN, Where, attacks_option, either_checkpoint, gather, work_options

if TYPE_CHECKING:
    from advbench.benchmark.runs.executors.slurm.sizing import Placement


@click.command(short_help="Attack a trained run, or any network.")
@gather("network", NetworkRef, click.argument("network", type=RUN), either_checkpoint, *NETWORK_OPTIONS)
@attacks_option
@threat_options
@work_options
@cluster_options
def evaluate(
    *,
    network: NetworkRef,
    families: tuple[str, ...],
    threat: ThreatOptions,
    where: Where,
    placement: "Placement | None",
) -> None:
    """Attack a trained RUN: its identity as `advbench status` shows it, or the beginning of it.

    Off the board RUN may also be a file of weights (with --architecture), zoo:NAME of RobustBench (with --weights),
    module:function or FILE.py:function of your own, which returns a network, or a program: exported:FILE for
    torch.export, scripted:FILE for TorchScript; and a run may be attacked in another norm, at other radii or on a part
    of the test set. No code in a file of weights is run; a program is opened only when its prefix is written.

    \b
    Examples:
      advbench evaluate 3fa9
      advbench evaluate 3fa9 --checkpoint best --attack autoattack
      advbench evaluate 3fa9 --executor slurm --partition gpu --gpus-per-node 1 --time 4:00:00
      advbench evaluate net.safetensors --architecture preactresnet18 --protocol cifar10-linf --subset 1000
      advbench evaluate exported:net.pt2 --protocol cifar10-linf --subset 1000
      advbench evaluate mine.py:defense --protocol cifar10-linf --threat l2 --eps 0.5 --eot 20 --out mine.json
    """
    if threat.given or not network.is_run or network.architecture or network.weights or network.protocol:
        if placement is not None:
            raise Refused("--executor slurm is for runs of a store as they are on the board")
        attack_off_board(network, threat, families, where)
        return
    from advbench.benchmark.cli.board_files import show_board
    from advbench.benchmark.cli.carry_out import carry_out
    from advbench.benchmark.cli.read_records import RecordSource
    from advbench.benchmark.records.schema import CHECKPOINTS
    from advbench.benchmark.runs.perform import catalogue
    from advbench.benchmark.runs.plan import missing_attacks

    folder = where.store.find(network.network)
    checkpoints = CHECKPOINTS if network.checkpoint == "both" else (network.checkpoint,)
    due = missing_attacks(folder, checkpoints, (*families, *(threat.attacks or ())) or FAMILIES)
    if not due:
        click.echo("nothing to do: attacked already")
    else:
        outcome = carry_out(due, where.means(placement), catalogue())
        if outcome is None:
            return
        if not outcome.clean:
            raise Failed("attacks failed; the same command tries again")
    found, _ = RecordSource(folder.spec.protocol, store_root=where.store_root).load()
    show_board([record for record in found if record.run == folder.id], folder.spec.protocol)
    click.echo(f"record: {folder.record_path}")
