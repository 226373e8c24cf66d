"""What is shown of a board: filters, order, corrections and published numbers, in every format and as frames."""

import csv as reader
import io
import re
from datetime import date
from html.parser import HTMLParser

import pytest

from advbench.benchmark.protocol import resolve
from advbench.benchmark.records.publish import publish, withdraw
from advbench.leaderboards import board, correction_notes, load_frame, load_history, load_published, published_numbers
from advbench.leaderboards.published_numbers import Published, PublishedError
from advbench.leaderboards.table import ELSEWHERE, BoardError, select_all
from advbench.leaderboards.writers import csv, html, latex, markdown, terminal

WHY = "trained with <b>beta</b> = 1 | not 6"


def said(table) -> str:
    return " ".join(note.text for note in table.notes)


def best(table) -> list[str]:
    return [row.label for row in table.rows if row.checkpoint == "best"]


@pytest.fixture(scope="module")
def dated_records(make_record):
    """Five methods of different families, divisions and days."""

    def made(name, day, **more):
        return make_record(name).model_copy(update={"created": f"2026-0{day}-15T10:00:00+00:00", **more})

    records = [made("pgd_at", 1), made("trades", 2), made("act", 3), made("sglr", 4, division="open")]
    return [*records, make_record("fat", without=("autoattack",), label="FAT")]


@pytest.fixture(scope="module")
def dated(dated_records):
    return board.build(dated_records)


class TestFilters:
    @pytest.mark.parametrize(
        ("wanted", "left"),
        [
            ({"family": "two networks"}, {"ACT"}),
            ({"family": ["Two Networks", "label refinement"]}, {"ACT", "SGLR"}),
            ({"division": "open"}, {"SGLR"}),
            ({"division": "closed", "family": "regularised"}, {"TRADES", "FAT"}),
            ({"since": "2026-02-15", "until": date(2026, 3, 15)}, {"TRADES", "ACT"}),
            ({"until": "2026-01-15"}, {"PGD-AT", "FAT"}),
            ({"dataset": "Digits", "network": "smallcnn", "methods": "trades"}, {"TRADES"}),
            ({"dataset": ["cifar10", "digits"], "since": "2026-04-01"}, {"SGLR"}),
            ({"dataset": "cifar10"}, set()),
            ({"network": "WRN-34-10"}, set()),
            ({"since": "2030-01-01"}, set()),
        ],
    )
    def test_rows_are_left_out_and_ranks_kept(self, dated, wanted, left):
        chosen = dated.select(**wanted)
        assert {row.label for row in chosen.rows} == left
        whole = {(row.label, row.checkpoint): row for row in dated.rows}
        assert all(row is whole[row.label, row.checkpoint] for row in chosen.rows)
        gone = 5 - len(left)
        assert f"{gone} methods of the board are not shown; ranks are those of the whole board." in said(chosen)

    def test_notes_about_rows_go_with_them(self, dated):
        assert "SGLR: not ranked, open division" in said(dated)
        assert "SGLR" not in said(dated.select(methods=["trades", "act"]))
        assert "SGLR: not ranked" in said(dated.select(family="label refinement"))

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"family": "magic"}, "no family 'magic' on this board; families: adversarial training, label refinement"),
            ({"division": "half"}, "no division 'half'; there are: closed, tuned, own-recipe, open"),
            ({"since": "yesterday"}, "since: 'yesterday' is no day; write it as 2026-12-31"),
            ({"since": "2026-02-01", "until": "2026-01-01"}, "no day is since 2026-02-01 and until 2026-01-01"),
            ({"sort": "beauty"}, "cannot sort by 'beauty'; keys: family, year, date, rank"),
            ({"sort": "clean:up"}, "sort by KEY, KEY:asc or KEY:desc, not 'clean:up'"),
        ],
    )
    def test_what_is_not_there_is_refused(self, dated, wanted, message):
        with pytest.raises(BoardError, match=re.escape(message)):
            dated.select(**wanted)

    @pytest.mark.parametrize(
        "wanted",
        [{"family": "regularised"}, {"since": "2026-02-15"}, {"division": "open"}, {"methods": ["fat", "ACT"]}, {}],
    )
    def test_frames_hold_what_boards_show(self, dated, dated_records, wanted, tmp_path):
        publish(dated_records, tmp_path)
        assert set(load_frame(tmp_path, **wanted)["variant"]) == {row.label for row in dated.select(**wanted).rows}

    def test_of_several_boards_only_those_with_rows_stay(self, dated, make_record):
        other = board.build([make_record("mart", protocol="digits-linf/1")])
        assert [table.protocol for table in select_all([dated, other], methods=["mart"])] == ["digits-linf/1"]
        assert [table.protocol for table in select_all([dated, other], family="regularised")] == [
            "digits-linf-full/1",
            "digits-linf/1",
        ]
        assert select_all([dated, other], dataset="cifar10") == []
        with pytest.raises(BoardError, match="no family 'magic' on any of these boards"):
            select_all([dated, other], family="magic")


