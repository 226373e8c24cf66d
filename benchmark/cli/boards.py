"""`advbench leaderboard` and `publish`: from records to tables and published results."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.benchmark.cli.app import Failed, Refused
from advbench.benchmark.cli.options import FOLDER, open_store, read_names, read_protocol, store_option

if TYPE_CHECKING:
    from advbench.benchmark.protocol import Protocol
    from advbench.benchmark.records import Record
    from advbench.benchmark.store import Store

RECORDS = "Records folder to read instead of the store, such as leaderboards/records."
ONLY = "Only this one.  [default: every protocol that has records]"
SEVERAL = "boards differ in their protocols; choose one with --protocol: "


@click.command(short_help="Print boards from records.")
@click.option(
    "--protocol",
    type=read_protocol,
    metavar="NAME|FILE.toml",
    help=ONLY,
)
@click.option("--records", type=click.Path(path_type=Path), help=RECORDS)
@store_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["terminal", "markdown", "csv", "html", "latex"]),
    default="terminal",
    show_default=True,
    help="What to print.",
)
@click.option(
    "--columns", type=read_names, metavar="LIST", help="Keys of the columns to show, such as clean,autoattack."
)
@click.option("--methods", type=read_names, metavar="LIST", help="Only these methods.")
@click.option(
    "--checkpoint",
    type=click.Choice(["best", "last", "both"]),
    default="both",
    show_default=True,
    help="Which checkpoint.",
)
@click.option("--out", type=FOLDER, help="Also write every format and the trade-off plot into this folder.")
@click.option("--check", is_flag=True, help="Compare the tables in --out with their records; write nothing.")
def leaderboard(
    *,
    protocol: "Protocol | None",
    records: Path | None,
    store_root: Path | None,
    kind: str,
    columns: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    checkpoint: str,
    out: Path | None,
    check: bool,
) -> None:
    """Print the board of each protocol from the records there are; torch is not needed.

    \b
    Examples:
      advbench leaderboard
      advbench leaderboard --protocol cifar10-linf --format latex --columns clean,pgd20,autoattack
      advbench leaderboard --records leaderboards/records --out tables
      advbench leaderboard --records leaderboards/records --out leaderboards/tables --check
    """
    from advbench.benchmark.cli.writing import show_board, stale_files, write_files, writer
    from advbench.leaderboards import board

    groups = collect(records, store_root, protocol)
    if check:
        if out is None:
            raise Refused("--check compares the tables in a folder: name it with --out")
        stale = stale_files([board.build(found) for found in groups], out)
        if stale:
            names = ", ".join(str(path) for path in stale)
            raise Failed(f"not what the records say: {names}; `advbench leaderboard --out {out}` writes them anew")
        click.echo(f"{out}: every table is what its records say")
        return
    if kind in {"csv", "latex", "html"} and len(groups) > 1:
        raise Refused(SEVERAL + ", ".join(sorted(found[0].protocol_name for found in groups)))
    narrowed = columns or methods or checkpoint != "both"
    for found in groups:
        if kind == "terminal" and not narrowed:
            table = show_board(found, protocol_of(found))
        else:
            table = board.build(found)
            chosen = table.select(
                columns=columns, methods=methods, checkpoints=None if checkpoint == "both" else [checkpoint]
            )
            click.echo(writer(kind)(chosen), nl=False)
        if out is not None:
            for path in write_files(table, out):
                click.echo(f"wrote {path}", err=True)


@click.command(short_help="Copy records to where published boards read them.")
@click.argument("runs", nargs=-1)
@click.option(
    "--protocol", type=read_protocol, metavar="NAME|FILE.toml", help="Publish every finished run of this protocol."
)
@store_option
@click.option(
    "--records", type=FOLDER, default=Path("leaderboards/records"), show_default=True, help="Folder to publish into."
)
@click.option("--replace", is_flag=True, help="Replace a published record that says something else.")
def publish(
    *, runs: tuple[str, ...], protocol: "Protocol | None", store_root: Path | None, records: Path, replace: bool
) -> None:
    """Copy the records of finished RUNS (identities, or their beginnings) to where boards read them.

    \b
    Examples:
      advbench publish 3fa9 77b0
      advbench publish --protocol digits-linf-full
    """
    from advbench.benchmark import publish as publishing
    from advbench.benchmark.cli.writing import from_store

    if bool(runs) == (protocol is not None):
        raise Refused("name the runs to publish, or a protocol with --protocol, one of the two")
    store = open_store(store_root)
    found = from_store(store, protocol) if protocol is not None else [_record(store, run) for run in runs]
    whole = [record for record in found if _complete(record)]
    partial = [record for record in found if not _complete(record)]
    if partial and runs:
        names = ", ".join(record.run for record in partial)
        raise Refused(f"not attacked in full yet: {names}; `advbench evaluate` goes on")
    for record in partial:
        click.echo(f"left out, not attacked in full yet: {record.method.row} seed {record.seed}", err=True)
    if not whole:
        raise Refused(f"{store.root}: no finished run to publish")
    changed = publishing.publish(whole, records, replace=replace)
    for path in changed:
        click.echo(f"wrote {path}")
    if len(changed) < len(whole):
        click.echo(f"{len(whole) - len(changed)} records were published already")


def _record(store: "Store", run: str) -> "Record":
    """Return the record of a run.

    Raises:
        Refused: if it has none.
    """
    folder = store.find(run)
    record = folder.record()
    if record is None:
        raise Refused(f"{folder.spec.label} has no whole record; `advbench evaluate {folder.id[:8]}` makes one")
    return record


def _complete(record: "Record") -> bool:
    """Whether every column of every checkpoint was measured; a run that diverged may lack both checkpoints."""
    from advbench.benchmark.records import COLUMNS

    evaluations = [checkpoint.evaluation for checkpoint in record.checkpoints.values()]
    measured = all(column in evaluation.columns for evaluation in evaluations for column in COLUMNS)
    return measured and (bool(evaluations) or record.training.diverged is not None)


def collect(records: Path | None, store_root: Path | None, protocol: "Protocol | None") -> "list[list[Record]]":
    """Return the records by protocol digest, from a folder or the store.

    Raises:
        Refused: if there is none.
    """
    from advbench.benchmark.cli.writing import measured
    from advbench.leaderboards import board

    if records is not None:
        found, place = board.load_records(records), records
    else:
        store = open_store(store_root)
        found = [record for _, record in store.records() if measured(record) or record.training.diverged is not None]
        place = store.root
    if protocol is not None:
        found = [record for record in found if record.protocol_digest == protocol.digest]
    if not found:
        of = "" if protocol is None else f" of {protocol.name}"
        raise Refused(f"{place}: no records{of}; `advbench run-all` makes some, --records reads another folder")
    return list(board.group(found).values())


def protocol_of(records: "list[Record]") -> "Protocol":
    """Return the protocol that records of one digest hold."""
    from advbench.benchmark.protocol import Protocol

    return Protocol.from_plain(records[0].protocol, f"record {records[0].run}")
