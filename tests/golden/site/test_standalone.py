"""The self-contained page in headless Chromium: the site's board pages, several in one file and selections of them."""

import pytest

from advbench.leaderboards.board import build
from advbench.leaderboards.writers import html

pytestmark = pytest.mark.xdist_group("chromium")
DESKTOP = (1360, 900)


@pytest.fixture
def opened(browser, tmp_path):
    """Open boards as one file; nothing may have gone wrong in it afterwards."""

    def opened(*tables, size=DESKTOP):
        path = tmp_path / "boards.html"
        path.write_text(html.write(tables), encoding="utf-8")
        browser.resize(size)
        browser.open(path)
        return browser

    yield opened
    assert browser.complaints() == []


def names(page, suffix: str = "") -> list[str]:
    return page.js(
        f"[...document.querySelectorAll('#board{suffix} tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.querySelector('th').textContent.trim())"
    )


def test_two_boards_of_one_file_are_filtered_apart(opened, records, make_record):
    other = build([make_record(name, protocol="digits-linf/1") for name in ("mart", "act", "trades")])
    page = opened(build(records), other)
    assert (len(names(page)), len(names(page, "-2"))) == (16, 6)
    page.type("#find-2", "mart")
    assert set(names(page, "-2")) == {"MART"}
    assert len(names(page)) == 16
    page.click("input[name=checkpoint][value=best]")
    assert len(names(page)) == 8
    assert len(names(page, "-2")) == 2
    page.click("#board-2 th[data-key=clean] button")
    assert page.js("document.querySelectorAll('#board [aria-sort]').length") == 0
    assert page.js("document.querySelectorAll('#plot a').length") == 7
    identifiers = page.js("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(set(identifiers)) == len(identifiers)


def test_a_cell_shows_its_seeds_and_runs_without_leading_anywhere(opened, records):
    table = build(records)
    page = opened(table)
    page.click("#board tbody tr:first-child td.robust")
    page.settle("document.getElementById('provenance').open")
    shown = page.js("document.getElementById('provenance').innerText")
    for run, value in zip(table.rows[0].runs, table.rows[0].cells["autoattack"].values, strict=True):
        assert run in shown
        assert f"{value:.1f}" in shown
    assert page.js("document.querySelectorAll('#provenance a').length") == 0
    assert page.js("document.querySelector('#board tbody th a').href") == "https://example.org/paper_1"


@pytest.mark.parametrize(
    "selection",
    [
        {"columns": ["method", "clean"]},
        {"columns": ["rank", "hours", "memory"]},
        {"checkpoints": ["last"]},
        {"methods": ["TRADES"], "columns": ["method", "checkpoint", "autoattack", "clean"]},
    ],
)
@pytest.mark.parametrize("size", [DESKTOP, (320, 640)], ids=["desktop", "320"])
def test_a_selection_of_a_board_works_as_a_page(opened, records, selection, size):
    table = build(records).select(**selection)
    page = opened(table, size=size)
    wanted = [row for row in table.rows if size == DESKTOP or row.checkpoint == "best"] or table.rows
    shown = page.js("[...document.querySelectorAll('#board tbody tr')].filter(row => !row.hidden).length")
    assert shown == len(wanted)
    heads = page.js("[...document.querySelectorAll('#board thead th')].map(head => head.dataset.key)")
    assert heads[: len(table.columns)] == [column.key for column in table.columns]
    assert page.js("document.documentElement.scrollWidth") <= size[0]