class TestOrder:
    @pytest.mark.parametrize("sort", ["clean", "clean:asc", "autoattack", "gap_autoattack:asc", "hours", "passes:desc"])
    def test_numbers(self, dated, sort):
        chosen = dated.select(sort=sort)
        key = sort.partition(":")[0]
        pairs = [row.cells[key].mean for row in chosen.rows if row.checkpoint == "best"]
        values = [value for value in pairs if value is not None]
        falling = sort.endswith("desc") or (":" not in sort and key != "hours")
        assert values == sorted(values, reverse=falling)
        assert pairs == [*values, *[None] * (len(pairs) - len(values))]
        assert [row.label for row in chosen.rows[::2]] == [row.label for row in chosen.rows[1::2]]

    def test_names_and_days(self, dated):
        assert best(dated.select(sort="method")) == ["ACT", "FAT", "PGD-AT", "SGLR", "TRADES"]
        assert best(dated.select(sort="method:desc"))[0] == "TRADES"
        assert best(dated.select(sort="date"))[:3] == ["SGLR", "ACT", "TRADES"]
        assert best(dated.select(sort="date:asc"))[0] == "FAT"
        assert best(dated.select(sort="family"))[0] == "PGD-AT"
        assert "Sorted by date of record, falling; ranks are those of the whole board." in said(
            dated.select(sort="date")
        )


