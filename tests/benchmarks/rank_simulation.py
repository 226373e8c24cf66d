"""Simulate levels and power of the ranking rule, version 1 beside version 2, and write the tables into a document.

    python tests/benchmarks/rank_simulation.py --write docs/statistics.md

Without --write the tables are printed; --share 0.05 simulates a twentieth of the boards. The whole takes some ten
minutes of one core. docs/statistics.md describes the model.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rank_rule_v1 import winners

from advbench.benchmark.records.rank_sets import POOLED_DF, rank
from advbench.benchmark.records.variation import detectable_difference

BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"
ALPHA = 0.05
BASE = 0.7
"""Mean accuracy of a row that is neither better nor worse."""
SPREAD = 0.3
"""a + b of the Beta distribution of difficulty: seeds of one method disagree on 9.7 % of images (digits: 5 to 9)."""
SHARED = 0.95
"""Share of the images whose difficulty a row has from the pool that all rows share; the others it draws by itself."""
SEED_SD = 0.003
"""Deviation of the accuracy over seeds beyond what images add."""
DRAWS = 200
"""Bootstrap draws of version 1."""
SEEDS, IMAGES, ROWS = (1, 2, 3, 5, 10), (360, 1000, 10_000), (2, 10, 27)
LEVEL_BOARDS = {360: 600, 1000: 600, 10_000: 300}
"""Boards simulated for each line of the table of levels, by number of images; half as many for the other tables."""
OLD_BOARDS = {360: 60, 1000: 60, 10_000: 15}
"""How many of them version 1 judges too; it is slower."""


@dataclass(frozen=True)
class Setting:
    """Boards of one kind: for each row true accuracy, number of seeds and deviation over seeds."""

    images: int
    means: tuple[float, ...]
    seeds: tuple[int, ...]
    sds: tuple[float, ...]

    @classmethod
    def equal(cls, rows: int, seeds: int, images: int, *better: float) -> "Setting":
        """Rows of the same noise, of which the first are better by some amounts."""
        means = (*(BASE + amount for amount in better), *[BASE] * (rows - len(better)))
        return cls(images, means, (seeds,) * rows, (SEED_SD,) * rows)

    def draw(self, draws: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the outcomes of one board."""
        shared = self.difficulty(draws, self.images)
        return {str(row): self.row(draws, shared, row) for row in range(len(self.means))}

    def row(self, draws: np.random.Generator, shared: np.ndarray, row: int) -> np.ndarray:
        """Draw the outcomes of one row; its chances have the row's mean plus the seed's effect exactly."""
        own = draws.random(self.images, dtype=np.float32) >= SHARED
        chances = shared.copy()
        chances[own] = self.difficulty(draws, int(own.sum()))
        outcomes = np.empty((self.seeds[row], self.images), dtype=np.bool_)
        for seed in range(self.seeds[row]):
            shift = np.float32(self.means[row] - BASE + self.sds[row] * draws.standard_normal())
            up = chances + shift / np.float32(1 - BASE) * (1 - chances)
            shifted = up if shift > 0 else chances * (1 + shift / np.float32(BASE))
            np.less(draws.random(self.images, dtype=np.float32), shifted, out=outcomes[seed])
        return outcomes

    @staticmethod
    def difficulty(draws: np.random.Generator, images: int) -> np.ndarray:
        """Draw the chance of each image to be classified correctly."""
        return draws.beta(SPREAD * BASE, SPREAD * (1 - BASE), images).astype(np.float32)


@dataclass(frozen=True)
class Verdict:
    """Who beats whom on a board, [better, worse], and whose rank may be 1; None where methods are not ranked."""

    wins: np.ndarray
    first: np.ndarray


def new_rule(rows: dict[str, np.ndarray], setting: Setting) -> Verdict | None:
    """Judge by rank sets; the protocol asks as many seeds as the row with the fewest has."""
    ranking = rank(rows, seeds=min(setting.seeds), alpha=ALPHA)
    if not ranking.ranks_methods:
        return None
    wins = np.zeros((len(rows), len(rows)), dtype=np.bool_)
    for one in ranking.comparisons:
        wins[int(one.better), int(one.worse)] = one.holds
    return Verdict(wins, np.array([ranking.sets[name].bold for name in rows]))


def old_rule(rows: dict[str, np.ndarray], _setting: Setting) -> Verdict:
    """Judge by version 1: the largest McNemar p over all pairings of seeds, Holm, bootstrap."""
    wins = np.zeros((len(rows), len(rows)), dtype=np.bool_)
    for winner, loser in winners(rows, alpha=ALPHA, draws=DRAWS, seed=0):
        wins[int(winner), int(loser)] = True
    return Verdict(wins, ~wins.any(axis=0))


Measure = Callable[[Verdict], float]


def any_win(verdict: Verdict) -> float:
    """Whether the board holds any claim: all are false where all methods are equal."""
    return float(verdict.wins.any())


