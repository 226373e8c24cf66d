"""A network named on the command line: a run of the store, a file, RobustBench's zoo, or code of the user's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import PATH, Where, protocol_option

if TYPE_CHECKING:
    from advbench.benchmark.data.registry import Dataset
    from advbench.benchmark.models.external import OpenedNetwork, Workload
    from advbench.benchmark.protocol import Protocol

NETWORK_OPTIONS = (
    click.option("--architecture", metavar="NAME", help="For a file of weights: which network they belong to."),
    click.option("--weights", type=PATH, help="For zoo:NAME: RobustBench's checkpoint, or a folder in its layout."),
    protocol_option(help="Data and attacks for a network that is no run."),
)


@contextmanager
def under_attack(opened: "OpenedNetwork") -> Iterator[None]:
    """Attack a network inside; what the code of somebody else's raises is told as theirs.

    Raises:
        Refused: one line with the network's name.
    """
    try:
        yield
    except Exception as error:
        ours = opened.origin.kind in {"run", "weights"} or type(error).__module__.startswith("advbench.")
        if ours or isinstance(error, OSError | MemoryError):
            raise
        words = " ".join(str(error).split())[:200]
        raise Refused(
            f"{opened.origin.reference}: raised {type(error).__name__}: {words} under attack; --debug shows where"
        ) from error


@dataclass(frozen=True)
class NetworkRef:
    """A network, the data it is attacked on, and what is needed to open it."""

    network: str
    checkpoint: str
    architecture: str | None
    weights: Path | None
    protocol: "Protocol | None"

    @property
    def is_run(self) -> bool:
        """Whether the reference is a run of the store."""
        return ":" not in self.network and not Path(self.network).is_file()

    def open(self, where: Where, norm: str | None = None) -> "tuple[OpenedNetwork, Workload, Dataset, Protocol]":
        """Open the network with the data it is to be attacked on, and try it on a few images.

        `norm` chooses among a zoo's networks of one name; None: that of the protocol.

        Raises:
            Refused: if the reference needs a protocol.
            ExternalError: if it cannot be opened, or does not fit the data; one line.
        """
        from advbench.benchmark.data import registry
        from advbench.benchmark.models import external
        from advbench.benchmark.runs.launch import limit_threads
        from advbench.benchmark.runs.open_checkpoint import open_run

        limit_threads()
        device = where.torch_device()
        protocol, folder = self.protocol, None
        if self.is_run:
            folder = where.store.find(self.network)
            protocol = folder.spec.protocol
            if self.protocol is not None and self.protocol.digest != protocol.digest:
                raise Refused(
                    f"{self.network} was trained under {protocol.name}; --protocol is for networks that are no run"
                )
        if protocol is None:
            raise Refused(f"{self.network}: --protocol says on which data and with which attacks, such as cifar10-linf")
        dataset = registry.load(protocol.data, root=where.data_root, device=device)
        workload = external.Workload(dataset.provenance.name, dataset.num_classes, dataset.shape)
        if folder is not None:
            opened = open_run(folder, "last" if self.checkpoint == "last" else "best", device)
        else:
            opened = external.open_network(
                self.network,
                workload,
                architecture=self.architecture,
                weights=self.weights,
                norm=norm or protocol.threat.norm,
                device=device,
            )
        for note in dataset.provenance.notes:
            click.echo(f"note: {note}", err=True)
        x, _ = dataset.test.take(range(3))
        why = external.check(opened, workload, x)
        if why is not None:
            click.echo(
                f"WARNING: no gradient can be taken ({why}): attacks that follow it see zeros, Square alone counts",
                err=True,
            )
        return opened, workload, dataset, protocol
