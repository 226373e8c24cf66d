"""Rank sets on boards: the published case of DYNAT, provisional rows, cautions, the Pareto front, stochastic order."""

from pathlib import Path

import numpy as np

from advbench.benchmark.protocol import Protocol, resolve
from advbench.benchmark.records.rank_sets import rank
from advbench.benchmark.records.schema import Flag
from advbench.leaderboards import board

MASKED = Flag(name="zero-gradients", kind="masking", state="raised")
CAUTION = Flag(name="autoattack-far-below-pgd", kind="masking", state="raised")
RECORDS = Path(__file__).parents[2] / "leaderboards" / "records" / "digits-linf-full-1"


def row(table, label):
    (found,) = [one for one in table.rows if one.label == label and one.checkpoint == "best"]
    return found


def said(table) -> str:
    return " ".join(note.text for note in table.notes)


def test_rank_sets_are_those_of_the_statistics(board_records):
    table = board.build(board_records)
    outcomes = {}
    for record in board_records:
        correct = record.checkpoints["best"].evaluation.columns["autoattack"].correct
        outcomes.setdefault(record.method.row, []).append(correct)
    expected = rank({name: np.stack(several) for name, several in outcomes.items()}, seeds=3, alpha=0.05)
    best = [one for one in table.rows if one.checkpoint == "best"]
    assert [one.label for one in best] == list(expected.order)
    assert {one.label: one.cells["rank"].interval for one in best} == {
        name: (found.low, found.high) for name, found in expected.sets.items()
    }
    assert {one.label for one in best if one.cells["autoattack"].bold} == {
        name for name, found in expected.sets.items() if found.low == 1
    }
    lows = sorted({found.low for found in expected.sets.values()})
    assert {one.cells["rank"].mean for one in best if one.cells["autoattack"].second} == {lows[1]}
    assert all(one.cells["rank"].state == "not applicable" for one in table.rows if one.checkpoint == "last")
    assert not any(cell.bold for one in table.rows if one.checkpoint == "last" for cell in one.cells.values())


def test_dynats_noise_does_not_lift_it_and_act_is_ranked_with_a_caution():
    """digits-linf-full/1: the largest p over pairings of seeds once ranked DYNAT, 57.7 ± 10.0, first, above D2R."""
    table = board.build(board.load_records(RECORDS))
    ranked = [one for one in table.rows if one.checkpoint == "best" and one.rank]
    assert {one.label: one.rank for one in ranked} == {
        **dict.fromkeys(("MART", "SGLR", "PGD-AT", "TRADES"), "1–4"),
        "D2R": "5",
        **dict.fromkeys(("DYNAT", "ACT"), "6–7"),
        "Standard": "8",
    }
    assert [one.label for one in ranked if one.cells["rank"].bold] == ["MART", "SGLR", "PGD-AT", "TRADES"]
    assert [one.label for one in ranked if one.cells["rank"].second] == ["D2R"]
    act = row(table, "ACT")
    assert {key for key, cell in act.cells.items() if cell.sign == "¶"} == {"pgd20", "pgd100"}
    assert act.marks == ("caution",)
    assert act.signs == ""
    assert "ACT, MLCAT-LS, AdaAD, RSLAD, ARD: caution: autoattack-far-below-pgd (PGD-20, PGD-100)." in said(table)
    assert "DYNAT: its seeds scatter more" in said(table)
    assert "Smallest difference that this board finds with power 0.8: 7.0 points" in said(table)
    provisional = [one.label for one in table.rows if one.cells["rank"].state == "provisional"]
    assert len(provisional) == 19
    assert [one.label for one in table.rows if one.checkpoint == "best"] == [one.label for one in ranked] + provisional


def test_a_board_of_too_few_seeds_says_that_it_has_no_ranks(make_record):
    """Three rows of three seeds hold six degrees of freedom; rows are ordered by their means all the same."""
    complete = [make_record(name, seed=seed) for name in ("pgd_at", "trades", "standard") for seed in (0, 1, 2)]
    table = board.build([*complete, make_record("mart")])
    assert table.marks == ("no ranks yet",)
    cells = {one.label: one.cells["rank"] for one in table.rows if one.checkpoint == "best"}
    assert [cell.state for cell in cells.values()] == ["no ranks"] * 3 + ["provisional"]
    assert "6 pooled degrees of freedom" in cells["TRADES"].reason
    assert list(cells)[-2:] == ["Standard", "MART"]
    assert "complete rows hold 6" in said(table)
    assert "fewer than the protocol's 3 seeds: MART." in said(table)
    assert not any(cell.bold or cell.second for one in table.rows for cell in one.cells.values())


