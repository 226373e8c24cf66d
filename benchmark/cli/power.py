"""`advbench power`: how many seeds and images tell methods apart?"""

import click

from advbench.benchmark.cli.app import Refused
from advbench.benchmark.cli.console import print_table
from advbench.benchmark.cli.read_records import RecordSource, records_options

SEEDS = (3, 5, 10, 20, 50)
IMAGES = (1_000, 10_000, 50_000)
MOST = 200
"""Seeds beyond which nobody trains."""


@click.command(short_help="Say how many seeds and images tell methods apart.")
@records_options("Where there are several.")
@click.option(
    "--points",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    help="Difference that is to be found.",
)
@click.option("--rows", type=click.IntRange(2), help="Methods of the board.  [default: those with all seeds]")
def power(*, source: RecordSource, points: float, rows: int | None) -> None:
    """Say which differences of AutoAttack a board finds, by seeds and images, from the variances on that board.

    Found means: with power 0.8, in the hardest claim of a board on which all methods vary alike; docs/statistics.md has
    the formula.

    \b
    Examples:
      advbench power --protocol cifar10-linf
      advbench power --protocol digits-linf-full --records leaderboards/records --points 2 --rows 10
    """
    from advbench.leaderboards import board

    records = source.of_one_protocol()
    protocol, ranking = records[0].protocol, board.build(records).ranking
    variation = None if ranking is None else ranking.variation
    if ranking is None or variation is None or len(ranking.order) < 2:
        raise Refused(
            f"{protocol.name}: fewer than two rows with {len(protocol.seeds)} seeds, so nothing is known of its noise; "
            "run more seeds, or look at another board with --protocol"
        )
    methods, alpha = rows or len(ranking.order), protocol.statistics.alpha
    sizes = sorted({variation.images, *IMAGES})
    click.echo(
        f"{protocol.name}, {len(ranking.order)} rows with all seeds: AutoAttack varies by {100 * variation.seeds:.2f} "
        f"points over seeds on {variation.images:,} images."
    )
    click.echo(f"Smallest difference (points) found with power 0.8 on a board of {methods} methods:")
    heads = [f"{images:,} images" for images in sizes]
    print_table(
        ["seeds", *heads],
        [
            (seeds, *(f"{100 * variation.detectable(methods, seeds, alpha, images=images):.1f}" for images in sizes))
            for seeds in SEEDS
        ],
        right=["seeds", *heads],
    )
    for images in sizes:
        needed = variation.seeds_needed(points / 100, methods, alpha, images=images, most=MOST)
        answer = f"more than {MOST} seeds" if needed is None else f"{needed} seeds"
        click.echo(f"{points:g} point{'' if points == 1 else 's'} apart on {images:,} images: {answer}")
