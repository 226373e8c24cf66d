"""Divisions of a board: parts that are ordered and ranked within themselves, the same in every format."""

import csv
import dataclasses
import io
import re

import pytest

from advbench.benchmark.cli import compare
from advbench.benchmark.protocol import resolve
from advbench.benchmark.recipe import Recipe
from advbench.benchmark.records import publish
from advbench.benchmark.records.tuning import Trial, Tuning
from advbench.leaderboards.board import build, load_records
from advbench.leaderboards.frame import tidy
from advbench.leaderboards.table import BoardError, select_all
from advbench.leaderboards.writers import csv as csv_writer
from advbench.leaderboards.writers import html, latex, markdown, terminal

SEEDS = (0, 1, 2)
DECAY = Recipe(weight_decay=2e-4)
TITLES = ("digits-linf-full/1, own recipes", "digits-linf-full/1, tuned among 2 settings")


def tuning(best: tuple[dict, Recipe | None]) -> Tuning:
    """A default with 50 % on validation and a setting with 60 %, or 40 % where the default is the choice."""
    other = best if best != ({}, None) else ({"beta": 1.0}, None)
    scores = (0.5, 0.6 if other is best else 0.4)
    trials = (
        Trial(dict(values), recipe, ("a" * 16,), (score,), seconds=1800.0, forwards=2_500_000)
        for (values, recipe), score in zip((({}, None), other), scores, strict=True)
    )
    return Tuning((1000,), {"lr": (0.1,), "weight_decay": (2e-4, 5e-4)}, {}, tuple(trials), int(other is best))


@pytest.fixture(scope="module")
def closed(make_record):
    return [make_record(name, seed=seed) for name in ("pgd_at", "trades", "mart", "sglr") for seed in SEEDS]


@pytest.fixture(scope="module")
def records(make_record, closed):
    """The closed division, TRADES and PGD-AT tuned (PGD-AT's default was the best), and MART by its own recipe."""

    def other(name, seed, shift, values=None, **about):
        more = {"hyperparameters": {"beta": 3.0}, "changed": values} if values else {}
        made = make_record(name, seed=seed, shift=shift, **more)
        return made.model_copy(update={"run": f"{name[:4]}-{about['division'][:5]}-{seed}", **about})

    trades, pgd_at = tuning(({"beta": 3.0}, DECAY)), tuning(({}, None))
    tuned = {"division": "tuned", "recipe": DECAY, "tuning": trades}
    return [
        *closed,
        *(other("trades", seed, 0.05, {"beta": 3.0}, **tuned) for seed in SEEDS),
        *(other("pgd_at", seed, 0.0, division="tuned", tuning=pgd_at) for seed in SEEDS),
        *(other("mart", seed, 0.2, division="own-recipe", recipe=Recipe(lr=0.01, epochs=120)) for seed in SEEDS),
    ]


@pytest.fixture(scope="module")
def board(records):
    return build(records)


def test_what_stands_in_other_divisions_changes_nothing_in_the_closed_one(board, closed):
    alone = build(closed)
    assert dataclasses.replace(board, parts=()) == alone
    assert not alone.parts
    for write in (markdown.write, csv_writer.write, latex.write):
        assert write(dataclasses.replace(board, parts=())) == write(alone)


def test_each_division_is_ordered_and_ranked_within_itself(board):
    assert tuple(part.title.partition(" (")[0] for part in board.parts) == TITLES
    own, tuned = board.parts
    assert [row.label for row in own.rows] == ["MART", "MART"]
    assert [row.label for row in tuned.rows] == ["TRADES", "TRADES", "PGD-AT", "PGD-AT"]
    assert set(tuned.ranking.order) == {row.key for row in tuned.rows}
    assert {row.division for row in tuned.rows} == {"tuned"}
    assert not {row.key for row in board.rows} & {row.key for part in board.parts for row in part.rows}


def test_a_tuned_row_shows_the_default_the_gain_the_curve_and_the_cost(board):
    rows = {(row.label, row.checkpoint): row.cells for row in board.parts[1].rows}
    trades, pgd_at = rows["TRADES", "best"], rows["PGD-AT", "best"]
    default = next(row for row in board.rows if (row.label, row.checkpoint) == ("TRADES", "best"))
    assert trades["settings"].text == "beta=3.0, weight decay 0.0002"
    assert trades["default"].values == default.cells["autoattack"].values
    assert trades["gain"].values == pytest.approx(
        [a - b for a, b in zip(trades["autoattack"].values, trades["default"].values, strict=True)]
    )
    assert trades["best_of"].text == "55.0, 57.5"
    assert (trades["trial_hours"].mean, trades["trial_passes"].mean) == (1.0, 5.0)
    assert pgd_at["settings"].text == "default"
    assert pgd_at["gain"].values == (0.0, 0.0, 0.0)
    assert rows["TRADES", "last"]["best_of"].state == "not applicable"
    assert board.parts[0].rows[0].cells["settings"].text == "lr 0.01, 120 epochs"
    assert any("drawn from the trials with replacement" in note.text for note in board.parts[1].notes)


