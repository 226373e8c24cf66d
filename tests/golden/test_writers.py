"""The writers: golden files, the same numbers from every format, escaping, and LaTeX that compiles."""

import csv as reader
import io
import os
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from advbench.benchmark.protocol import resolve
from advbench.benchmark.records.schema import Flag
from advbench.leaderboards import bibtex, board
from advbench.leaderboards.table import BoardError, show
from advbench.leaderboards.writers import csv, html, latex, markdown, terminal
from advbench.leaderboards.writers.latex import Layout

HERE = Path(__file__).parent
NASTY = r"A_b & 50% $x$ #1 {z} ~^\|*`<script>alert(1)</script>"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
WRITERS = {
    "board.md": markdown.write,
    "board.csv": csv.write,
    "board.html": html.write,
    "board.txt": terminal.write,
    "board.tex": latex.write,
    "board-columns.tex": lambda table: latex.write(table, Layout(blocks="columns", span="double", style="plain")),
    "board-transposed.tex": lambda table: latex.write(table, Layout(transpose=True, cite=False)),
    "board.bib": lambda table: bibtex.write(row.identity for row in table.rows),
}


@pytest.fixture(scope="module")
def full_board(board_records, make_record):
    """Every kind of cell: ranked, provisional, withheld, with a caution, collapsed, missing, one seed fewer."""
    masked, doubted = (
        Flag(name=name, kind="masking", state="raised") for name in ("zero-gradients", "autoattack-far-below-pgd")
    )
    records = [*board_records, *(make_record("gairat", seed=seed, label="GAIRAT", flags=(masked,)) for seed in (0, 1))]
    records += [make_record("fat", seed=0, label="FAT", without=("cw",)), make_record("fat", seed=1, diverged=True)]
    records += [
        make_record("nasty", seed=seed, label=NASTY, notes=("own inner step",), flags=(doubted,)) for seed in (0, 1, 2)
    ]
    records += [make_record("gone", seed=seed, label="Gone", diverged=True) for seed in (0, 1)]
    return board.build(records)


@pytest.mark.parametrize("name", WRITERS)
def test_golden(name, full_board):
    """`ADVBENCH_UPDATE_GOLDEN=1` writes the files anew; look at the difference before committing it."""
    found = WRITERS[name](full_board)
    golden = HERE / name
    if os.environ.get("ADVBENCH_UPDATE_GOLDEN"):
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


def rows_of_markdown(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]


class Cells(HTMLParser):
    """Collect the text and attributes of the cells of the first table's body."""

    def __init__(self):
        super().__init__()
        self.rows, self.attributes, self.inside, self.body, self.tables = [], [], False, False, 0

    def handle_starttag(self, tag, attrs):
        self.tables += tag == "table"
        self.body |= tag == "tbody" and self.tables == 1
        if self.body and tag == "tr":
            self.rows.append([])
            self.attributes.append([])
        if self.body and tag in {"td", "th"}:
            self.rows[-1].append("")
            self.attributes[-1].append(dict(attrs))
            self.inside = True

    def handle_endtag(self, tag):
        self.body &= tag != "tbody"
        self.inside &= tag not in {"td", "th"}

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


PHANTOM = re.compile(r"\\phantom(\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{\})*\})*\})*\})")
"""What keeps a place and shows nothing."""


def numbers(text):
    """The numbers in a cell, without the LaTeX or Markdown around them; counts of seeds are not numbers of the cell."""
    text = re.sub(r"\(n=\d+\)|\(\d+ collapsed\)", "", text.replace("$-$", "-").replace("−", "-"))
    return [float(one) for one in NUMBER.findall(re.sub(r"\\multicolumn\{\d+\}", "", PHANTOM.sub("", text)))]


def expected(table, row, key, *, spread=True):
    shown = show(row.cells[key], table.column(key), table.decimals)
    parts = (shown.main, shown.spread if spread else "")
    return [float(number) for part in parts for number in NUMBER.findall(part)]


