"""Corrections and published numbers on the site, without a browser: what is on the pages, and what is kept apart."""

import csv as reader
import hashlib
import html
import json
import re
from datetime import date
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main
from advbench.benchmark.protocol import published
from advbench.benchmark.records import corrections
from advbench.benchmark.records.publish import destination, publish, withdraw
from advbench.leaderboards.site import Source, compose, load
from advbench.leaderboards.site.file_names import board_slug
from advbench.leaderboards.table import ELSEWHERE

DIGITS = published()["digits-linf-full/1"]
STEM = board_slug(DIGITS.name, DIGITS.digest)


def section(page: str, name: str) -> str:
    """Return the markup of a section of a page."""
    return re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)[0]


def lines(markup: str) -> list[list[str]]:
    """Return the cells of the bodies of tables as text."""
    rows = re.findall(r"<tr.*?</tr>", markup.partition("<tbody>")[2], re.DOTALL)
    return [
        [
            " ".join(html.unescape(re.sub(r"<[^>]+>", "", cell)).split())
            for cell in re.findall(r"<t[dh].*?</t[dh]>", row)
        ]
        for row in rows
    ]


@pytest.fixture(scope="module")
def board(site: Path) -> str:
    return (site / f"boards/{STEM}.html").read_text(encoding="utf-8")


def test_corrections_are_told_the_newest_first_with_numbers_before_and_after(board, source):
    withdrawn, replaced = lines(section(board, "corrections"))
    change = source.corrected[0].correction
    assert replaced[:3] == ["2026-07-01", "PGD-AT, seed 0", "measured again"]
    for cell, column in zip(replaced[3:5], ("clean", "autoattack"), strict=True):
        before, after = change.moved(column)
        assert before < after
        assert cell == f"{before:.1f} → {after:.1f}"
    assert replaced[5] == "the first version was trained on ten test images"
    assert withdrawn[:3] == ["2026-08-01", "HAT, seed 0", "withdrawn"]
    assert withdrawn[5] == "labels were shuffled <in the training set>"
    assert "→" not in "".join(withdrawn[3:5])
    notes = section(board, "notes")
    assert "Corrected 2026" not in notes, "told in a section of their own"


def test_corrections_lie_on_the_site_with_the_digests_of_both_files(board, site, source):
    markup = section(board, "corrections")
    ((path, digest),) = re.findall(r'<a href="\.\./([^"]+)" title="sha256 ([0-9a-f]{64})">', markup)
    assert hashlib.sha256((site / path.replace("%20", " ")).read_bytes()).hexdigest() == digest
    superseded = re.findall(r'<span title="sha256 ([0-9a-f]{64})">superseded', markup)
    assert superseded == [one.correction.old for one in reversed(source.corrected)]
    for one in source.corrected:
        assert (site / "records" / one.path).read_bytes() == one.content
    copied = corrections.read(site / "records")
    assert list(copied.history) == [one.correction for one in source.corrected]
    assert len(copied.records) == len(source.files)


def test_runs_methods_and_provenance_name_the_correction(board, site, source):
    run = source.corrected[0].correction.new_run
    said = "the first version was trained on ten test images"
    assert said in (site / f"runs/{run}.html").read_text(encoding="utf-8")
    other = next(one.record.run for one in source.files if one.record.run != run)
    assert said not in (site / f"runs/{other}.html").read_text(encoding="utf-8")
    for method in ("pgd_at", "hat"):
        assert f"{STEM}.html#corrections" in (site / f"methods/{method}.html").read_text(encoding="utf-8")
    runs = json.loads(re.search(r'id="data">(.*?)</script>', board, re.DOTALL)[1])["runs"]
    assert [name for name, about in runs.items() if "corrected" in about] == [run]
    assert f'boards/{STEM}.html#corrections">2 corrections</a>' in (site / "index.html").read_text(encoding="utf-8")


def test_a_withdrawn_row_is_gone_from_table_and_downloads(board, site):
    assert "HAT" not in section(board, "table")
    written = (site / f"boards/{STEM}.csv").read_text(encoding="utf-8")
    assert "HAT" not in [line["method"] for line in reader.DictReader(StringIO(written))]


def test_a_board_whose_every_record_was_withdrawn_says_so_and_why(make_record, tmp_path):
    record = make_record("pgd_at")
    publish([record], tmp_path)
    withdraw(destination(record, tmp_path), reason="wrong data", day=date(2026, 9, 1))
    source = load(tmp_path)
    made = compose(source, methods=[record.method])
    page = made.files[f"boards/{STEM}.html"].decode()
    assert "Every record under this protocol was withdrawn" in page
    assert "wrong data" in section(page, "corrections")
    assert "No record has been published" not in page
    assert "wrong data" in made.files["methods/pgd_at.html"].decode()
    assert '<span class="mark">withdrawn</span>' in made.files["index.html"].decode()
    out = tmp_path / "site"
    done = CliRunner().invoke(main, ["site", "--records", str(tmp_path / "digits-linf-full-1"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "wrong data" in (out / f"boards/{STEM}.html").read_text(encoding="utf-8")


def test_a_spoilt_history_is_refused_in_one_line(make_record, tmp_path):
    folder = tmp_path / "records"
    publish([make_record("pgd_at")], folder)
    (path,) = publish([make_record("pgd_at", shift=0.1)], folder, replace=True, reason="again")
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    done = CliRunner().invoke(main, ["site", "--records", str(folder), "--out", str(tmp_path / "site")])
    assert done.exit_code == 2
    assert "is not what its last correction put there" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "site").exists()


# As published ---------------------------------------------------------------------------------------------------------


def test_published_numbers_have_a_block_of_their_own_with_their_source(board):
    block = section(board, "published")
    assert ELSEWHERE in block
    assert sorted(lines(block)) == [
        [
            "PGD-AT, 7 steps as published",
            "last",
            "82.0",
            "47.5",
            "50.2 under PGD, steps not stated",
            "a paper without address",
        ],
        ["TRADES as published", "not stated", "80.25", "–", "–", "example.org/TRADES table 1"],
    ]
    assert '<a href="https://example.org/TRADES">' in block
    assert "<strong>" not in block


def test_published_numbers_are_nowhere_among_ours(board, site, source):
    assert "as published" not in section(board, "table")
    data = re.search(r'id="data">(.*?)</script>', board, re.DOTALL)[1]
    assert "7 steps" not in data
    plain = compose(source, numbers={})
    for ending in ("csv", "tex", "attacks.tex", "md", "bib"):
        assert (site / f"boards/{STEM}.{ending}").read_bytes() == plain.files[f"boards/{STEM}.{ending}"], ending
    both = list(reader.DictReader(StringIO((site / f"boards/{STEM}.published.csv").read_text(encoding="utf-8"))))
    assert [line["origin"] for line in both] == ["measured here"] * 16 + ["as published"] * 2
    assert {line["rank_low"] for line in both[16:]} == {""}


def test_an_empty_board_shows_what_was_published_and_nothing_where_nothing_matches(site):
    here = published()["imagenet-linf/1"]
    page = (site / f"boards/{board_slug(here.name, here.digest)}.html").read_text(encoding="utf-8")
    assert '<section id="published"' not in page, "the site was given other numbers"
    made = compose(Source(()), protocols=[here, DIGITS])
    page = made.files[f"boards/{board_slug(here.name, here.digest)}.html"].decode()
    assert "https://arxiv.org/abs/2008.07015" in section(page, "published")
    assert "No record has been published under this protocol yet" in page
    assert '<section id="published"' not in made.files[f"boards/{STEM}.html"].decode()