def won_by_first(verdict: Verdict) -> float:
    """Whether the first row beats any."""
    return float(verdict.wins[0].any())


def lost_by_first(verdict: Verdict) -> float:
    """Whether any row beats the first."""
    return float(verdict.wins[:, 0].any())


def first_is_bold(verdict: Verdict) -> float:
    """Whether the rank of the first row may be 1."""
    return float(verdict.first[0])


def quiet_loser(setting: Setting) -> Measure:
    """Return a measure of whether a row with the usual noise or less is beaten by any."""
    quiet = np.array(setting.sds) <= SEED_SD
    return lambda verdict: float(verdict.wins[:, quiet].any())


def power(row: int, better: int) -> Measure:
    """Return a measure of the share of the rows that are not better which a better row beats."""
    return lambda verdict: float(verdict.wins[row, better:].mean())


class Simulation:
    """Runs settings at a share of the boards of the published tables."""

    def __init__(self, share: float) -> None:
        self.share = share

    def run(self, setting: Setting, *measures: Measure, part: float = 0.5) -> list[str]:
        """Return for each measure two cells: its mean under version 1 and under version 2."""
        total = max(4, round(LEVEL_BOARDS[setting.images] * part * self.share))
        old_total = max(2, round(OLD_BOARDS[setting.images] * self.share))
        draws = np.random.default_rng([setting.images, len(setting.means), *setting.seeds])
        old, new = list[Verdict](), list[Verdict]()
        for number in range(total):
            rows = setting.draw(draws)
            if number < old_total:
                old.append(old_rule(rows, setting))
            verdict = new_rule(rows, setting)
            if verdict is not None:
                new.append(verdict)
            elif number >= old_total:
                break
        return [_mean(measure, verdicts) for measure in measures for verdicts in (old, new)]


def _mean(measure: Measure, verdicts: list[Verdict]) -> str:
    return f"{np.mean([measure(verdict) for verdict in verdicts]):.3f}" if verdicts else "none"


