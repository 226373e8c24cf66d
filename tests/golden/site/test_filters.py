"""The filters of boards in headless Chromium: what they leave is what `Table.select` leaves."""

import csv
import io
from pathlib import Path

import pytest

from advbench.leaderboards.board import build

pytestmark = pytest.mark.xdist_group("chromium")
QUOTED = (
    "[...document.querySelectorAll('.published tbody tr')].filter(row => !row.hidden)"
    ".map(row => row.cells[0].innerText)"
)


def shown(page) -> list[tuple[str, str]]:
    return list(zip(page.labels(), page.column("checkpoint"), strict=True))


def selected(records, **filters) -> list[tuple[str, str]]:
    return [(row.label, row.checkpoint) for row in build(records).select(**filters).rows]


def test_division_and_days_leave_what_select_leaves(page, records):
    page.click("#more summary")
    page.click("input[name=division][value=open]")
    assert shown(page) == selected(records, division="open") == [("GAIRAT", "best"), ("GAIRAT", "last")]
    page.click("input[name=division][value=closed]")
    assert shown(page) == selected(records, division="closed")
    page.click("input[name=division][value=all]")
    page.choose("#since", 0, "2026-01-01")
    assert shown(page) == selected(records, since="2026-01-01")
    page.choose("#since", 0, "")
    page.choose("#until", 0, "2025-12-31")
    assert shown(page) == selected(records, until="2025-12-31")
    assert 0 < len(shown(page)) < 16
    assert "in use" in page.js("document.querySelector('#more summary').textContent")
    page.click("#reset")
    assert len(shown(page)) == 16
    assert page.js("document.getElementById('until').value") == ""


def test_families_leave_what_select_leaves(page, records):
    for label in page.js("[...document.querySelectorAll('#families button')].map(one => one.textContent)"):
        if label != "regularised":
            index = page.js(
                f"[...document.querySelectorAll('#families button')].findIndex(one => one.textContent === '{label}')"
            )
            page.click(f"#families button:nth-child({index + 1})")
    assert shown(page) == selected(records, family="regularised")
    assert page.js("document.querySelectorAll('#plot a').length") == len(set(page.labels()))


def test_flags_choose_rows_by_what_was_raised(page):
    flagged = {"GAIRAT"}
    for value, expected in (("any", flagged), ("masking", flagged), ("zero-gradients", flagged)):
        page.choose("#flags", 0, value)
        assert set(page.labels()) == expected, value
    page.choose("#flags", 0, "none")
    assert len(set(page.labels())) == 7
    assert "GAIRAT" not in page.labels()


def test_published_rows_follow_the_text_and_pass_no_filter_their_source_does_not_answer(page):
    assert len(page.js(QUOTED)) == 2
    page.type("#find", "trades")
    assert [name.split()[0] for name in page.js(QUOTED)] == ["TRADES"]
    assert page.js("document.querySelector('.published summary span').textContent") == "1 of 2"
    page.click("#reset")
    page.click("#more summary")
    page.click("input[name=division][value=closed]")
    assert page.js(QUOTED) == []


def test_the_block_of_published_rows_can_be_folded(page):
    height = "document.querySelector('.published').offsetHeight"
    open_height = page.js(height)
    page.click(".published summary")
    assert page.js(height) < open_height / 2
    assert not page.js("document.querySelector('.published').open")


def test_a_corrected_cell_says_so_and_leads_to_the_history(page):
    at = page.labels().index("PGD-AT") + 1
    page.click(f"#board tbody tr:nth-child({at}) td.robust")
    page.settle("document.getElementById('provenance').open")
    assert "Corrected, seed 0, 2026-07-01: the first version" in page.js(
        "document.getElementById('provenance').innerText"
    )
    page.click("#provenance a[href='#corrections']")
    page.settle("!document.getElementById('provenance').open && location.hash === '#corrections'")
    top = page.js("document.getElementById('corrections').getBoundingClientRect().top")
    assert 0 <= top < 900


def test_the_front_page_is_filtered_by_data_network_and_threat(browser, site):
    seen = (
        "[...document.querySelectorAll('[data-board]')].filter(one => !one.hidden)"
        ".map(one => one.querySelector('a').textContent)"
    )
    browser.open(site / "index.html")
    both = browser.js(seen)
    assert both == ["digits-linf-full/1", "imagenet-linf/1"]
    for name, value in (("threat", "L∞, eps 2/255"), ("dataset", "ImageNet"), ("network", "ResNet-50")):
        browser.choose(f"[name={name}]", 0, value)
        assert browser.js(seen) == ["imagenet-linf/1"], name
        assert browser.js("document.querySelector('#board-filter output').textContent") == "1 of 2 boards"
        browser.choose(f"[name={name}]", 0, "")
    browser.choose("[name=text]", 0, "smallcnn")
    assert browser.js(seen) == ["digits-linf-full/1"]
    assert browser.complaints() == []


def typed(page, text: str) -> None:
    page.js(f"window.find = document.getElementById('find'); find.value = {text!r}")
    page.js("find.dispatchEvent(new Event('input'))")


def test_the_address_holds_what_is_shown_and_brings_it_back(page):
    """Filters, families, columns and the order, beside a comparison: sent to a colleague, they show the same."""
    for selector in (
        "[name=checkpoint][value=last]",
        "#families button",
        "#board th[data-key=clean] button",
        "[name=group][value=cost]",
    ):
        page.js(f"document.querySelector({selector!r}).click()")
    typed(page, "a")
    page.js("window.pick = document.querySelector('#comparison select'); pick.selectedIndex = 2")
    page.js("pick.dispatchEvent(new Event('change'))")
    picked = "[...document.querySelectorAll('#comparison select')].map(one => one.value)"
    state = f"[location.hash, document.getElementById('board').innerText, {picked}]"
    before = page.js(state)
    for key in ("checkpoint=last", "without=", "sort=clean:desc", "columns=", "text=a", "compare="):
        assert key in before[0]
    page.open(Path(page.js("location.pathname")), before[0])
    assert page.js(state) == before
    page.js("document.getElementById('reset').click()")
    assert "text" not in page.js("location.hash")
    assert page.complaints() == []


def test_the_rows_that_are_shown_are_saved_as_csv(page):
    page.js("document.querySelector('[name=checkpoint][value=best]').click()")
    typed(page, "mart")
    page.js("URL.createObjectURL = blob => { window.saved = blob; return 'about:blank#'; }")
    page.js("HTMLAnchorElement.prototype.click = function () { window.named = this.download; }")
    page.js("document.getElementById('save').click()")
    head, *rows = csv.reader(io.StringIO(page.js("window.saved.text()")))
    assert page.js("window.named").endswith(".csv")
    assert "Ckpt." not in head
    assert [row[head.index("Method")] for row in rows] == ["MART"]
    assert [row[head.index("Clean")] for row in rows] == page.column("clean")


def test_a_row_has_an_address(page):
    found = page.js("[...document.querySelectorAll('#board tbody tr')].map(row => row.id)")
    assert "row-mart-best" in found
    assert len(set(found)) == len(found)
