"""The composed site without a browser: what is on its pages and files, bad input, and how it is put on disk."""

import csv as reader
import gzip
import hashlib
import html
import json
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main
from advbench.benchmark.protocol import Protocol, published, resolve
from advbench.benchmark.records.publish import publish
from advbench.benchmark.records.schema import Record, RecordError
from advbench.benchmark.runs.store import Store
from advbench.leaderboards.board import build
from advbench.leaderboards.site import Filed, Site, SiteError, Source, compose, load, write
from advbench.leaderboards.site.downloads import LAYOUTS
from advbench.leaderboards.site.file_names import board_slug, slug
from advbench.leaderboards.site.folder import MANIFEST
from advbench.leaderboards.site.render import markdown
from advbench.leaderboards.table import BoardError, show
from advbench.leaderboards.writers import latex
from advbench.leaderboards.writers.html.environment import static
from advbench.leaderboards.writers.html.view import minus

DIGITS = published()["digits-linf-full/1"]
HOSTILE = '<script>alert("x")</script>&"\''


def filed(records: Sequence[Record]) -> Source:
    return Source(tuple(Filed.of(record, PurePosixPath(f"{record.run}.json")) for record in records))


def text(site: Site, name: str) -> str:
    return site.files[name].decode()


def test_the_board_on_real_images_comes_first_and_alone_in_its_line(make_record):
    records = [
        make_record("pgd_at", protocol=name) for name in ("digits-linf/1", "cifar10-linf/1", "cifar10-linf-lite/1")
    ]
    front = text(compose(filed(records)), "index.html")
    assert front.count('class="card front"') == 1
    assert front.index('class="card front"') < front.index('class="card"')
    assert re.findall(r'<h2><a href="boards/([a-z0-9-]+)-1-', front) == [
        "cifar10-linf-lite",
        "cifar10-linf",
        "digits-linf",
    ]


def board_page(site: Site, record: Record) -> str:
    return text(site, f"boards/{board_slug(record.protocol_name, record.protocol_digest)}.html")


