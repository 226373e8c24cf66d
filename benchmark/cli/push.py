"""`advbench push`: a run to a repository of the Hugging Face hub."""

from pathlib import Path

import click

from advbench.benchmark.cli.options import RUN, flag, open_store, store_folder


@click.command(short_help="Push a run to the Hugging Face hub.")
@click.argument("run", type=RUN)
@click.argument("repository")
@flag("--private", help="Make the repository private, if it is made now.")
@store_folder
def push(*, run: str, repository: str, private: bool, store_root: Path | None) -> None:
    """Push RUN to REPOSITORY (owner/name): its record, both networks, and a model card with the record's figures.

    The repository is made if there is none; `hf auth login` says who you are. Needs advbench[hub].

    \b
    Example:
      advbench push 3fa9 me/trades-digits
    """
    from advbench.benchmark.runs import hub

    click.echo(f"pushed to {hub.push(open_store(store_root).find(run), repository, private=private)}")