NUMERIC = ("rank", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst", "nrr", "gap_pgd20", "gap_autoattack")
COST = ("hours", "memory", "passes", "parameters", "trained")


def test_numbers_read_back_from_markdown(full_board):
    rows = rows_of_markdown(markdown.write(full_board))
    assert len(rows) == len(full_board.rows)
    keys = [column.key for column in full_board.columns]
    for cells, row in zip(rows, full_board.rows, strict=True):
        assert len(cells) == len(keys)
        for key in (*NUMERIC, *COST, "seeds"):
            assert numbers(cells[keys.index(key)]) == expected(full_board, row, key), (row.label, key)


def test_numbers_read_back_from_html(full_board):
    parser = Cells()
    page = html.write(full_board)
    parser.feed(page)
    keys = [column.key for column in full_board.columns]
    heads = re.findall(r'<th scope="col"[^>]* data-key="(\w+)"', page)
    assert heads[: len(keys)] == keys
    assert len(parser.rows) == len(full_board.rows)
    for cells, attributes, row in zip(parser.rows, parser.attributes, full_board.rows, strict=True):
        for key in (*NUMERIC, *COST, "seeds"):
            assert "-" not in cells[keys.index(key)], "a minus sign, not a hyphen"
            assert numbers(cells[keys.index(key)]) == expected(full_board, row, key), (row.label, key)
            value = attributes[keys.index(key)].get("data-m")
            mean = row.cells[key].mean
            assert (float(value) if value else None) == mean


def test_numbers_read_back_from_csv(full_board):
    lines = list(reader.DictReader(io.StringIO(csv.write(full_board))))
    assert len(lines) == len(full_board.rows)
    for line, row in zip(lines, full_board.rows, strict=True):
        ends = [float(line[name]) for name in ("rank_low", "rank_high") if line[name]]
        assert ends == list(row.cells["rank"].interval or ())
        for key in NUMERIC[1:]:
            shown = [f"{float(line[name]):.1f}" for name in (key, f"{key}_sd") if line[name]]
            assert [float(one) for one in shown] == expected(full_board, row, key)
            assert line[f"{key}_state"] == row.cells[key].state
            assert int(line[f"{key}_n"]) == row.cells[key].n
        assert line["digest"] == full_board.digest
        assert line["runs"].split() == list(row.runs)


@pytest.mark.parametrize("blocks", ["rows", "columns"])
def test_numbers_read_back_from_latex(full_board, blocks):
    keys = ("clean", "pgd20", "cw", "autoattack", "gap_autoattack")
    text = latex.write(full_board, Layout(blocks=blocks, columns=keys, cite=False))
    body = text.split("\\begin{tabular}")[1].split("\\end{tabular}")[0]
    lines = [line for line in body.splitlines() if " & " in line and r"\,{\tiny" in line]
    best = [row for row in full_board.rows if row.checkpoint == "best"]
    last = [row for row in full_board.rows if row.checkpoint == "last"]
    found = [[numbers(cell) for cell in re.split(r"(?<!\\)&", line)[1:]] for line in lines]
    if blocks == "rows":
        wanted = [[expected(full_board, row, key) for key in keys] for row in best + last]
    else:
        wanted = [
            [expected(full_board, row, key) for row in pair for key in keys[:4]]
            + [expected(full_board, pair[0], keys[4])]
            for pair in zip(best, last, strict=True)
        ]
    assert found == [row for row in wanted if any(row)]


def test_numbers_read_back_from_the_terminal(full_board):
    keys = ("rank", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst")
    table = full_board.select(columns=keys)
    lines = terminal.write(table, width=200).splitlines()
    start = next(number for number, line in enumerate(lines) if "──" in line) + 1
    for line, row in zip(lines[start:], full_board.rows, strict=False):
        flat = [number for key in keys for number in expected(full_board, row, key)]
        assert numbers(line) == flat


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100])
def test_a_narrow_terminal_loses_columns_and_no_digit(full_board, width):
    keys = ("rank", "clean", "pgd20", "pgd100", "cw", "autoattack", "worst")
    text = terminal.write(full_board.select(columns=keys), width=width)
    assert "…" not in text
    lines = [line for line in text.splitlines() if line.strip()]
    assert max(map(len, lines)) <= width
    start = next(number for number, line in enumerate(lines) if "──" in line) + 1
    heads = " ".join(lines[1 : start - 1]).split()
    shown = [key for key in keys if full_board.column(key).short in heads]
    assert "autoattack" in shown
    assert ("Columns that do not fit this width" in " ".join(text.split())) == (shown != list(keys))
    for line, row in zip(lines[start:], full_board.rows, strict=False):
        assert numbers(line) in [
            [number for key in shown for number in expected(full_board, row, key, spread=spread)]
            for spread in (True, False)
        ]