def data(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module")
def composed(board_records: list[Record]) -> Site:
    return compose(filed(board_records), protocols=[DIGITS], toml={DIGITS.digest: "name = 1\n"})


def test_every_cell_of_the_board_is_on_its_page(composed, board_records):
    table = build(board_records)
    page = board_page(composed, board_records[0])
    rows = re.findall(r"<tr id=.row-.*?</tr>", page, re.DOTALL)
    assert len(rows) == len(table.rows)
    for row, markup in zip(table.rows, rows, strict=True):
        plain = [re.sub(r"<[^>]+>", "", one) for one in re.findall(r"<t[dh].*?</t[dh]>", markup, re.DOTALL)]
        cells = [" ".join(html.unescape(one).split()) for one in plain]
        for column, cell in zip(table.columns, cells, strict=False):
            shown = show(row.cells[column.key], column, table.decimals)
            main = shown.main if column.kind == "text" else minus(shown.main)
            assert cell.startswith(" ".join(main.split()))
            assert shown.spread in cell


def test_every_seed_behind_a_cell_leads_to_its_record_file(composed, board_records):
    found = data(board_page(composed, board_records[0]))
    assert set(found["runs"]) == {record.run for record in board_records}
    for record in board_records:
        about = found["runs"][record.run]
        assert json.loads(composed.files[about["file"]])["run"] == record.run
        assert record.checkpoints["best"].sha256.startswith(about["weights"]["best"])
        page = text(composed, about["page"].removeprefix("../"))
        assert hashlib.sha256(composed.files[about["file"]]).hexdigest() in page
        for checkpoint in record.checkpoints.values():
            assert checkpoint.sha256 in page
            for outcomes in checkpoint.evaluation.columns.values():
                assert f"{100 * outcomes.accuracy:.2f}" in page
                assert f'<td class="number">{outcomes.correct.sum()}</td>' in page


def test_the_comparisons_are_those_of_the_board(composed, board_records):
    table = build(board_records)
    order = list(dict.fromkeys(row.key for row in table.rows))
    found = data(board_page(composed, board_records[0]))["comparisons"]
    claims = table.ranking.downward
    assert len(found) == len(claims) == 21
    for one, (better, worse, difference, error, *_, holds) in zip(claims, found, strict=True):
        assert (order[better], order[worse]) == (one.better, one.worse)
        assert (difference, error) == pytest.approx((100 * one.difference, 100 * one.error), abs=1e-3)
        assert bool(holds) == one.holds


def test_the_page_of_ranks_shows_the_rank_sets_of_every_board_that_has_them(composed, board_records, make_record):
    ranked = {row.label: row for row in build(board_records).rows if row.rank and row.checkpoint == "best"}
    other = [make_record("pgd_at", protocol="digits-linf/1")]
    page = text(compose(filed([*board_records, *other])), "ranks.html")
    lines = [re.sub(r"<[^>]+>", " ", line).split() for line in re.findall(r"<tr><th scope=.row.>.*?</tr>", page)]
    assert {" ".join(words[:-2]): words[-2] for words in lines} == {label: row.rank for label, row in ranked.items()}
    assert lines[0][0] == "TRADES"
    assert 'href="boards/digits-linf-1-' in page.split("Without ranks")[1]
    assert "No board has ranks yet" in text(compose(filed(other)), "ranks.html")
    assert 'href="ranks.html"' in text(composed, "index.html")


def test_downloads_hold_the_same_board(composed, board_records):
    stem = f"boards/{board_slug(DIGITS.name, DIGITS.digest)}"
    lines = list(reader.DictReader(StringIO(text(composed, f"{stem}.csv"))))
    assert [line["method"] for line in lines] == [row.label for row in build(board_records).rows]
    assert r"\begin{table}" in text(composed, f"{stem}.tex")
    assert text(composed, f"{stem}.bib").count("@inproceedings{") == 6
    page = board_page(composed, board_records[0])
    for ending in ("csv", "tex", "bib", "md"):
        assert f'href="{stem.removeprefix("boards/")}.{ending}" download' in page


def test_a_protocol_page_gives_the_bytes_of_which_its_digest_is_taken(composed):
    stem = f"protocols/{board_slug(DIGITS.name, DIGITS.digest)}"
    assert hashlib.sha256(composed.files[f"{stem}.json"]).hexdigest() == DIGITS.digest
    page = text(composed, f"{stem}.html")
    assert DIGITS.digest in page
    for key, value in (("eps", "3/20"), ("epochs", "20"), ("schedule.kind", "one-cycle")):
        assert re.search(rf"<code>{re.escape(key)}</code></th><td>{re.escape(value)}<", page)
    assert composed.files[f"{stem}.toml"] == b"name = 1\n"


def test_every_layout_to_download_is_what_the_writer_of_latex_makes(composed, board_records):
    stem, table = f"boards/{board_slug(DIGITS.name, DIGITS.digest)}", build(board_records)
    page = board_page(composed, board_records[0])
    made = {ending: text(composed, f"{stem}.{ending}") for ending in LAYOUTS}
    assert len(set(made.values())) == len(LAYOUTS) >= 6
    for ending, (name, layout) in LAYOUTS.items():
        assert made[ending] == latex.write(table, layout)
        assert f"{name} <small>" in html.unescape(page)


def test_pages_stay_light_and_the_front_page_tells_their_weight(composed, board_records):
    names = [f"assets/{name}" for name in static()]
    shared = sum(len(composed.files[name]) for name in names)
    assert shared < 60_000
    name = f"boards/{board_slug(DIGITS.name, DIGITS.digest)}.html"
    assert len(composed.files[name]) < 100_000, "seven variants with three seeds"
    front = text(composed, "index.html")
    assert f"Page {len(composed.files[name]) / 1000:.0f} kB, " in front
    assert f"Style and scripts: {shared / 1000:.0f} kB, " in front


def test_a_board_of_thirty_variants_stays_light(make_record):
    records = [make_record(f"method_{index}", shift=index / 100) for index in range(30)]
    site = compose(filed(records))
    page = board_page(site, records[0]).encode()
    assert len(page) < 240_000
    assert len(gzip.compress(page)) < 30_000


def test_nothing_a_record_says_becomes_markup(make_record):
    shown = ("label", "title", "family", "venue")
    records = [
        make_record("evil", url="javascript:alert(1)", key="k", **dict.fromkeys(shown, HOSTILE), notes=(HOSTILE,)),
        make_record("pgd_at"),
    ]
    site = compose(filed(records))
    for name, content in site.files.items():
        if name.endswith(".html"):
            page = content.decode()
            assert 'alert("x")</script>' not in page, name
            assert not re.search(r"(href|src)=.?javascript", page, re.IGNORECASE), name
    assert data(board_page(site, records[0]))["rows"][0]["label"] in {HOSTILE, "PGD-AT"}


def test_markdown_of_cards_keeps_tables_and_drops_markup():
    table = "| a | b |\n|---|---|\n| 1 | https://example.org/x. |\n"
    made = markdown(f"# A\n\n{table}\n<b>x</b> [y](javascript:z) `http://a.b`\n\n```\nhttps://k.org\n```\n")
    assert "<td>1</td>" in made
    assert '<a href="https://example.org/x">https://example.org/x</a>.' in made
    assert made.count("<a ") == 1
    assert "<b>" not in made
    assert 'href="javascript' not in made
    assert "<code>https://k.org\n</code>" in made


def test_every_page_describes_itself_and_a_board_is_a_data_set(composed, board_records):
    for name, content in composed.files.items():
        if name.endswith(".html"):
            head = content.decode().partition("</head>")[0]
            assert '<meta name="description"' in head, name
            assert '<meta property="og:title"' in head, name
            assert 'rel="icon" href="data:image/svg+xml' in head, name
    (told,) = re.findall(r'<script type="application/ld\+json">(.*?)</script>', board_page(composed, board_records[0]))
    dataset = json.loads(told)
    assert dataset["@type"] == "Dataset"
    assert dataset["identifier"] == f"sha256:{board_records[0].protocol_digest}"
    for part in dataset["distribution"]:
        assert f"boards/{part['contentUrl']}" in composed.files


def test_no_page_asks_the_network_for_anything(composed):
    for name, content in composed.files.items():
        if name.endswith(".html"):
            for link in re.findall(r"<(?:link|script|img)[^>]*(?:href|src)=\"([^\"]*)\"", content.decode()):
                assert link.startswith("data:") or "//" not in link, f"{name} loads {link}"
        elif name.endswith((".css", ".js")):
            assert "http" not in content.decode().replace("http://www.w3.org/2000/svg", ""), name


# Bad input ------------------------------------------------------------------------------------------------------------


def renamed(protocol: Protocol, epochs: int) -> Protocol:
    """A protocol with the name of another and one changed key."""
    plain = protocol.canonical()
    return Protocol.from_plain({**plain, "training": {**plain["training"], "epochs": epochs}})


def test_two_digests_of_one_name_are_two_boards_that_say_so(make_record):
    other = renamed(DIGITS, 21)
    records = [make_record("pgd_at"), make_record("trades"), make_record("pgd_at", protocol=other)]
    site = compose(filed(records))
    assert any("2 protocols are named digits-linf-full/1" in warning for warning in site.warnings)
    for record, methods in ((records[0], 2), (records[2], 1)):
        page = board_page(site, record)
        assert "1 other board on this site has this protocol's name and another digest" in page.replace("&#39;", "'")
        assert len({row["variant"] for row in data(page)["rows"]}) == methods


def test_an_empty_board_is_a_page_that_says_so():
    site = compose(Source(()), protocols=[DIGITS])
    page = text(site, f"boards/{board_slug(DIGITS.name, DIGITS.digest)}.html")
    assert "No record has been published under this protocol yet" in page
    assert "board.js" not in page
    assert not [name for name in site.files if name.endswith((".csv", ".tex", ".bib"))]
    assert "No results have been published yet" in text(site, "index.html")
    assert site.warnings == ("no record yet: the site holds protocols and cards, and empty boards",)


def test_a_method_without_bibtex_is_shown_and_the_others_are_cited(make_record):
    records = [make_record("pgd_at"), make_record("mine", key="", label="Mine")]
    site = compose(filed(records))
    stem = f"boards/{board_slug(DIGITS.name, DIGITS.digest)}"
    page = board_page(site, records[0])
    assert "Method &#39;mine&#39; cannot be cited: its card has no key." in page
    assert ">Mine</a>" in page
    assert "madry2018towards" in text(site, f"{stem}.bib")
    assert "cannot be cited" in text(site, "methods/mine.html")
    assert any("cannot be cited" in warning for warning in site.warnings)


def test_two_papers_under_one_key_do_not_share_an_entry(make_record):
    records = [make_record("pgd_at"), make_record("mine", key="madry2018towards", label="Mine")]
    site = compose(filed(records))
    assert any("another paper has its key" in warning for warning in site.warnings)
    assert text(site, f"boards/{board_slug(DIGITS.name, DIGITS.digest)}.bib").count("@") == 1


def test_runs_that_diverged_or_lack_attacks_are_shown_as_such(make_record):
    records = [make_record("pgd_at"), make_record("mart", diverged=True), make_record("act", without=("autoattack",))]
    site = compose(filed(records))
    page = board_page(site, records[0])
    assert "collapsed" in page
    assert "loss not finite in epoch 3" in text(site, f"runs/{records[1].run}.html")
    assert "not measured" in text(site, f"runs/{records[2].run}.html")


def test_duplicates_and_torn_records_are_refused(make_record, tmp_path):
    record = make_record("pgd_at")
    twice = Source(tuple(Filed.of(record, PurePosixPath(name)) for name in ("a.json", "b.json")))
    with pytest.raises(BoardError, match="2 records of PGD-AT with seed 0"):
        compose(twice)
    (tmp_path / "torn.json").write_text('{"run": 1}')
    with pytest.raises(RecordError, match=r"torn\.json: not a valid record"):
        load(tmp_path / "torn.json")
    with pytest.raises(BoardError, match="no such records folder"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["../../etc", "index", "TRADES", "a b", "", "é", "x" * 90])
def test_names_of_pages_stay_in_their_folder_and_apart(name):
    made = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", made)
    assert made != name
    assert made != slug(name + "1")


# On disk --------------------------------------------------------------------------------------------------------------


def test_a_second_build_removes_old_pages_and_nothing_else(make_record, tmp_path):
    out = tmp_path / "site"
    first = compose(filed([make_record("pgd_at"), make_record("mart")]))
    write(first, out)
    (out / "CNAME").write_text("robust.example.org")
    assert (out / "methods/mart.html").is_file()
    written = write(compose(filed([make_record("pgd_at")])), out)
    assert not (out / "methods/mart.html").exists()
    assert (out / "CNAME").is_file()
    assert all(path.is_file() for path in written)


def test_a_manifest_cannot_lead_out_of_the_folder(make_record, tmp_path):
    out = tmp_path / "site"
    out.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (out / MANIFEST).write_text("../precious\n")
    write(compose(filed([make_record("pgd_at")])), out)
    assert precious.read_text() == "kept"


def test_folders_with_other_files_or_among_the_records_are_refused(make_record, tmp_path):
    site = compose(filed([make_record("pgd_at")]))
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SiteError, match="holds files that no site has written; give an empty or a new folder"):
        write(site, tmp_path)
    with pytest.raises(SiteError, match="a file has that name"):
        write(site, tmp_path / "thesis.tex")


