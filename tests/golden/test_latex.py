"""LaTeX for papers: venues, groups of boards, blocks of checkpoints, published numbers; compiled and measured."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from advbench.benchmark.protocol import resolve
from advbench.benchmark.records.schema import Flag
from advbench.leaderboards import bibtex, board, published_numbers
from advbench.leaderboards.published_numbers import Published
from advbench.leaderboards.table import ELSEWHERE, BoardError
from advbench.leaderboards.writers import latex
from advbench.leaderboards.writers.latex import VENUES, Layout
from advbench.leaderboards.writers.latex.cells import CellSource, aligned

PHANTOM = re.compile(r"\\phantom(\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{\})*\})*\})*\})")
"""What keeps a place and shows nothing."""
SOURCE = "https://example.org/some_very-long/address/of_a/repository-with_no-place/to_break README"
NUMBERS = {
    "trades": [
        Published(
            dataset="CIFAR-10", network="PreActResNet-18", eps="8/255", source=SOURCE, clean=84.9, autoattack=53.0
        ),
        Published(
            dataset="CIFAR-10",
            network="PreActResNet-18",
            eps="8/255",
            source="https://example.org/x README",
            row="TRADES & friends",
            checkpoint="final",
            clean=82.55,
            other=41.4,
            attack="PGD, steps not stated",
        ),
    ]
}


@pytest.fixture(scope="module")
def cifar(make_record):
    """One board with three seeds, one method masked, and two published rows."""
    protocol = resolve("cifar10-linf/1")
    flag = Flag(name="zero-gradients", kind="masking", state="raised")
    records = [
        make_record(name, seed=seed, protocol=protocol, images=1000, flags=(flag,) if name == "act" else ())
        for name in ("pgd_at", "trades", "mart", "sglr", "act", "standard")
        for seed in (0, 1, 2)
    ]
    return published_numbers.beside(board.build(records), protocol, numbers=NUMBERS)


@pytest.fixture(scope="module")
def boards(cifar, make_record):
    """Four boards: two data sets, two networks."""

    def made(name, **more):
        protocol = resolve(name)
        methods = ("pgd_at", "trades", "mart")
        return board.build([make_record(one, protocol=protocol, images=1000, **more) for one in methods])

    return [made("cifar100-linf"), cifar, made("cifar10-linf-wrn", device="NVIDIA H200"), made("cifar100-linf-wrn")]


def body(text: str) -> str:
    return text.split(r"\begin{tabular}")[1].split(r"\end{tabular}", maxsplit=1)[0]


def cells(line: str) -> list[str]:
    return [cell.strip().removesuffix(r"\\").strip() for cell in re.split(r"(?<!\\)&", PHANTOM.sub("", line))]


def line_of(text: str, start: str) -> list[str]:
    (found,) = [line for line in body(text).splitlines() if line.startswith(start)]
    return cells(found)


def mean(table, label: str, key: str, checkpoint: str = "best") -> float:
    (row,) = [row for row in table.rows if (row.label, row.checkpoint) == (label, checkpoint)]
    return row.cells[key].mean


def test_venues_set_environment_caption_and_citation(cifar):
    for key, name, double in (
        ("cvpr", r"\cite{", "table*"),
        ("neurips", r"\citep{", "table"),
        ("icml", r"\citep{", "table*"),
    ):
        single = latex.write(cifar, Layout(venue=key))
        wide = latex.write(cifar, Layout(venue=key, span="double"))
        assert r"\begin{table}[t]" in single
        assert rf"\begin{{{double}}}[t]" in wide
        assert f"~{name}zhang2019theoretically}}" in single
        assert (single.index(r"\caption") > single.index(r"\end{tabular}")) == (key == "cvpr")
        assert f"for {VENUES[key].name}: {VENUES[key].column:.2f} in" in single
    narrow, full = (body(latex.write(cifar, Layout(venue=key))).splitlines()[2] for key in ("icml", "neurips"))
    assert len(cells(narrow)) < len(cells(full))  # where the text has one column, it is wide
    with pytest.raises(BoardError, match="no venue 'eccv'; there are: cvpr, neurips, icml"):
        latex.write(cifar, Layout(venue="eccv"))


def test_attacks_show_best_last_and_their_difference(cifar):
    text = latex.write(
        cifar, Layout(blocks="attacks", span="double", columns=("clean", "autoattack", "gap_autoattack"))
    )
    assert r"\multicolumn{2}{c}{Clean} & \multicolumn{3}{c}{AA}" in text
    assert r"Method & Best & Last & Best & Last & Diff. \\" in text
    found = line_of(text, "MART")
    numbers = [
        float(re.match(r"-?[\d.]+", re.sub(r"\\(?:textbf|underline)\{|\$-\$", "", cell)).group()) for cell in found[1:]
    ]
    assert numbers == [
        pytest.approx(mean(cifar, "MART", key, checkpoint), abs=0.006)
        for key, checkpoint in (
            ("clean", "best"),
            ("clean", "last"),
            ("autoattack", "best"),
            ("autoattack", "last"),
            ("gap_autoattack", "best"),
        )
    ]
    assert "Diff." in latex.write(cifar, Layout(blocks="attacks"))
    one = latex.write(cifar.select(checkpoints=["last"]), Layout(blocks="attacks"))
    assert "Diff." not in body(one)
    assert "Best" not in body(one)


def test_groups_keep_boards_apart(boards):
    text = latex.write(boards, Layout(group_by="dataset", span="double", second=True))
    titles = re.findall(r"\\multicolumn\{10\}\{@\{\}c@\{\}\}\{(.*?)\} ", text)
    assert titles == ["CIFAR-10", "CIFAR-100"]
    headings = re.findall(r"\\textit\{(.*?)\}", text)
    assert headings == [
        f"{network}, {block}"
        for data in ("10", "100")
        for network in ("PreActResNet-18", "WRN-34-10")
        for block in (
            "best checkpoint",
            "last checkpoint",
            *(["as published, not measured here"] if (data, network) == ("10", "PreActResNet-18") else []),
        )
    ]
    assert "Each protocol is ranked by itself" in text
    other = latex.write(boards, Layout(group_by="network"))
    assert re.findall(r"c@\{\}\}\{(.*?)\} ", other) == ["PreActResNet-18", "WRN-34-10"]
    alone = latex.write(boards[0], Layout(group_by="dataset"))
    assert "ranked by itself" not in alone
    for table in boards:
        assert table.digest[:16] in text


def test_families_are_groups_and_differences_are_to_the_baseline(cifar):
    layout = Layout(group_by="family", baseline="pgd-at", columns=("clean", "autoattack", "gap_autoattack"), cite=False)
    text = latex.write(cifar.select(checkpoints=["best"]), layout)
    headings = re.findall(r"\\textit\{(.*?)\}", body(text))
    families = dict.fromkeys(row.identity.family.capitalize() for row in cifar.rows)
    assert headings == list(families)
    assert "In parentheses: difference to pgd-at." in text
    own, other = line_of(text, "PGD-AT"), line_of(text, r"\textbf{MART}" if r"\textbf{MART}" in text else "MART")
    assert "(" not in own[1]
    for cell, key in ((other[1], "clean"), (other[2], "autoattack")):
        difference = round(mean(cifar, "MART", key) - mean(cifar, "PGD-AT", key), cifar.decimals)
        assert f"({difference:+.{cifar.decimals}f})" in cell.replace("$-$", "-").replace("$+$", "+")
    assert "(" not in other[3], "a gap is a difference already"
    with pytest.raises(BoardError, match="no method 'nobody'"):
        latex.write(cifar, Layout(baseline="nobody"))
    with pytest.raises(BoardError, match="only one board can be grouped by family"):
        latex.write([cifar, cifar], layout)


def test_ranks_stand_in_wide_tables_where_there_are_ranks(cifar, make_record):
    (found,) = [line for line in body(latex.write(cifar, Layout(span="double"))).splitlines() if "MART" in line][:1]
    (row,) = [row for row in cifar.rows if row.label == "MART" and row.checkpoint == "best"]
    assert row.rank.replace("–", "--") in cells(found)[1]
    assert "Rank" not in latex.write(board.build([make_record("trades")]), Layout(span="double"))


def test_decimal_points_of_a_column_stand_below_each_other():
    column = [CellSource("97.1", r"\,{\tiny x}", "97.1"), CellSource(r"$-$5", "", "-5"), CellSource("withheld")]
    assert aligned(column) == [
        r"\phantom{$-$}97.1\,{\tiny x}",
        r"\phantom{0}$-$5\phantom{.0}\phantom{\,{\tiny x}}",
        "withheld",
    ]


def test_a_table_taller_than_a_page_becomes_several_and_loses_nothing(make_record, caplog):
    records = [make_record(f"m{number}", label=f"Method-{number}", shift=-number / 200) for number in range(60)]
    table = board.build(records)
    text = latex.write(table, Layout(cite=False))
    assert text.count(r"\begin{table}") == text.count(r"\addtocounter{table}{-1}") + 1 == 2
    assert text.count(r"\label{") == 1
    assert [text.count(f"Method-{number} &") for number in range(60)] == [2] * 60
    assert text.count(table.digest[:16]) == 1, "the notes stand below the last part"
    (warning,) = caplog.messages
    assert "taller than a page" in warning
    short = table.select(top=10)
    assert latex.write(short, Layout(cite=False)).count(r"\begin{table}") == 1
    assert "50 methods of the board are not shown" in " ".join(note.text for note in short.notes)


def test_bold_is_each_boards_own(boards):
    text = body(latex.write(boards, Layout(group_by="dataset", cite=False)))
    emphasised = {(row.label, table.digest) for table in boards for row in table.rows if row.cells["rank"].bold}
    bold = [line for line in text.splitlines() if line.startswith(r"\textbf{")]
    assert len(bold) == len(emphasised)
    for line in bold:
        assert line.count(r"\textbf{") == 2  # the name and AutoAttack, nothing else


def test_units_are_told_where_boards_differ(boards):
    text = latex.write(boards, Layout(group_by="dataset", columns=("clean", "hours")))
    assert "Training (" not in body(text)
    assert "CPU-h" in body(text)
    assert "GPU-h" in body(text)
    assert "Training (CPU-h)" in latex.write(boards[0], Layout(columns=("clean", "hours")))


def test_a_method_may_be_on_one_of_the_boards_only(boards):
    text = latex.write(boards, Layout(group_by="dataset", methods=("sglr", "trades")))
    assert body(text).count("SGLR") == 2
    assert "MART" not in body(text)
    with pytest.raises(BoardError, match="no method 'nobody' on any of these boards"):
        latex.write(boards, Layout(methods=("nobody",)))


@pytest.mark.parametrize(
    "layout", [Layout(), Layout(blocks="columns"), Layout(blocks="attacks"), Layout(transpose=True)]
)
def test_published_rows_stand_apart_and_read_back(cifar, layout):
    keys = ("clean", "autoattack")
    text = latex.write(cifar, replace(layout, columns=keys, cite=False))
    assert body(text).count(ELSEWHERE) == 1
    after = body(text).split(ELSEWHERE)[1]
    assert r"\textbf" not in (after if not layout.transpose else "")
    if layout.transpose:
        rows = [cells(line) for line in body(text).splitlines() if line.startswith(("Clean", "AA"))]
        quoted = [[row[-2], row[-1]] for row in rows]
        assert quoted == [["84.9", ""], ["53.0", ""], ["", "82.55"], ["", ""]]
    else:
        first, second = line_of(text, "TRADES\\textsuperscript{a}"), line_of(text, r"TRADES \& friends")
        assert [cell for cell in first[1:] if cell] == ["84.9", "53.0"]
        assert [cell for cell in second[1:] if cell] == ["82.55"]
        if layout.blocks == "columns":
            assert second[3] == "82.55"  # Clean of Last: the source says final
    plain = text.replace(r"\allowbreak{}", "").replace(r"\_", "_")
    assert f" a: {SOURCE}, checkpoint not stated. b: " in plain
    assert r"checkpoint final; 41.40 under PGD, steps not stated." in plain


def test_only_what_can_be_cited_is_cited(make_record, cifar):
    records = [make_record("pgd_at"), make_record("trades", key=""), make_record("mart", title=" ")]
    table = board.build(records)
    text = latex.write(table)
    assert set(re.findall(r"\\cite\{(.*?)\}", text)) == {"madry2018towards"}
    entries, problems = bibtex.gather(row.identity for row in table.rows)
    assert entries.count("@") == 1
    assert [re.search(r"'(\w+)' cannot be cited: its card has no (\w+)", one).groups() for one in sorted(problems)] == [
        ("mart", "title"),
        ("trades", "key"),
    ]
    for venue in VENUES:
        text = latex.write(cifar, Layout(venue=venue))
        entries, _ = bibtex.gather(row.identity for row in cifar.rows)
        for key in re.findall(r"\\citep?\{(.*?)\}", text):
            assert f"{{{key},\n" in entries


def test_entries_are_ascii(make_record):
    authors = "Émile Exämple and Ça Şahin and Łukasz Straße and Nguyễn Văn"
    text = bibtex.entry(make_record("trades", authors=authors).method)
    assert text.isascii()
    assert r"{\'{E}}mile Ex{\"{a}}mple and {\c{C}}a {\c{S}}ahin and {\L}ukasz Stra{\ss}e and Nguy" in text


GEOMETRY = {
    "cvpr": r"\textwidth 6.875in \columnsep 0.3125in",
    "icml": r"\textwidth 6.75in \columnsep 0.25in",
    "neurips": r"\textwidth 5.5in",
}
DOCUMENT = r"""\documentclass[10pt%s]{article}
\usepackage{booktabs,graphicx%s}
%s \textheight 8.875in \topmargin -0.5in \oddsidemargin -0.18in
\begin{document}
%s
\bibliographystyle{%s}\bibliography{board}
\end{document}
"""


def compiled(folder: Path, venue: str, tables: list[str], entries: str) -> str:
    """Compile tables with a venue's page; return the last log."""
    folder.mkdir()
    (folder / "board.bib").write_text(entries, encoding="utf-8")
    natbib = VENUES[venue].cite == r"\citep"
    text = DOCUMENT % (
        "" if venue == "neurips" else ",twocolumn",
        ",natbib,url" if natbib else "",
        GEOMETRY[venue],
        "\n\\clearpage\n".join(tables),
        "plainnat" if natbib else "plain",
    )
    (folder / "paper.tex").write_text(text, encoding="utf-8")
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        done = subprocess.run([command, *options, "paper"], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]
    return (folder / "paper.log").read_text(encoding="latin-1")