def test_without_the_closed_row_there_is_no_gain(records):
    (tuned,) = build([record for record in records if record.division == "tuned"]).whole
    assert {row.cells["gain"].state for row in tuned.rows} == {"missing"}


def test_every_format_has_every_division_as_a_part_of_its_own(board):
    text = markdown.write(board)
    assert [line.partition(" (")[0] for line in text.splitlines() if line.startswith("### ")] == [
        f"### {name}" for name in ("digits-linf-full/1", *TITLES)
    ]
    assert len(re.findall(r"\\begin\{table\}", latex.write(board))) == 3
    assert r"\label{tab:advbench-2}" in latex.write(board)
    assert "Gain" in latex.write(board)
    page = html.write(board)
    assert all(f">{title} " in page for title in TITLES)
    assert len(set(re.findall(r'<h2 class="board-name" id="([^"]+)"', page))) == 3
    rows = list(csv.DictReader(io.StringIO(csv_writer.write(board))))
    assert {row["division"] for row in rows} == {"closed", "tuned", "own-recipe"}
    for row in rows:
        assert (row["gain"] != "") == (row["division"] == "tuned")
    shown = "".join(terminal.write(part, width=200) for part in board.whole)
    assert all(title in shown for title in TITLES)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ({"division": "tuned"}, ["TRADES", "PGD-AT"]),
        ({"division": "own-recipe"}, ["MART"]),
        ({"methods": ["mart"]}, ["MART", "MART"]),
        ({"methods": ["sglr"]}, ["SGLR"]),
        ({"columns": ["method", "gain", "autoattack"], "division": "tuned"}, ["TRADES", "PGD-AT"]),
        ({"sort": "gain:asc", "division": "tuned"}, ["PGD-AT", "TRADES"]),
    ],
)
def test_filters_reach_every_part(board, wanted, left):
    (chosen,) = select_all([board], **wanted)
    assert [row.label for part in chosen.whole for row in part.rows if row.checkpoint == "best"] == left
    assert board.select(**wanted) == chosen


def test_a_column_that_is_nowhere_is_refused(board):
    with pytest.raises(BoardError, match="no column 'nowhere'"):
        board.select(columns=["nowhere"])


def test_a_frame_has_every_division(records):
    frame = tidy(records, records)
    ranks = frame.groupby("division", observed=True)["rank_low"].max()
    assert set(ranks.index) == {"closed", "tuned", "own-recipe"}
    assert tidy([records[0].model_copy(update={"division": "trial", "run": "t" * 16})], records).empty


def test_a_trial_is_on_no_board(records, board):
    trial = records[0].model_copy(update={"division": "trial", "run": "t" * 16, "seed": 1000})
    assert build([*records, trial]) == board


def test_what_was_trained_in_fp32_where_the_protocol_wants_bf16_is_marked_in_every_format(make_record):
    short = resolve("cifar10-linf-short/2")
    assert short.training.precision == "bf16"
    records = [make_record(name, protocol=short, images=200) for name in ("pgd_at", "trades")]
    training = records[0].training
    used = training.environment.model_copy(update={"precision": "bf16 autocast"})
    records[0] = records[0].model_copy(update={"training": training.model_copy(update={"environment": used})})
    table = build(records, short)
    assert {row.label: row.signs for row in table.rows} == {"PGD-AT": "", "TRADES": "‖"}
    for text in (markdown.write(table), html.write(table), terminal.write(table)):
        assert "TRADES" in text
        assert "‖ trained in fp32" in text
    assert r"\textsuperscript{$\|$}" in latex.write(table)
    assert "precision" in csv_writer.write(table)


def test_a_method_s_name_means_its_closed_row(records):
    for name in ("pgd_at", "mart", "trades"):
        _, found = compare._side(name, records)
        assert [(record.division, record.seed) for record in found] == [("closed", seed) for seed in SEEDS]
    plain = {record.run for record in records if record.plain}
    assert plain == {record.run for record in records if record.division == "closed"}


def test_records_of_a_division_are_published_beside_the_closed_ones_and_trials_never(records, tmp_path):
    places = {publish.destination(record, tmp_path).parent.name for record in records if record.division != "closed"}
    assert places == {"trades-tuned-2x1", "pgd_at-tuned-2x1", "mart-own-recipe"}
    assert len(publish.publish(records, tmp_path)) == len(records)
    assert build(load_records(tmp_path)).parts == build(records).parts
    with pytest.raises(publish.PublishError, match="on no board"):
        publish.publish([records[0].model_copy(update={"division": "trial"})], tmp_path / "other")