@pytest.fixture(scope="module")
def few(make_record):
    """TRADES and ACT with three seeds each."""
    return [make_record(name, seed=seed) for name in ("trades", "act") for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def corrected(few, tmp_path_factory):
    """A records folder in which TRADES seed 1 was measured again, twice, and ACT seed 2 withdrawn."""
    root = tmp_path_factory.mktemp("records")
    publish(few, root)
    (record,) = [one for one in few if one.method.row == "TRADES" and one.seed == 1]
    saved = record.checkpoints["best"]
    columns = saved.evaluation.columns
    evaluation = saved.evaluation.model_copy(update={"columns": {**columns, "clean": columns["autoattack"]}})
    worse = record.model_copy(
        update={"checkpoints": {**record.checkpoints, "best": saved.model_copy(update={"evaluation": evaluation})}}
    )
    publish([worse], root, replace=True, reason=WHY, day=date(2026, 12, 1))
    later = record.model_copy(update={"created": "2026-12-03T00:00:00Z"})
    publish([later], root, replace=True, reason="clean images were right after all", day=date(2026, 12, 3))
    withdraw(root / "digits-linf-full-1" / "act" / "seed2.json", reason="cannot be reproduced", day=date(2026, 12, 2))
    return root


class TestHistory:
    def test_boards_rank_what_is_current_and_show_what_was(self, corrected, few):
        records, events = board.load(corrected)
        assert len(records) == len(few) - 1
        table = board.build(records, history=events)
        assert [(str(change.date), change.kind, change.label, change.seed) for change in table.history] == [
            ("2026-12-01", "replaced", "TRADES", 1),
            ("2026-12-02", "withdrawn", "ACT", 2),
            ("2026-12-03", "replaced", "TRADES", 1),
        ]
        first, gone, last = table.history
        assert first.new == last.old
        assert first.clean_before == last.clean_after > first.clean_after
        assert gone.new is gone.new_run is None
        assert "AutoAttack on best stays" in correction_notes.sentence(first)
        plain = board.build([one for one in few if (one.method.name, one.seed) != ("act", 2)])
        assert [row.cells for row in table.rows] == [row.cells for row in plain.rows]
        assert plain.history == ()
        other = board.build([], resolve("digits-linf/1"), history=events)
        assert other.history == ()

    def test_every_format_says_so(self, corrected):
        records, events = board.load(corrected)
        table = board.build(records, history=events)
        for text in (markdown.write(table), html.write(table), terminal.write(table, width=400), csv.write(table)):
            for what in ("TRADES, seed 1, measured again", "ACT, seed 2, withdrawn", "cannot be reproduced"):
                assert what in text
            assert "<b>beta" not in text or text.startswith(("rank", "digits"))  # no markup in text formats
        assert (
            "Corrected: TRADES, seed 1 (2026-12-03, measured again); ACT, seed 2 (2026-12-02, withdrawn)"
            in latex.write(table)
        )

    def test_a_list_of_its_own(self, corrected):
        records, events = board.load(corrected)
        table = board.build(records, history=events)
        lines = correction_notes.write_text([table]).splitlines()
        assert lines[0] == "digits-linf-full/1: corrections"
        assert [line[2:] for line in lines[2:]] == [correction_notes.sentence(change) for change in table.history]
        assert r"\<b\>beta" in correction_notes.write_markdown([table])
        rows = list(reader.DictReader(io.StringIO(correction_notes.write_csv([table]))))
        assert [row["old"] for row in rows] == [one.old for one in table.history]
        assert [row["reason"] for row in rows] == [one.reason for one in table.history]
        assert float(rows[0]["clean_before"]) == table.history[0].clean_before
        assert rows[1]["clean_after"] == rows[1]["new"] == ""
        untouched = board.build(records)
        assert "No record of this board was ever corrected." in correction_notes.write_text([untouched])

    def test_many_corrections_are_noted_briefly(self, corrected):
        _, events = board.load(corrected)
        notes = correction_notes.notes(events[:1] * 25)
        assert len(notes) == correction_notes.NOTED + 1
        assert "15 earlier corrections: `advbench leaderboard --history`" in notes[-1].text
        assert sum(bool(note.brief) for note in notes) == 1

    def test_a_board_whose_every_record_was_withdrawn_is_a_correct_page(self, make_record, tmp_path):
        (path,) = publish([make_record("trades")], tmp_path)
        withdraw(path, reason="cannot be reproduced")
        records, events = board.load(tmp_path)
        table = board.build(records, resolve("digits-linf-full/1"), history=events)
        assert "Every record under this protocol was withdrawn." in markdown.write(table)
        assert "TRADES, seed 0, withdrawn" in html.write(table)

    def test_as_frames(self, corrected):
        frame = load_history(corrected)
        assert list(frame["kind"]) == ["replaced", "withdrawn", "replaced"]
        assert str(frame.dtypes["date"]) == "datetime64[ns]"
        assert frame["clean_after"].isna().tolist() == [False, True, False]
        assert len(load_frame(corrected).query("method == 'act'")["seed"].unique()) == 2


NUMBERS = {
    "trades": [
        Published(
            dataset="Digits",
            network="SmallCNN",
            eps="3/20",
            source="https://example.org/a README",
            row="TRADES <i> | other",
            clean=90.25,
            pgd20=61.5,
            autoattack=55.0,
        ),
        Published(dataset="Digits", network="SmallCNN", eps="0.15", source="the paper", checkpoint="last", clean=90.0),
        Published(dataset="Digits", network="SmallCNN", eps="0.149", source="https://example.org/b", clean=91.0),
        Published(dataset="Digits", network="SmallCNN", norm="l2", eps="3/20", source="https://e.org", clean=92.0),
        Published(dataset="CIFAR-10", network="SmallCNN", eps="3/20", source="https://e.org", clean=93.0),
        Published(dataset="Digits", network="ResNet-18", eps="3/20", source="https://e.org", clean=94.0),
    ],
    "nobody": [
        Published(dataset="digits", network="smallcnn", eps="3/20", source="https://e.org", other=40.5, attack="PGD-7")
    ],
}


class Tables(HTMLParser):
    """Collect the text of the cells of every table's body."""

    def __init__(self):
        super().__init__()
        self.tables, self.inside, self.body = [], False, False

    def handle_starttag(self, tag, attrs):
        if tag == "tbody":
            self.tables.append([])
            self.body = True
        if self.body and tag == "tr":
            self.tables[-1].append([])
        if self.body and tag in {"td", "th"}:
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.body &= tag != "tbody"
        self.inside &= tag not in {"td", "th"}

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def table(board_records):
    """A board with three published rows beside it."""
    return published_numbers.beside(board.build(board_records), resolve("digits-linf-full/1"), numbers=NUMBERS)


class TestPublished:
    def test_only_what_matches_data_network_and_threat_is_shown(self, table, board_records):
        assert [(one.method, one.label, one.checkpoint) for one in table.published] == [
            ("trades", "TRADES <i> | other", "not stated"),
            ("trades", "TRADES", "last"),
            ("nobody", "nobody", "not stated"),
        ]
        assert [one.key for one in table.published] == ["zhang2019theoretically"] * 2 + [""]
        plain = board.build(board_records)
        assert [row.cells for row in table.rows] == [row.cells for row in plain.rows]
        assert table.ranking == plain.ranking
        assert not any(cell.bold or cell.second for one in table.published for cell in one.cells.values())
        assert all(one.cell("rank").state == "not applicable" for one in table.published)
        assert f"{ELSEWHERE}: under the sources' own recipes" in said(table)
        none = published_numbers.beside(plain, resolve("digits-linf-full/1"), numbers={})
        assert "No published number known here matches" in said(none)

    def test_read_back_from_markdown(self, table):
        above, below = markdown.write(table).split(f"*{ELSEWHERE}*")
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in below.splitlines() if line.startswith("|")][2:]
        texts = [[cell.strip().replace("\\", "") for cell in row] for row in rows]
        assert texts == [
            ["TRADES <i> | other", "not stated", "90.25", "61.50", "55.00", "", "https://example.org/a README"],
            ["TRADES", "last", "90", "", "", "", "the paper"],
            ["nobody", "not stated", "", "", "", "40.5 under PGD-7", "https://e.org"],
        ]
        assert "**" not in below.split("\n- ")[0]
        assert "example.org/a" not in above

    def test_read_back_from_html(self, table):
        parser = Tables()
        page = html.write(table)
        parser.feed(page)
        names = ["TRADES <i> | other", "TRADES", "nobody"]
        assert [row[0] for row in parser.tables[1]] == [f"{name} as published" for name in names]
        numbers = [["90.25", "61.50", "55.00"], ["90", "–", "–"], ["–", "–", "–"]]
        assert [row[2:5] for row in parser.tables[1]] == numbers
        assert "<i>" not in page
        assert '<a href="https://example.org/a">' in page
        assert len(parser.tables[0]) == len(table.rows)

    def test_read_back_from_csv(self, table):
        lines = list(reader.DictReader(io.StringIO(csv.write(table))))
        quoted = [line for line in lines if line["origin"] == "as published"]
        assert lines[-3:] == quoted
        assert {line["origin"] for line in lines[:-3]} == {"measured here"}
        assert [line["clean"] for line in quoted] == ["90.25", "90", ""]
        assert [line["autoattack"] for line in quoted] == ["55", "", ""]
        assert all(line["rank_low"] == line["seeds"] == line["runs"] == line["clean_n"] == "" for line in quoted)
        assert quoted[0]["clean_state"] == "as published"
        assert quoted[2]["notes"] == "40.5 under PGD-7"
        assert [line["source"] for line in quoted] == ["https://example.org/a README", "the paper", "https://e.org"]

    def test_read_back_from_the_terminal(self, table):
        below = terminal.write(table, width=200).split(ELSEWHERE)[1].splitlines()
        (line,) = [line for line in below if line.strip().startswith("TRADES <i>")]
        assert re.findall(r"\d\d\.\d+", line) == ["90.25", "61.50", "55.00"]
        assert "https://example.org/a README" in line

    def test_selections_apply_to_them(self, table):
        assert [one.method for one in table.select(methods=["trades"]).published] == ["trades", "trades"]
        assert [one.checkpoint for one in table.select(checkpoints=["last"]).published] == ["last"]
        assert [one.method for one in table.select(family="regularised").published] == ["trades", "trades"]
        for wanted in ({"since": "2020-01-01"}, {"division": "closed"}, {"dataset": "cifar10"}):
            chosen = table.select(**wanted)
            assert chosen.published == ()
            assert "3 published rows are not shown." in said(chosen)
        narrow = markdown.write(table.select(columns=["method", "clean"]))
        assert "| Method | Checkpoint | Clean (%) | Other attack (%) | Source |" in narrow

    def test_a_radius_is_a_number(self):
        with pytest.raises(ValueError, match="write an exact fraction as a string, such as"):
            Published(dataset="d", network="n", eps="eight", source="s")

    def test_a_spoilt_file_is_named(self, monkeypatch, tmp_path):
        (tmp_path / "published").mkdir()
        (tmp_path / "published" / "trades.toml").write_text("[[result]]\nclean = 120\n")
        monkeypatch.setattr(published_numbers.resources, "files", lambda _: tmp_path)
        with pytest.raises(PublishedError, match=r"published/trades\.toml"):
            published_numbers.load_all()

    def test_as_a_frame(self):
        frame = load_published(dataset="cifar-10", methods=["trades"])
        assert set(frame["method"]) == {"trades"}
        assert set(frame["dataset"]) == {"CIFAR-10"}
        first = published_numbers.load("trades")[0]
        row = frame[(frame["row"] == first.row) & (frame["metric"] == "pgd20")]
        assert row["value"].tolist() == [first.pgd20]
        assert frame["source"].str.len().min() > 10