def test_nothing_is_bold_where_no_row_is_beaten(make_record):
    names = {f"m{number}": f"M{number}" for number in range(4)}
    table = board.build(
        [make_record(name, seed=seed, label=text) for name, text in names.items() for seed in (0, 1, 2)]
    )
    assert {one.rank for one in table.rows if one.checkpoint == "best"} == {"1–4"}
    assert not any(cell.bold or cell.second for one in table.rows for cell in one.cells.values())


def test_the_pareto_mark_is_of_ranked_rows_without_teachers(board_records, make_record):
    """Passes are the same in all made-up records: only a record with fewer changes that."""

    def cheap(record, forward, *, teachers=False):
        passes = record.training.passes.model_copy(update={"forward": forward})
        update = {"passes": passes} | ({} if teachers else {"teachers": {}})
        return record.model_copy(update={"training": record.training.model_copy(update=update)})

    by_label = {"PGD-AT": 5_000, "MART": 9_000, "TRADES": 9_000}
    records = [cheap(one, by_label.get(one.method.row, 12_000)) for one in board_records]
    records += [
        cheap(make_record("taught", seed=seed, teachers=True, label="Taught"), 1, teachers=True) for seed in (0, 1, 2)
    ]
    table = board.build([*records, cheap(make_record("fast", label="Fast", shares={"autoattack": 0.9}), 1)])
    ranked = {one.label: one for one in table.rows if one.rank and one.checkpoint == "best"}
    found = {label for label, one in ranked.items() if one.cells["rank"].sign == "◇"}
    points = {label: (one.cells["passes"].mean, one.cells["autoattack"].mean) for label, one in ranked.items()}
    del points["Taught"]
    assert found == {
        label
        for label, (cost, robust) in points.items()
        if not any(one != (cost, robust) and one[0] <= cost and one[1] >= robust for one in points.values())
    }
    assert {"PGD-AT", "TRADES"} <= found
    assert not found & {"Taught", "Fast"}
    assert found < set(points)


def test_a_caution_marks_its_columns_and_leaves_the_rank(board_records, make_record):
    records = [*board_records, *(make_record("fat", seed=seed, label="FAT", flags=(CAUTION,)) for seed in (0, 1, 2))]
    found = row(board.build(records), "FAT")
    assert found.rank
    assert {key: cell.reason for key, cell in found.cells.items() if cell.sign == "¶"} == dict.fromkeys(
        ("pgd20", "pgd100"), "caution: autoattack-far-below-pgd"
    )


def test_few_images_turn_a_comparison_of_columns_into_a_caution(board_records, make_record):
    """360 digits: Square's gain withholds nothing by itself, and does beside a flag that compares no columns."""
    gain = Flag(name="square-gain", kind="masking", state="raised")
    records = [*board_records, *(make_record("fat", seed=seed, label="FAT", flags=(gain,)) for seed in (0, 1, 2))]
    records += [make_record("hat", seed=seed, label="HAT", flags=(gain, MASKED)) for seed in (0, 1, 2)]
    table = board.build(records)
    assert row(table, "FAT").rank
    assert row(table, "FAT").cells["autoattack"].sign == "¶"
    assert row(table, "HAT").cells["rank"].state == "withheld"


def test_five_seeds_show_almost_stochastic_order_beside_the_rank(make_record):
    mine = Protocol.from_plain(
        {**resolve("digits-linf-full/1").canonical(), "name": "mine/1", "seeds": [0, 1, 2, 3, 4]}
    )
    names = ("pgd_at", "trades", "standard")
    table = board.build([make_record(name, seed=seed, protocol=mine) for name in names for seed in range(5)])
    assert [column.key for column in table.columns][:2] == ["rank", "stochastic"]
    assert {name: row(table, name).cells["stochastic"].mean for name in ("TRADES", "PGD-AT", "Standard")} == {
        "TRADES": 1,
        "PGD-AT": 2,
        "Standard": 3,
    }
    assert {one.cells["stochastic"].state for one in table.rows if one.checkpoint == "last"} == {"not applicable"}
    assert "almost stochastic order" in said(table)
    three = board.build([make_record(name, seed=seed) for name in (*names, "mart") for seed in (0, 1, 2)])
    assert "stochastic" not in {column.key for column in three.columns}
