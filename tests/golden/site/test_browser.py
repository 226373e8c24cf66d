"""The site in a real browser: headless Chromium on pages opened from files; click, type, hover, drag, look.

Needs the Debian package chromium (or another Chromium, named by $CHROMIUM); without one the tests skip.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from advbench.benchmark.protocol import published
from advbench.leaderboards.board import build
from advbench.leaderboards.site.file_names import board_slug
from advbench.leaderboards.table import show
from advbench.leaderboards.writers.html.view import minus

pytestmark = pytest.mark.xdist_group("chromium")
BOARD = "digits-linf-full/1"
DESKTOP, PHONE = (1360, 900), (390, 844)


def test_the_table_shows_the_numbers_of_the_board(page, records):
    table = build(records)
    for key in ("rank", "clean", "autoattack", "gap_autoattack", "hours", "seeds"):
        expected = [
            minus(" ".join(show(row.cells[key], table.column(key), table.decimals)._replace(unit="").plain.split()))
            for row in table.rows
        ]
        assert [" ".join(text.split()) for text in page.column(key)] == expected, key


def test_headings_sort_and_sort_back_with_what_is_empty_last(page):
    page.click("#board th[data-key=clean] button")
    falling = [float(one) for one in page.column("clean", "dataset.m")[::2]]
    assert falling == sorted(falling, reverse=True)
    assert page.js("document.querySelector('#board th[data-key=clean]').getAttribute('aria-sort')") == "descending"
    page.click("#board th[data-key=clean] button")
    rising = [float(one) for one in page.column("clean", "dataset.m")[::2]]
    assert rising == sorted(rising)
    assert rising != falling
    page.click("#board th[data-key=rank] button")
    ranks = page.column("rank", "dataset.m")[::2]
    assert ranks == sorted(ranks, key=lambda rank: (rank is None, int(rank or 0)))
    assert ranks[-1] is None
    page.click("#board th[data-key=method] button")
    names = page.labels()
    assert names == sorted(names, key=str.lower)


def test_best_and_last_of_a_method_stay_together_at_the_place_of_the_one_that_is_shown(page, records):
    table = build(records)
    page.click("#board th[data-key=pgd20] button")
    assert page.column("checkpoint") == ["best", "last"] * 8
    assert page.labels() == [row.label for row in table.select(sort="pgd20").rows]
    page.click("input[name=checkpoint][value=last]")
    last = [float(one) for one in page.column("pgd20", "dataset.m")]
    assert last == sorted(last, reverse=True)
    assert len(last) == 8


def test_groups_of_columns_can_be_hidden_and_shown(page):
    seen = "getComputedStyle(document.querySelector('#board th[data-key=hours]')).display !== 'none'"
    assert not page.js(seen)
    page.click("input[name=group][value=cost]")
    assert page.js(seen)
    assert page.column("hours", "offsetWidth")[0] > 0


def test_a_cell_leads_to_its_runs_and_record_files(page, site, records, source):
    at = {filed.record.run: filed.path for filed in source.files}
    page.click("#board tbody tr:first-child td.robust")
    page.settle("document.getElementById('provenance').open")
    said = page.js("document.getElementById('provenance').innerText")
    best = build(records).rows[0]
    assert f"{best.label}, best: AutoAttack" in said
    for run, value in zip(best.runs, best.cells["autoattack"].values, strict=True):
        assert run in said
        assert f"{value:.1f}" in said
    assert "null" not in said
    files = page.js("[...document.querySelectorAll('#provenance a')].map(link => link.href)")
    for run in best.runs:
        assert (site / "runs" / f"{run}.html").as_uri() in files
        assert (site / "records" / at[run]).as_uri() in files
    page.key("Escape")
    assert not page.js("document.getElementById('provenance').open")


def test_the_table_is_one_stop_of_the_keyboard_and_arrows_move_in_it(page):
    assert page.js("document.querySelectorAll('#board td[tabindex=\"0\"]').length") == 1
    page.js("document.querySelector('#board td[tabindex=\"0\"]').focus()")
    page.key("ArrowDown")
    page.key("ArrowRight")
    row, cell = page.js("[document.activeElement.parentNode.rowIndex, document.activeElement.cellIndex]")
    assert (row, cell) == (2, 3)
    page.key("Enter")
    page.settle("document.getElementById('provenance').open")
    assert "last: Clean" in page.js("document.getElementById('provenance-title').textContent")
    page.key("Escape")


def test_hovering_a_point_shows_its_numbers_and_a_click_opens_the_card(page):
    page.hover("#plot a[aria-label^='TRADES, ']")
    page.settle("!document.querySelector('.tip').hidden")
    said = page.js("document.querySelector('.tip').innerText")
    row = page.labels().index("TRADES")
    assert "TRADES" in said
    assert page.column("autoattack")[row].split()[0] in said
    page.click("#plot a[aria-label^='TRADES, ']")
    page.settle("location.pathname.endsWith('/methods/trades.html')")
    page.settle("document.readyState === 'complete'")
    assert page.js("document.querySelector('h1').textContent") == "TRADES"
    assert page.js("window.broken") is None
    assert "<script>" in page.js("document.querySelector('article').innerText")


def test_a_box_in_the_plot_narrows_the_table_and_a_button_undoes_it(page):
    x, y = page.middle("#plot a[aria-label^='TRADES, '] .hit")
    top = page.js("document.getElementById('plot').getBoundingClientRect().top")
    page.drag((x - 18, y - 18), (x + 18, y + 18))
    assert abs(page.js("document.getElementById('plot').getBoundingClientRect().top") - top) < 2, "the plot stays put"
    chosen = set(page.labels())
    assert "TRADES" in chosen
    assert len(chosen) < 8
    assert page.js("document.querySelectorAll('#plot a.faint').length") > 0
    page.click("#plot button")
    assert len(set(page.labels())) == 8


def test_axes_of_the_plot_can_be_changed(page):
    page.choose("[aria-label='Horizontal axis']", 0, "hours")
    assert "Training" in page.js(
        "[...document.querySelectorAll('#plot text.title')].map(text => text.textContent).join()"
    )
    assert page.js("document.querySelectorAll('#plot a').length") == 7
    assert "below: Standard" in page.js("document.querySelector('#plot svg.canvas').textContent")
    page.click("#plot input[type=checkbox]")
    assert page.js("document.querySelectorAll('#plot a').length") == 8


def test_two_methods_are_compared_with_the_test_of_the_board(page, records):
    table = build(records)
    pair = next(one for one in table.ranking.downward if one.holds)
    order = list(dict.fromkeys(row.key for row in table.rows))
    names = {row.key: row.label for row in table.rows}
    for index, key in enumerate((pair.better, pair.worse)):
        page.choose("#comparison select", index, str(order.index(key)))
    said = page.js("document.querySelector('.verdict').textContent")
    assert f"{names[pair.better]} is significantly ahead" in said
    assert minus(f"{100 * pair.difference:+.1f} points") in said
    assert re.search(r"compare=[\w.-]+,[\w.-]+", page.js("location.hash"))
    lines = page.js(
        "[...document.querySelectorAll('#comparison tbody tr')].map(row => row.innerText.split(/\\s*\\t\\s*/))"
    )
    best = {row.key: row for row in table.rows if row.checkpoint == "best"}
    clean = [best[key].cells["clean"].mean for key in (pair.better, pair.worse)]
    found = next(line for line in lines if line[0] == "Clean best")
    assert found[3].strip() == minus(f"{clean[0] - clean[1]:+.1f}")


def test_a_row_without_rank_says_why_it_is_not_compared(page):
    names = page.js("[...document.querySelector('#comparison select').options].map(one => one.text)")
    page.choose("#comparison select", 0, str(names.index("GAIRAT")))
    said = page.js("document.querySelector('.verdict').textContent")
    assert "No test was made" in said
    assert "signs of gradient masking" in said


def test_an_address_brings_a_comparison_back(browser, site, records):
    path = site / "boards" / f"{board_slug(BOARD, records[0].protocol_digest)}.html"
    browser.open(path, "#compare=mart,act")
    chosen = browser.js("[...document.querySelectorAll('#comparison select')].map(one => one.selectedOptions[0].text)")
    assert chosen == ["MART", "ACT"]
    assert browser.complaints() == []


def test_light_and_dark_follow_the_system_until_the_reader_chooses(browser, site):
    for dark in (False, True):
        browser.resize(DESKTOP, dark=dark)
        browser.open(site / "index.html")
        brightness = browser.picture().mean()
        assert brightness < 90 if dark else brightness > 200
    browser.click("#theme")
    assert browser.js("document.documentElement.dataset.theme") == "light"
    assert browser.picture().mean() > 200
    browser.js("localStorage.clear()")
    browser.resize(DESKTOP)


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (360, 740), (320, 640)], ids=["desktop", "phone", "360", "320"])
def test_every_kind_of_page_fits_its_screen_and_links_lead_somewhere(browser, site, records, size):
    slug = board_slug(BOARD, records[0].protocol_digest)
    empty = board_slug("imagenet-linf/1", published()["imagenet-linf/1"].digest)
    pages = [
        "index.html",
        "ranks.html",
        f"boards/{slug}.html",
        f"boards/{empty}.html",
        "methods/index.html",
        "methods/trades.html",
    ]
    pages += [
        "methods/mart.html",
        "methods/hat.html",
        "ranks.html",
        "protocols/index.html",
        f"protocols/{slug}.html",
        f"runs/{records[0].run}.html",
    ]
    browser.resize(size)
    for name in pages:
        browser.open(site / name)
        browser.js("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        wide = browser.js("document.documentElement.scrollWidth")
        assert wide <= size[0], f"{name} is {wide} pixels wide"
        assert browser.js("document.querySelectorAll('h1').length") == 1
        links = browser.js(
            "[...document.querySelectorAll('a[href], link[rel=stylesheet], script[src]')].map(one => "
            "new URL(one.getAttribute('href') || one.getAttribute('src'), document.baseURI).href)"
        )
        assert len(links) > 5
        for link in links:
            if link.startswith("file:"):
                target = Path(unquote(urlsplit(link).path))
                assert target.is_file(), f"{name} links {target}"
        assert browser.complaints() == [], name