class TestFrames:
    def test_load_frame_filters_and_sorts_as_boards_do(self, board_records, tmp_path):
        publish(board_records, tmp_path)
        whole = load_frame(tmp_path)
        assert set(load_frame(tmp_path, family="regularised")["method"]) == {"trades", "mart"}
        assert set(load_frame(tmp_path, methods="TRADES (beta=3.0)")["variant"]) == {"TRADES (beta=3.0)"}
        assert load_frame(tmp_path, dataset="cifar10").empty
        assert len(load_frame(tmp_path, dataset="Digits", since="2025-01-01", until="2025-01-01")) == len(whole)
        assert load_frame(tmp_path, since="2025-01-02").empty
        assert load_frame(tmp_path, division="open").empty
        ranked = load_frame(tmp_path, sort="autoattack")
        values = ranked.query("metric == 'autoattack' and checkpoint == 'best'")["value"].tolist()
        assert values == sorted(values, reverse=True)
        assert load_frame(tmp_path, sort="seed:desc")["seed"].iloc[0] == 2
        last = load_frame(tmp_path, checkpoints=["last"], columns=["clean", "gap_pgd20"])
        assert set(zip(last["checkpoint"], last["metric"], strict=True)) == {("last", "clean"), ("both", "gap_pgd20")}
        for wrong in ({"family": "magic"}, {"methods": "nobody"}, {"sort": "beauty"}, {"columns": ["half"]}):
            with pytest.raises(BoardError, match=r"magic|nobody|beauty|half"):
                load_frame(tmp_path, **wrong)
