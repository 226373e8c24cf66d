"""What a board says about records: means over seeds, ranks and what withholds them, marks, refusals."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from advbench.benchmark.protocol import ExtraData, Protocol, Threat, resolve
from advbench.benchmark.records.schema import Flag, RecordError
from advbench.benchmark.records.statistics import wilson
from advbench.leaderboards import board, load_frame
from advbench.leaderboards.frame import DTYPES
from advbench.leaderboards.table import BoardError

MASKED = Flag(name="zero-gradients", kind="masking", state="raised")


def row(table, label, checkpoint="best"):
    (found,) = [one for one in table.rows if one.label == label and one.checkpoint == checkpoint]
    return found


def said(table) -> str:
    return " ".join(note.text for note in table.notes)


def test_cells_are_means_over_seeds_in_percent(board_records):
    table = board.build(board_records)
    trades = [record for record in board_records if record.method.row == "TRADES"]
    for checkpoint in ("best", "last"):
        cells = row(table, "TRADES", checkpoint).cells
        for column in ("clean", "pgd20", "pgd100", "cw", "autoattack", "worst"):
            shares = [100 * one.checkpoints[checkpoint].evaluation.accuracy(column) for one in trades]
            assert cells[column].mean == pytest.approx(np.mean(shares))
            assert cells[column].sd == pytest.approx(np.std(shares, ddof=1))
            assert cells[column].n == 3
    found = row(table, "TRADES").cells
    ratios, gaps = [], []
    for one in trades:
        best, last = one.checkpoints["best"].evaluation, one.checkpoints["last"].evaluation
        clean, robust = best.accuracy("clean"), best.accuracy("autoattack")
        ratios.append(200 * clean * robust / (clean + robust))
        gaps.append(100 * (robust - last.accuracy("autoattack")))
    assert found["nrr"].values == pytest.approx(ratios)  # noqa: PD011 (no frame)
    assert found["gap_autoattack"].values == pytest.approx(gaps)  # noqa: PD011
    assert found["passes"].mean == 24.0
    assert found["hours"].mean == pytest.approx(sum(one.training.seconds for one in trades) / 3 / 3600)


def test_a_missing_attack_is_missing_and_unranked(make_record):
    records = [make_record("pgd_at", seed=seed) for seed in (0, 1)]
    records += [make_record("trades", seed=0), make_record("trades", seed=1, without=("autoattack",))]
    table = board.build(records)
    cells = row(table, "TRADES").cells
    assert (cells["autoattack"].n, cells["clean"].n) == (1, 2)
    assert cells["autoattack"].sd is None
    assert cells["worst"].n == cells["nrr"].n == 1
    assert cells["rank"].state == "unranked"
    assert "seed 1" in cells["rank"].reason
    table = board.build([make_record("pgd_at", without=("autoattack",))])
    cells = row(table, "PGD-AT").cells
    assert {cells[key].state for key in ("autoattack", "worst", "nrr", "gap_autoattack")} == {"missing"}


def test_masking_withholds_the_rank_and_keeps_the_numbers(make_record):
    records = [make_record("pgd_at", seed=seed) for seed in (0, 1)]
    records += [make_record("trades", seed=0), make_record("trades", seed=1, flags=(MASKED,))]
    table = board.build(records)
    masked = row(table, "TRADES")
    assert masked.cells["rank"].state == "withheld"
    assert masked.cells["autoattack"].n == 2
    assert masked.signs == "†"
    assert "raised: zero-gradients" in masked.cells["flags"].text
    assert "TRADES: rank withheld" in said(table)
    assert masked.key not in (*table.ranking.order, *table.ranking.provisional)


def test_a_validity_flag_is_not_called_masked(make_record):
    flag = Flag(name="selection", kind="validity", state="raised")
    table = board.build([make_record("pgd_at"), make_record("trades", flags=(flag,))])
    assert row(table, "TRADES").cells["rank"].state == "unranked"
    assert row(table, "TRADES").signs == "§"


def test_flags_that_were_not_run_are_said(make_record):
    flag = Flag(name="transfer-beats-white-box", kind="masking", state="not run", reason="no peer")
    table = board.build([make_record("pgd_at", flags=(flag,))])
    assert row(table, "PGD-AT").cells["flags"].text == "1 of 1 not run"
    assert "transfer-beats-white-box (no peer)" in said(table)


@pytest.mark.parametrize(
    "change",
    [
        {"diverged": True},
        {"shares": {"clean": 0.15}},
        {"shares": {"pgd20": 0.02, "pgd100": 0.02, "cw": 0.02, "autoattack": 0.02}},
        {"flags": (Flag(name="collapsed", kind="validity", state="raised"),)},
    ],
)
def test_collapsed_seeds_are_shown_and_too_many_unrank(board_records, make_record, change):
    records = [one for one in board_records if one.run != make_record("pgd_at", seed=2).run]
    table = board.build([*records, make_record("pgd_at", seed=2, **change)])
    found = row(table, "PGD-AT")
    assert found.cells["seeds"].text == "1 collapsed"
    assert found.signs == "‡"
    assert found.cells["rank"].state == ("provisional" if change.get("diverged") else "measured")
    assert "seed 2 collapsed" in said(table)
    all_of_them = [make_record("pgd_at", seed=seed, **change) for seed in (0, 1)]
    cells = row(board.build(all_of_them), "PGD-AT").cells
    assert cells["rank"].state == "unranked"
    assert cells["autoattack"].state == ("collapsed" if change.get("diverged") else "measured")


def test_standard_training_has_no_gap_and_does_not_collapse_by_robustness(make_record):
    found = row(board.build([make_record("standard")]), "Standard")
    assert found.cells["gap_pgd20"].state == "not applicable"
    assert found.marks == ()


def test_one_seed_has_a_wilson_interval_and_says_what_it_covers(make_record):
    record = make_record("trades")
    table = board.build([record, make_record("standard")])
    outcomes = record.checkpoints["best"].evaluation.columns["autoattack"]
    cell = row(table, "TRADES").cells["autoattack"]
    expected = wilson(int(outcomes.correct.sum()), outcomes.n)
    assert cell.interval == pytest.approx((100 * expected.low, 100 * expected.high))
    assert row(table, "TRADES").cells["nrr"].interval is None
    assert "draw of test images only" in said(table)
    assert "every row that could be ranked. Shown by mean" in said(table)


def test_boards_never_mix_protocols(make_record):
    with pytest.raises(BoardError, match="never mixes protocols"):
        board.build([make_record(), make_record(protocol="digits-linf/1")])
    with pytest.raises(BoardError, match="never mixes protocols"):
        board.build([make_record()], resolve("digits-linf/1"))
    assert len(board.group([make_record(), make_record(protocol="digits-linf/1"), make_record(seed=1)])) == 2


def test_a_record_that_lies_about_its_protocol_is_refused(make_record):
    record = make_record()
    changed = replace(record.protocol, threat=Threat(norm="linf", eps=Fraction(1, 255)))
    with pytest.raises(BoardError, match="does not have the digest"):
        board.build([make_record(seed=1), record.model_copy(update={"protocol": changed})])


def test_duplicates_are_refused(make_record):
    with pytest.raises(BoardError, match="2 records of PGD-AT with seed 0"):
        board.build([make_record(), make_record()])


def test_an_empty_board_needs_its_protocol():
    with pytest.raises(BoardError, match="no records"):
        board.build([])
    table = board.build([], resolve("digits-linf/1"))
    assert table.rows == ()
    assert "No record" in said(table)


def test_marks_of_unofficial_unverified_and_subset(make_record):
    plain = resolve("digits-linf/1").canonical()
    mine = Protocol.from_plain({**plain, "name": "mine/1", "data": {**plain["data"], "test_limit": 50}})
    table = board.build([make_record(protocol=mine, verified=False, images=50)])
    assert table.marks == ("unofficial protocol", "unverified data", "subset of the data", "no ranks yet")
    assert "(unofficial)" in said(table)
    assert row(table, "PGD-AT").cells["data"].text == "unverified, subset"
    assert "Low power" in said(table)
    assert board.build([make_record()]).marks == ("no ranks yet",)


def test_rows_on_other_images_are_not_paired(make_record):
    records = [make_record("pgd_at", seed=0), make_record("trades", seed=0)]
    table = board.build([*records, make_record("mart", data_digest="other")])
    assert "cannot be paired" in row(table, "MART").cells["rank"].reason
    assert row(table, "TRADES").cells["rank"].state == "provisional"


def test_open_division_is_not_ranked_among_the_closed_one(make_record):
    entry = make_record("trades").model_copy(update={"division": "open"})
    table = board.build([make_record("pgd_at"), entry])
    assert row(table, "TRADES").cells["rank"].state == "unranked"
    assert "open division" in row(table, "TRADES").notes


def test_extra_data_are_marked_and_never_ranked(make_record):
    extra = ExtraData("edm.npz", "0" * 64, 1000, Fraction(7, 10))
    plain = resolve("digits-linf-full/1")
    protocol = replace(plain, name="mine", data=replace(plain.data, extra=extra))
    table = board.build([make_record(name, protocol=protocol) for name in ("pgd_at", "trades")])
    assert "extra data" in table.marks
    for label in ("PGD-AT", "TRADES"):
        assert row(table, label).cells["rank"].state == "unranked"
        assert "extra data: edm.npz, 1000 images, 7/10 of every batch" in row(table, label).notes


def test_hours_are_named_after_the_device_and_include_teachers(make_record):
    gpu = make_record("act", device="NVIDIA H200", teachers=True)
    table = board.build([gpu])
    assert table.column("hours").unit == "GPU-h"
    cells = row(table, "ACT").cells
    assert cells["teacher_hours"].mean == pytest.approx(0.01)
    assert cells["hours"].mean == pytest.approx((gpu.training.seconds + 36) / 3600)
    mixed = board.build([gpu, make_record("pgd_at")])
    assert mixed.column("hours").unit == ""
    assert row(mixed, "ACT").cells["hours"].unit == "GPU-h"
    assert row(mixed, "PGD-AT").cells["hours"].unit == "CPU-h"
    with pytest.raises(BoardError, match="no column"):
        board.build([make_record("pgd_at")]).column("teacher_hours")


def test_autoattack_with_few_classes_is_marked(make_record):
    table = board.build([make_record(classes=5)])
    assert table.column("autoattack").label == "AutoAttack, not standard"
    assert "not standard" in said(table)


def test_variants_with_one_label_are_told_apart(make_record):
    table = board.build([make_record(hyperparameters={"beta": 1.0}), make_record(hyperparameters={"beta": 2.0})])
    labels = {one.label for one in table.rows}
    assert len(labels) == 2
    assert all(label.startswith("PGD-AT [") for label in labels)


def test_selection_keeps_the_ranks_of_the_board(board_records):
    table = board.build(board_records)
    chosen = table.select(columns=["method", "autoattack", "rank"], methods=["pgd_at"], checkpoints=["best"])
    assert [one.label for one in chosen.rows] == ["PGD-AT"]
    assert chosen.rows[0].cells["rank"] == row(table, "PGD-AT").cells["rank"]
    assert "6 methods of the board are not shown" in said(chosen)
    for wrong in ({"columns": ["aa"]}, {"methods": ["nobody"]}, {"checkpoints": ["middle"]}):
        with pytest.raises(BoardError):
            table.select(**wrong)


def test_load_frame_is_tidy_and_typed(board_records, make_record, tmp_path):
    for record in [*board_records, make_record("fat", seed=0, without=("cw",))]:
        folder = tmp_path / record.method.name
        folder.mkdir(exist_ok=True)
        (folder / f"{record.run}.json").write_text(record.dumps(), encoding="utf-8")
    frame = load_frame(tmp_path)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
    assert not frame.duplicated(["run", "checkpoint", "metric"]).any()
    one = frame.query("variant == 'TRADES' and checkpoint == 'best' and metric == 'autoattack'")
    table = board.build(board_records)
    assert sorted(one["value"]) == pytest.approx(sorted(row(table, "TRADES").cells["autoattack"].values))
    ends = {tuple(pair) for pair in one[["rank_low", "rank_high"]].itertuples(index=False)}
    assert ends == {row(table, "TRADES").cells["rank"].interval}
    assert frame.query("method == 'fat'")["rank_low"].isna().all()
    missing = frame.query("method == 'fat' and metric in ('cw', 'worst')")
    assert len(missing) == 4
    assert missing["value"].isna().all()
    assert isinstance(frame, pd.DataFrame)


def test_load_frame_says_what_is_wrong(make_record, tmp_path):
    with pytest.raises(BoardError, match="no such records folder"):
        load_frame(tmp_path / "nowhere")
    with pytest.raises(BoardError, match="no record"):
        load_frame(tmp_path)
    plain = json.loads(make_record().dumps())
    plain["seed"] = -1
    (tmp_path / "broken.json").write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(RecordError, match=r"broken\.json: not a valid record: seed"):
        load_frame(tmp_path / "broken.json")


@pytest.mark.parametrize(
    "broken", [b"\xff\xfe", b"{", b"[" * 100_000, b'{"seed": 1e999}', b'{"seed": "\\u202e"}', b"3"]
)
@pytest.mark.parametrize("name", ["seed1.json", "corrections.json"])
def test_a_broken_file_costs_its_own_row_only(make_record, tmp_path, caplog, broken, name):
    for folder, method in (("fine", "trades"), ("broken", "pgd_at")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "seed0.json").write_text(make_record(method).dumps(), encoding="utf-8")
    (tmp_path / "broken" / name).write_bytes(broken)
    methods = {record.method.name for record in board.load_records(tmp_path)}
    assert methods == ({"trades", "pgd_at"} if name == "seed1.json" else {"trades"})
    assert "left out" in caplog.text
    assert str(tmp_path / "broken" / name) in caplog.text


def test_boards_need_neither_torch_nor_pandas():
    code = (
        "import sys\n"
        "from advbench.leaderboards import bibtex, board\n"
        "from advbench.leaderboards.writers import csv, html, latex, markdown, terminal\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