def test_every_format_shows_mark_and_reason_of_a_masked_row(full_board):
    for name, write in WRITERS.items():
        if name == "board.bib":
            continue
        text = write(full_board)
        assert ("†" in text) or (r"\dag" in text) or ("masking" in text), name
    for name in ("board.md", "board.csv", "board.html", "board.txt"):
        assert "withheld" in WRITERS[name](full_board), name


def test_missing_and_collapsed_are_words_not_zeros(full_board):
    rows = {(row.label, row.checkpoint): row for row in full_board.rows}
    column = full_board.column("cw")
    assert show(rows["FAT", "best"].cells["cw"], column, 1).plain == "–"
    assert show(rows["Gone", "best"].cells["cw"], column, 1).plain == "collapsed"
    assert show(rows["FAT", "best"].cells["clean"], column, 1).plain.endswith("(n=1)")


def test_one_seed_shows_its_interval(make_record):
    table = board.build([make_record("trades")])
    assert re.search(r"\| 57\.\d \[5\d\.\d, 6\d\.\d\] \|", markdown.write(table))
    assert r"\tiny [" not in latex.write(table)
    assert "up to ±5" in " ".join(note.brief for note in table.notes)
    assert r"{\tiny [" in latex.write(table, Layout(intervals=True))


def test_names_cannot_break_out_of_any_format(full_board):
    page = html.write(full_board)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "<script>" not in markdown.write(full_board).replace(r"\<script\>", "")
    lines = list(reader.DictReader(io.StringIO(csv.write(full_board))))
    assert any(line["method"] == NASTY for line in lines)


def test_the_page_needs_no_network(full_board):
    page = html.write(full_board)
    assert not re.findall(r"(?:src|<link|@import|url\()", page)
    assert "color-scheme: light dark" in page
    assert "light-dark(" in page


SORT = """<script>
const click = selector => document.querySelector(selector).click();
const set = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("input"));
};
click("#board th[data-key=clean] button");
click("#board th[data-key=rank] button");
click("#board th[data-key=rank] button");
click("input[name=checkpoint][value=best]");
set("find", "regular");
document.body.dataset.shown = [...document.querySelector("#board tbody").rows].filter(row => !row.hidden)
  .map(row => row.querySelector("th").textContent.trim()).join("|");
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed (apt-get install chromium)")
def test_the_page_sorts_and_filters_in_a_browser(full_board, tmp_path):
    page = tmp_path / "board.html"
    page.write_text(html.write(full_board).replace("</body>", f"{SORT}</body>"), encoding="utf-8")
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    shown = unescape(re.search(r'data-shown="([^"]*)"', done.stdout).group(1))
    regular = [row for row in full_board.rows if row.checkpoint == "best" and row.identity.family == "regularised"]
    ranked = sorted((row for row in regular if row.cells["rank"].mean), key=lambda row: -row.cells["rank"].mean)
    places = [row.cells["rank"].mean for row in ranked]
    assert len(shown.replace(NASTY, "nasty").split("|")) == len(regular)
    named = {f"{row.label}{row.signs}".replace(NASTY, "nasty"): row for row in regular}
    order = [named[" ".join(name.split())].cells["rank"].mean for name in shown.replace(NASTY, "nasty").split("|")]
    assert order[: len(places)] == places
    assert order[len(places) :] == [None] * (len(regular) - len(places))


def test_an_empty_board_is_a_correct_page():
    table = board.build([], resolve("digits-linf/1"))
    assert "No record" in markdown.write(table)
    assert "No record has been published under this protocol yet" in html.write(table)
    assert "No record" in terminal.write(table)
    assert csv.write(table).startswith("rank_low,rank_high,rank_pareto,rank_state,method")
    with pytest.raises(BoardError, match="no rows"):
        latex.write(table)


def test_decimals_and_columns_of_latex(full_board):
    text = latex.write(full_board, Layout(columns=("clean", "rank"), decimals=3, methods=("TRADES",)))
    assert re.search(r"TRADES\}~\\cite\{zhang2019theoretically\} & \d\d\.\d{3}\\,\{\\tiny", text)
    assert "SGLR" not in text
    assert "methods of the board are not shown" in text
    with pytest.raises(BoardError, match="no column 'aa'"):
        latex.write(full_board, Layout(columns=("aa",)))
    with pytest.raises(BoardError, match="transposed"):
        latex.write([full_board, full_board], Layout(transpose=True))


def test_latex_of_a_narrowed_board(full_board):
    text = latex.write(full_board.select(columns=["method", "clean", "rank"]))
    assert "Method & Clean & Rank" in text
    for checkpoint, other in (("best", "Last"), ("last", "Best")):
        chosen = full_board.select(checkpoints=[checkpoint])
        for layout in (Layout(), Layout(blocks="columns"), Layout(transpose=True)):
            text = latex.write(chosen, layout)
            row = next(row for row in chosen.rows if row.label == "TRADES")
            assert f"{row.cells['pgd20'].mean:.1f}" in text
            assert other not in text.split(r"\begin{tabular}")[1].split(r"\end{tabular}")[0]


def test_second_is_underlined_only_on_demand(full_board):
    assert r"\underline" not in latex.write(full_board)
    assert r"\underline" in latex.write(full_board, Layout(second=True))


def test_bibtex_needs_a_citation_and_one_paper_a_key(make_record):
    good = make_record("trades").method
    assert bibtex.write([good, good]).count("@inproceedings{zhang2019theoretically,") == 1
    assert bibtex.entry(good.model_copy(update={"venue": "arXiv preprint"})).startswith("@article")
    with pytest.raises(BoardError, match="its card has no title"):
        bibtex.write([good.model_copy(update={"title": " "})])
    with pytest.raises(BoardError, match="no BibTeX key"):
        bibtex.write([good.model_copy(update={"key": "a b,c"})])
    with pytest.raises(BoardError, match="names two papers"):
        bibtex.write([good, good.model_copy(update={"title": "Another", "name": "x"})])


DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage{booktabs,graphicx}
\textwidth 6.875in \columnsep 0.3125in \textheight 8.875in \topmargin -0.5in \oddsidemargin -0.18in
\begin{document}
%s
\bibliographystyle{plain}\bibliography{board}
\end{document}
"""