def table(head: list[str], lines: Iterator[list[str]]) -> str:
    """Format a Markdown table whose columns are right-aligned."""
    rows = [head, ["---:"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def levels(simulation: Simulation) -> Iterator[list[str]]:
    """All methods equal, all noise equal: boards with any claim."""
    for seeds in SEEDS:
        for images in IMAGES:
            cells = [simulation.run(Setting.equal(rows, seeds, images), any_win, part=1) for rows in ROWS]
            yield [str(seeds), f"{images:,}", *(cell for pair in cells for cell in pair)]


def powers(simulation: Simulation) -> Iterator[list[str]]:
    """One method 2 points better, one 5: shares of the others that each of them beats."""
    for seeds in SEEDS:
        for images in IMAGES:
            cells = simulation.run(Setting.equal(2, seeds, images, 0.02), power(0, 1))
            cells += simulation.run(Setting.equal(2, seeds, images, 0.05), power(0, 1))
            for rows in ROWS[1:]:
                cells += simulation.run(Setting.equal(rows, seeds, images, 0.02, 0.05), power(0, 2), power(1, 2))
            yield [str(seeds), f"{images:,}", *cells]


def noisy_rows(simulation: Simulation) -> Iterator[list[str]]:
    """Ten equal methods, the first noisier than the others by a factor: who gains by it, who loses."""
    for seeds in (2, 3, 5):
        for factor in (1, 3, 10):
            for images in (1000, 10_000):
                sds = (factor * SEED_SD, *[SEED_SD] * 9)
                setting = Setting(images, (BASE,) * 10, (seeds,) * 10, sds)
                cells = simulation.run(setting, won_by_first, lost_by_first, first_is_bold)
                yield [str(seeds), f"{factor}", f"{images:,}", *cells]


def unequal(simulation: Simulation) -> Iterator[list[str]]:
    """Ten methods, noise between a third and three times the usual, or numbers of seeds between 3 and 10."""
    spread = tuple(SEED_SD * factor for factor in (1 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 1, 2, 2, 3, 3))
    mixed = (3, 3, 3, 3, 3, 5, 5, 5, 10, 10)
    kinds = (
        ("sd 0.1 to 0.9, 2 seeds", (2,) * 10, spread),
        ("sd 0.1 to 0.9, 3 seeds", (3,) * 10, spread),
        ("sd 0.1 to 0.9, 5 seeds", (5,) * 10, spread),
        ("sd 0.1 to 0.9, 10 seeds", (10,) * 10, spread),
        ("3 to 10 seeds", mixed, (SEED_SD,) * 10),
        ("3 to 10 seeds, the few noisy", mixed, spread[::-1]),
        ("3 to 10 seeds, the many noisy", mixed, spread),
    )
    for name, seeds, sds in kinds:
        for images in (1000, 10_000):
            equal = Setting(images, (BASE,) * 10, seeds, sds)
            level = simulation.run(equal, any_win, quiet_loser(equal))
            means = (BASE + 0.02, *[BASE] * 9)
            yield [name, f"{images:,}", *level, *simulation.run(Setting(images, means, seeds, sds), power(0, 1))]


def bad_rows(simulation: Simulation) -> Iterator[list[str]]:
    """Nine methods at 70 % and a noisy one at 60 %: boards on which the bad one may be first."""
    for seeds in (3, 5):
        for sd in (0.03, 0.06, 0.10):
            setting = Setting(1000, (0.6, *[BASE] * 9), (seeds,) * 10, (sd, *[SEED_SD] * 9))
            yield [str(seeds), f"{100 * sd:.0f}", *simulation.run(setting, first_is_bold)]


def detectable(_simulation: Simulation) -> Iterator[list[str]]:
    """Smallest differences found with power 0.8, in points, by formula."""
    difficulty = BASE * (1 - BASE)
    image_sd = math.sqrt(2 * difficulty / (1 + SPREAD) * (1 - SHARED**2))
    for seeds in (3, 5, 10):
        for images in IMAGES:
            seed_sd = math.sqrt(SEED_SD**2 + difficulty * SPREAD / (1 + SPREAD) / images)
            noise = {"seeds": seeds, "images": images, "seed_sd": seed_sd, "image_sd": image_sd, "alpha": ALPHA}
            found = [
                f"{100 * detectable_difference(rows=rows, **noise):.1f}" if rows * (seeds - 1) >= POOLED_DF else "none"
                for rows in ROWS
            ]
            yield [str(seeds), f"{images:,}", f"{100 * seed_sd:.2f}", *found]


BOTH = ["v1", "v2"]
TABLES: tuple[tuple[str, list[str], Callable[[Simulation], Iterator[list[str]]]], ...] = (
    (
        "Level: boards of equal methods that hold any false claim",
        ["seeds", "images", *(f"{rows} rows {rule}" for rows in ROWS for rule in BOTH)],
        levels,
    ),
    (
        "Power: share of the equal rows beaten by a row that is 2 or 5 points better",
        [
            "seeds",
            "images",
            *(f"{rows} rows, {points} points {rule}" for rows in ROWS for points in (2, 5) for rule in BOTH),
        ],
        powers,
    ),
    (
        "One noisy row among ten equal methods: boards on which it beats any row, is beaten by any, may be first",
        [
            "seeds",
            "times the sd",
            "images",
            *(f"{name} {rule}" for name in ("beats", "is beaten", "may be first") for rule in BOTH),
        ],
        noisy_rows,
    ),
    (
        "Unequal noise or seeds, ten rows: any false claim, any against a quiet row, power for 2 points",
        ["board", "images", *(f"{name} {rule}" for name in ("level", "quiet", "power") for rule in BOTH)],
        unequal,
    ),
    (
        "A noisy method at 60 % among nine at 70 %, 1,000 images: boards on which it may be first",
        ["seeds", "its sd (points)", *BOTH],
        bad_rows,
    ),
    (
        "Smallest difference (points) that version 2 finds with power 0.8, the hardest claim, by formula",
        ["seeds", "images", "sd over seeds (points)", *(f"{rows} rows" for rows in ROWS)],
        detectable,
    ),
)


def document(share: float) -> str:
    """Return all tables and how they were made."""
    began, simulation = time.process_time(), Simulation(share)
    parts = [f"### {title}\n\n{table(head, lines(simulation))}" for title, head, lines in TABLES]
    boards, old = (", ".join(f"{round(of[n] * share)}" for n in IMAGES) for of in (LEVEL_BOARDS, OLD_BOARDS))
    errors = ", ".join(f"{math.sqrt(0.05 * 0.95 / (LEVEL_BOARDS[n] * share)):.3f}" for n in IMAGES)
    minutes = (time.process_time() - began) / 60
    how = (
        f"v1 is version 1 with {DRAWS} bootstrap draws, v2 the rule above; both judge the same boards. Boards for each "
        f"cell with 360, 1,000 and 10,000 images: levels under v2 {boards}, its other tables half as many, v1 {old}. A "
        f"share p has the Monte-Carlo standard error √(p(1 − p)/boards): {errors} for a level of 0.05 under v2. "
        f"`none`: the board ranks no method. Made by `tests/benchmarks/rank_simulation.py` in {minutes:.0f} minutes of "
        f"one core."
    )
    return "\n\n".join([how, *parts])


def main() -> None:
    """Simulate, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="document that holds the markers")
    parser.add_argument("--share", type=float, default=1.0, help="of the boards to simulate")
    arguments = parser.parse_args()
    text = document(arguments.share)
    if arguments.write is None:
        print(text)
        return
    before, rest = arguments.write.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    arguments.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
