"""`advbench publish`: records to where boards read them; corrections with their reasons."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.options import FILE, FOLDER, RUN, flag, gather, open_store, protocol_option, store_folder
from advbench.benchmark.cli.read_records import RecordSource, store_record

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records.schema import Record


@dataclass(frozen=True)
class ExternalOptions:
    """An external row: the document of its evaluation, and what is said of the network."""

    document: Path | None
    label: str | None
    source: str | None
    licence: str | None
    note: str | None

    @property
    def given(self) -> dict[str, str]:
        """What is said of the network."""
        words = {"label": self.label, "source": self.source, "licence": self.licence, "note": self.note}
        return {key: text for key, text in words.items() if text is not None}

    def publish(self, protocol: "Protocol | None", records: Path, reason: str | None) -> None:
        """Write the row.

        Raises:
            Refused: if label, source or licence are missing.
        """
        from advbench.benchmark.records import external

        if missing := [f"--{key}" for key in ("label", "source", "licence") if key not in self.given]:
            raise Refused(f"--external needs {', '.join(missing)}: a row without them cannot be judged")
        row = external.read_evaluation(self.document or Path(), protocol, **self.given)
        path = external.publish(row, records, reason=reason)
        click.echo("published already" if path is None else f"wrote {path}")


@click.command(short_help="Copy records to where published boards read them.")
@click.argument("runs", nargs=-1, metavar="[RUNS]...", type=RUN)
@protocol_option(help="Publish every finished run of this protocol.")
@store_folder
@click.option(
    "--records", type=FOLDER, default=Path("leaderboards/records"), show_default=True, help="Folder to publish into."
)
@flag("--replace", help="Replace published records that say something else.")
@click.option(
    "--withdraw",
    metavar="RECORD",
    multiple=True,
    help="Take a published record off the board: its file, or its run. Repeatable.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why a record is replaced or withdrawn; the board shows it.")
@gather(
    "external",
    ExternalOptions,
    click.option(
        "--external",
        "document",
        type=FILE,
        help="Publish a network that others trained, from what `evaluate NETWORK --out FILE` wrote: a row apart.",
    ),
    click.option("--label", metavar="NAME", help="With --external: name of the row."),
    click.option("--source", metavar="TEXT", help="With --external: who published the weights, with the address."),
    click.option("--licence", metavar="TEXT", help="With --external: under which the weights may be used."),
    click.option("--note", metavar="TEXT", help="With --external: what a reader must know, such as extra data."),
)
def publish(
    *,
    runs: tuple[str, ...],
    protocol: "Protocol | None",
    store_root: Path | None,
    records: Path,
    replace: bool,
    withdraw: tuple[str, ...],
    reason: str,
    external: ExternalOptions,
) -> None:
    """Copy the records of finished RUNS (identities, or their beginnings) to where boards read them.

    What is replaced or withdrawn is noted in corrections.json with the reason; `leaderboard --history` lists it.

    \b
    Examples:
      advbench publish 3fa9 77b0
      advbench publish --protocol digits-linf-full
      advbench publish 3fa9 --replace --reason "trained with the wrong beta"
      advbench publish --withdraw 3fa9 --reason "cannot be reproduced"
      advbench publish --external net.json --label "TRADES, released" --source "https://..." --licence MIT
    """
    if external.document is not None:
        if runs or withdraw:
            raise Refused("--external stands alone: publish or withdraw runs with another command")
        external.publish(protocol, records, reason if replace else None)
    elif external.given:
        raise Refused("--label, --source, --licence and --note belong to --external")
    elif withdraw:
        if runs or protocol is not None or replace:
            raise Refused("--withdraw stands alone: publish or replace with another command")
        _withdraw(withdraw, records, reason)
    elif reason and not replace:
        raise Refused("--reason belongs to --replace or --withdraw")
    elif bool(runs) == (protocol is not None):
        raise Refused("name the runs to publish, or a protocol with --protocol, one of the two")
    else:
        _publish(_finished(runs, protocol, store_root), records, reason if replace else None)


def _publish(whole: "list[Record]", records: Path, reason: str | None) -> None:
    from advbench.benchmark.records import publish as publishing

    changed = publishing.publish(whole, records, replace=reason is not None, reason=reason or "")
    for path in changed:
        click.echo(f"wrote {path}")
    if len(changed) < len(whole):
        click.echo(f"{len(whole) - len(changed)} records were published already")


def _finished(runs: tuple[str, ...], protocol: "Protocol | None", store_root: Path | None) -> "list[Record]":
    """Return the records of runs that were attacked in full: those named, or all of a protocol.

    Raises:
        Refused: if there is none, or a named one is not finished.
    """
    source = RecordSource(protocol, store_root=store_root)
    found = source.load()[0] if protocol is not None else [store_record(run, store_root) for run in runs]
    whole = [record for record in found if _complete(record)]
    partial = [record for record in found if not _complete(record)]
    if partial and runs:
        names = ", ".join(record.run for record in partial)
        raise Refused(f"not attacked in full yet: {names}; `advbench evaluate` goes on")
    for record in partial:
        click.echo(f"left out, not attacked in full yet: {record.method.row} seed {record.seed}", err=True)
    if not whole:
        raise Refused(f"{open_store(store_root).root}: no finished run to publish")
    return whole


def _withdraw(words: tuple[str, ...], records: Path, reason: str) -> None:
    from advbench.benchmark.records import publish as publishing

    for path in [publishing.find(records, word) for word in words]:
        click.echo(f"withdrew {path}; why: {publishing.withdraw(path, reason=reason)}")


def _complete(record: "Record") -> bool:
    """Whether every column of every checkpoint was measured; a run that diverged may lack both checkpoints."""
    from advbench.benchmark.records.schema import COLUMNS

    evaluations = [checkpoint.evaluation for checkpoint in record.checkpoints.values()]
    measured = all(column in evaluation.columns for evaluation in evaluations for column in COLUMNS)
    return measured and (bool(evaluations) or record.training.diverged is not None)