def compile_latex(folder: Path, tables: list[str], entries: str) -> str:
    """Run pdflatex, bibtex and pdflatex twice; return the last log."""
    (folder / "board.bib").write_text(entries, encoding="utf-8")
    (folder / "paper.tex").write_text(DOCUMENT % "\n\\clearpage\n".join(tables), encoding="utf-8")
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        done = subprocess.run([command, *options, "paper"], cwd=folder, capture_output=True, check=False)
        log = (folder / "paper.log").read_text(encoding="latin-1")
        assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]
    return log


@pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("bibtex")),
    reason="pdflatex is not installed (apt-get install texlive-latex-base texlive-latex-recommended)",
)
def test_latex_compiles_and_fits(full_board, make_record, tmp_path):
    thirty = board.build(
        [make_record(f"m{number}", label=f"Method-{number}", shift=-number / 200) for number in range(30)]
    )
    one = board.build([make_record("trades")])
    layouts = {
        f"{blocks}-{span}-{style}": Layout(
            blocks=blocks, span=span, style=style, second=True, label=f"t:{blocks}{span}{style}"
        )
        for blocks in ("rows", "columns")
        for span in ("single", "double")
        for style in ("booktabs", "plain")
    }
    layouts["transposed"] = Layout(transpose=True, label="t:transposed")
    layouts["all"] = Layout(
        span="double",
        label="t:all",
        columns=tuple(one.key for one in full_board.columns if one.key not in {"method", "checkpoint"}),
    )
    tables = [latex.write(full_board, layout) for layout in layouts.values()]
    tables += [latex.write(thirty, Layout(label="t:thirty")), latex.write(one, Layout(label="t:one", intervals=True))]
    tables += [latex.write([one, thirty], Layout(label="t:two", span="double", blocks="columns"))]
    entries = bibtex.write(row.identity for table in (full_board, thirty) for row in table.rows)
    log = compile_latex(tmp_path, tables, entries)
    assert "Overfull" not in log
    assert "undefined" not in log.replace("undefined. Using", "")
    assert "Float too large" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