def advbench(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def folder(make_record: Callable[..., Record], tmp_path: Path) -> Path:
    publish([make_record("pgd_at"), make_record("trades")], tmp_path / "records")
    return tmp_path / "records"


def test_the_command_writes_cards_protocols_and_the_records_as_they_are(folder, tmp_path):
    said = advbench("site", "--records", folder, "--out", tmp_path / "site")
    assert f"open {tmp_path / 'site/index.html'}" in said
    for file in folder.rglob("*.json"):
        assert (tmp_path / "site/records" / file.relative_to(folder)).read_bytes() == file.read_bytes()
    card = (tmp_path / "site/methods/trades.html").read_text(encoding="utf-8")
    assert "Hyper-parameters" in card
    assert "zhang2019theoretically" in card
    pages = {path.name for path in (tmp_path / "site/protocols").glob("*.html")}
    assert pages == {"index.html", *(f"{board_slug(one.name, one.digest)}.html" for one in published().values())}
    toml = tmp_path / f"site/protocols/{board_slug(DIGITS.name, DIGITS.digest)}.toml"
    assert resolve(str(toml)).digest == DIGITS.digest


def test_the_command_refuses_in_one_line_and_leaves_the_old_site_alone(folder, tmp_path):
    out = tmp_path / "site"
    advbench("site", "--records", folder, "--out", out)
    before = (out / "index.html").read_bytes()
    (folder / "twice.json").write_bytes(next(folder.rglob("seed0.json")).read_bytes())
    assert "2 records of" in advbench("site", "--records", folder, "--out", out, code=2)
    assert (out / "index.html").read_bytes() == before
    assert "lies inside the records folder" in advbench("site", "--records", folder, "--out", folder / "site", code=2)
    assert "no such records folder" in advbench("site", "--records", tmp_path / "no", "--out", out, code=2)


def test_a_store_makes_the_site_that_its_published_records_make(folder, make_record, tmp_path, monkeypatch):
    kept = [(Path("run"), make_record(name)) for name in ("pgd_at", "trades")]
    monkeypatch.setattr(Store, "records", lambda _: kept)
    advbench("site", "--records", folder, "--protocol", DIGITS.name, "--out", tmp_path / "a")
    advbench("site", "--store", tmp_path, "--protocol", DIGITS.name, "--out", tmp_path / "b")
    names = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert any(name.parts[0] == "records" for name in names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_command_shows_one_protocol_even_without_results(folder, tmp_path):
    advbench("site", "--records", folder, "--protocol", "cifar10-linf", "--out", tmp_path / "site")
    assert len(list((tmp_path / "site/boards").glob("*.html"))) == 1
    assert not (tmp_path / "site/records").exists()
