"""Who can use the site: the keyboard alone, axe-core's rules, contrast of every colour in light and dark.

axe-core is fetched with npm once and kept in pytest's cache; without npm or network that test skips and says so.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from advbench.benchmark.protocol import published
from advbench.leaderboards.site.file_names import board_slug
from advbench.leaderboards.writers.html.environment import static

AXE = "4.10.3"
RULES = {"light": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"], "dark": ["cat.color"]}
DESKTOP, PHONE = (1360, 900), (390, 844)
BOARD, EMPTY = published()["digits-linf-full/1"], published()["imagenet-linf/1"]
FOCUSED = "document.activeElement"


@pytest.fixture(scope="module")
def axe(request) -> str:
    """The source of axe-core."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm to fetch axe-core with")
    folder = Path(request.config.cache.mkdir(f"axe-core-{AXE}"))
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.is_file():
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
        command += ["--prefix", str(folder), f"axe-core@{AXE}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not fetch axe-core within a minute")
        if done.returncode:
            pytest.skip(f"npm could not fetch axe-core: {done.stderr.strip().splitlines()[-1:]}")
    return script.read_text(encoding="utf-8")


@pytest.mark.xdist_group("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(browser, site, records, axe, scheme):
    slug = board_slug(BOARD.name, BOARD.digest)
    names = ["index.html", "ranks.html", f"boards/{slug}.html", f"boards/{board_slug(EMPTY.name, EMPTY.digest)}.html"]
    names += ["methods/index.html", "methods/mart.html", f"protocols/{slug}.html", f"runs/{records[0].run}.html"]
    if scheme == "dark":  # the same markup in other colours: one page of each look
        names = [names[1], names[4], names[6]]
    barriers = []
    for name in names:
        browser.resize(PHONE if name.startswith("methods") else DESKTOP, dark=scheme == "dark")
        browser.open(site / name)
        browser.js("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        if name == f"boards/{slug}.html":
            browser.js("document.querySelectorAll('[name=group]').forEach(one => { if (!one.checked) one.click(); })")
            browser.choose("#find", 0, "trades")
        browser.js(f"{axe}; 0")
        options = {"runOnly": RULES[scheme], "resultTypes": ["violations"]}
        found = browser.js(
            f"axe.run(document, {json.dumps(options)}).then(result => result.violations.map(one => "
            "one.id + ': ' + one.nodes.slice(0, 3).map(node => node.html.slice(0, 160) + ' | ' + "
            "node.failureSummary).join(' ;; ')))"
        )
        barriers += [f"{name}: {one}" for one in found]
    assert barriers == []


@pytest.mark.xdist_group("chromium")
def test_the_keyboard_reaches_and_uses_headings_filters_and_cells(page):
    page.js("document.querySelector('#board th[data-key=clean] button').focus()")
    page.key("Enter")
    assert page.js("document.querySelector('#board th[data-key=clean]').getAttribute('aria-sort')") == "descending"
    page.key("Tab")
    assert page.js(f"{FOCUSED}.closest('th').dataset.key") == "pgd20"
    page.js("document.querySelector('#families button:last-child').focus()")
    page.key("Tab")
    assert page.js(f"{FOCUSED}.tagName") == "SUMMARY"
    page.key("Enter")
    assert page.js("document.getElementById('more').open")
    page.key("Tab")
    assert page.js(f"{FOCUSED}.name") == "division"


@pytest.mark.xdist_group("chromium")
def test_a_focused_cell_is_not_hidden_behind_the_heading_or_the_names(page):
    page.click("input[name=group][value=cost]")
    page.js("document.querySelector('.high').style.maxHeight = '260px'")
    page.js("document.querySelector('#board td[tabindex=\"0\"]').focus()")
    for key, times in (("ArrowDown", 12), ("ArrowRight", 9)):
        for _ in range(times):
            page.key(key)
    page.js("[...document.querySelectorAll('#board tbody tr')][1].querySelectorAll('td.number')[1].focus()")
    cell, head, name = page.js(
        f"[{FOCUSED}, document.querySelector('#board thead th'), {FOCUSED}.parentNode.querySelector('th')]"
        ".map(one => one.getBoundingClientRect()).map(box => [box.left, box.top, box.right, box.bottom])"
    )
    assert cell[1] >= head[3] - 1
    assert cell[0] >= name[2] - 1


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2 of a colour as #rgb or #rrggbb."""
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * one for one in digits)
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast_in_both_themes(scheme):
    """Text has at least 4.5 : 1 (WCAG 1.4.3), markers and focus rings 3 : 1 (1.4.11)."""
    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]+), (#[0-9a-f]+)\);", static()["site.css"].decode())
    colours = {name: light if scheme == "light" else dark for name, light, dark in pairs}
    for text, grounds in {
        "ink": ("paper", "raised", "wash", "warn-paper"),
        "soft": ("paper", "raised"),
        "accent": ("paper", "raised"),
        "warn": ("paper", "warn-paper"),
    }.items():
        for ground in grounds:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for family in range(11):
        assert contrast(colours[f"f{family}"], colours["paper"]) >= 3, f"marker of family {family}"


def test_every_colour_has_a_light_and_a_dark_form():
    style = static()["site.css"].decode()
    named = set(re.findall(r"--([\w-]+): light-dark\(#", style))
    assert {"paper", "ink", "line", "f0", "f10"} < named
    assert re.findall(r"var\(--([\w-]+)", style)
    assert set(re.findall(r"var\(--([\w-]+)", style)) - {"share"} <= named
    rest = re.sub(r"light-dark\([^)]*\)", "", style)
    assert not re.search(r":[^;{]*#[0-9a-f]{3,6}\b", rest), "a colour in one form only"