@pytest.mark.skipif(
    not (shutil.which("pdflatex") and shutil.which("bibtex")),
    reason="pdflatex is not installed (apt-get install texlive-latex-base texlive-latex-recommended)",
)
@pytest.mark.parametrize("venue", list(VENUES))
def test_every_layout_compiles_and_fits_every_venue(venue, cifar, boards, make_record, tmp_path):
    thirty = board.build(
        [
            make_record(f"m{number}", label=f"Method-{number}", shift=-number / 200, authors=f"Ann Author{number}")
            for number in range(30)
        ]
    )
    one = board.build([make_record("trades")])
    tables = [
        latex.write(cifar, Layout(venue=venue, blocks=blocks, span=span, second=True, label=f"t:{blocks}{span}"))
        for blocks in ("rows", "columns", "attacks")
        for span in ("single", "double")
    ]
    tables += [
        latex.write(boards, Layout(venue=venue, group_by="dataset", span="double", label="t:g")),
        latex.write(boards, Layout(venue=venue, group_by="network", blocks="attacks", style="plain", label="t:n")),
        latex.write(cifar, Layout(venue=venue, transpose=True, style="plain", label="t:t")),
        latex.write(thirty, Layout(venue=venue, label="t:30")),
        latex.write(thirty, Layout(venue=venue, blocks="attacks", span="double", label="t:30a")),
        latex.write(one, Layout(venue=venue, label="t:1", intervals=True)),
    ]
    every = [row.identity for table in (*boards, thirty, one) for row in table.rows]
    log = compiled(tmp_path / venue, venue, tables, bibtex.write(every))
    assert "Overfull" not in log
    assert "undefined" not in log.replace("undefined. Using", "")
    assert "Float too large" not in log
