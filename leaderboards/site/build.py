"""Compose the site: every page and file by its name, in memory, so that bad input leaves an old site untouched."""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.records.schema import MethodIdentity, Record
from advbench.leaderboards import board as boards
from advbench.leaderboards import external_rows, published_numbers
from advbench.leaderboards.published_numbers import Published
from advbench.leaderboards.site import board_page, file_names, method_page, ranks_page, run_page, superseded
from advbench.leaderboards.site.board_page import Board
from advbench.leaderboards.site.render import page
from advbench.leaderboards.site.source import Source, by_digest, places
from advbench.leaderboards.writers.escaping import display
from advbench.leaderboards.writers.html.environment import static
from advbench.leaderboards.writers.html.view import Links

TITLE = "Adversarial robustness leaderboards"


@dataclass(frozen=True)
class Site:
    """A composed site: the bytes of each file by name, and what whoever builds it should know, a sentence each."""

    files: dict[str, bytes] = field(repr=False)
    warnings: tuple[str, ...] = ()


def compose(
    source: Source,
    *,
    protocols: Sequence[Protocol] = (),
    cards: Mapping[str, str] | None = None,
    methods: Sequence[MethodIdentity] = (),
    toml: Mapping[str, str] | None = None,
    numbers: Mapping[str, Sequence[Published]] | None = None,
    title: str = TITLE,
) -> Site:
    """Make every page from record files.

    Args:
        source: records, corrections and external rows; those of each protocol digest become one board.
        protocols: get a page, and a board that may be empty, even without records.
        cards: method name → its card in Markdown; a method without one is described from its records.
        methods: who the methods of the cards are, where no record says so.
        toml: protocol digest → the protocol as TOML, to download.
        numbers: published numbers by method, to show beside ours; those of this package by default.
        title: of the front page.

    Raises:
        BoardError: for records from which no honest board can be made, such as two of one run.
    """
    numbers = published_numbers.load_all() if numbers is None else numbers
    made = _boards(source, protocols, methods, numbers)
    warnings: list[str] = (
        [] if source.files else ["no record yet: the site holds protocols and cards, and empty boards"]
    )
    for name, times in Counter(one.protocol.name for one in made).items():
        if times > 1:
            warnings.append(f"{times} protocols are named {name}: their boards are kept apart by digest")
    identities = _identities(made, methods)
    pages = {name: f"../methods/{file_names.slug(name)}.html" for name in {*identities, *(cards or {})}}
    out = _record_files(source)
    at = places(source.files)
    for one in made:
        links = Links(
            protocol=f"../protocols/{one.slug}.html",
            methods=pages,
            runs=_runs(one, at),
            raised={record.run: _raised(record) for record in one.records},
            corrected=one.corrected,
        )
        warnings += [f"{one.table.protocol}: {text}" for text in board_page.add(out, one, links)]
    _protocol_pages(out, made, toml or {})
    for filed in source.files:
        of = next(one for one in made if one.protocol.digest == filed.record.protocol_digest)
        before = [entry for entry in of.corrected if entry["place"] == filed.path]
        out[f"runs/{file_names.slug(filed.record.run)}.html"] = run_page.render(filed, of.slug, before)
    entries = method_page.add(out, identities, cards or {}, _results(made), _changed(made))
    out["methods/index.html"] = page("methods.html", root="../", here="methods", methods=entries)
    out["ranks.html"] = ranks_page.render(made)
    assets = static()
    out["index.html"] = page(
        "index.html",
        root="",
        here="boards",
        title=title,
        boards=[_summary(one) | {"page": weigh(out[f"boards/{one.slug}.html"])} for one in made if one.table.rows],
        front=boards.FRONT,
        empty=[_summary(one) for one in made if not one.table.rows],
        methods=len(entries),
        runs=len(source.files),
        assets=weigh(*assets.values()),
    )
    out |= {f"assets/{name}": content for name, content in assets.items()}
    return Site(out, tuple(warnings))


def weigh(*contents: bytes) -> dict[str, str]:
    """Return the weight of files in kB for people: as they are, and as a server sends them compressed."""
    plain = sum(len(one) for one in contents) / 1000
    packed = sum(len(gzip.compress(one, mtime=0)) for one in contents) / 1000
    return {"plain": f"{plain:.0f} kB", "packed": f"{packed:.0f} kB"}


def _record_files(source: Source) -> dict[str, bytes]:
    """Return every record file, external row and list of corrections, as they lie in the folder of records."""
    found = {f"records/{path}": content for path, _, content in (*source.files, *source.external)}
    return found | {f"records/{corrected.path}": corrected.content for corrected in source.corrected}


def _boards(
    source: Source,
    protocols: Sequence[Protocol],
    methods: Sequence[MethodIdentity],
    numbers: Mapping[str, Sequence[Published]],
) -> list[Board]:
    """Build the board of every digest, those with records first, each group in order of names."""
    grouped = boards.group([filed.record for filed in source.files])
    known = {several[0].protocol_digest: several[0].protocol for several in grouped.values()}
    known |= {filed.row.protocol_digest: filed.row.protocol for filed in source.external}
    gone = {corrected.correction.digest for corrected in source.corrected}
    withdrawn = [protocol for protocol in published().values() if protocol.digest in gone]
    for protocol in sorted([*protocols, *withdrawn], key=lambda protocol: protocol.name):
        known.setdefault(protocol.digest, protocol)
    times = Counter(protocol.name for protocol in known.values())
    history, files = [corrected.correction for corrected in source.corrected], by_digest(source)
    made = []
    for digest, protocol in known.items():
        records = grouped.get(digest, [])
        table = boards.build(records, protocol, history=history)
        table = external_rows.beside(table, [filed.row for filed in source.external])
        made.append(
            Board(
                published_numbers.beside(table, protocol, methods=methods, numbers=numbers),
                table,
                protocol,
                tuple(records),
                file_names.board_slug(protocol.name, digest),
                times[protocol.name] - 1,
                tuple(superseded.entries(source.under(digest).corrected, files)),
            )
        )
    return made


def _raised(record: Record) -> list[str]:
    flags = [flag for checkpoint in record.checkpoints.values() for flag in checkpoint.evaluation.flags]
    return list(dict.fromkeys(flag.name for flag in flags if flag.state == "raised"))


def _runs(one: Board, files: Mapping[str, PurePosixPath]) -> dict[str, dict[str, Any]]:
    """Return what a board's page says of each run behind its numbers."""
    corrected: dict[PurePosixPath, list[str]] = {}
    for entry in one.corrected:
        corrected.setdefault(entry["place"], []).append(f"{entry['date']}: {entry['reason']}")
    return {
        record.run: {
            "seed": record.seed,
            "page": f"../runs/{file_names.slug(record.run)}.html",
            "file": f"records/{files[record.run]}",
            "weights": {name: checkpoint.sha256[:16] for name, checkpoint in sorted(record.checkpoints.items())},
            "epochs": {name: checkpoint.epoch for name, checkpoint in sorted(record.checkpoints.items())},
        }
        | ({"corrected": reasons} if (reasons := corrected.get(files[record.run])) else {})
        for record in one.records
    }


def _summary(one: Board) -> dict[str, Any]:
    """Return what the front page says of a board: whose it is, how much is behind it, and its best rows."""
    table = one.table
    best = [row for row in table.rows if row.checkpoint == "best"]
    ranked = [row for row in best if row.rank]
    leaders = [row for row in ranked if row.cells["rank"].mean == 1] or best
    return {
        "name": table.protocol,
        "slug": one.slug,
        "digest": table.digest,
        "official": table.official,
        "dataset": display(table.dataset),
        "network": display(table.network),
        "threat": table.threat,
        "marks": table.marks,
        "summary": one.protocol.summary,
        "images": table.images,
        "methods": len(best),
        "runs": len(one.records),
        "seeds": len({record.seed for record in one.records}),
        "leaders": [board_page.summarize_row(table, row) for row in leaders[:4]],
        "more": max(0, len(leaders) - 4) if ranked else 0,
        "corrections": len(table.history),
        "beside": [f"{len(part.rows)} {part.mark}" for part in table.beside],
        "ranked": len(ranked),
    }


def _identities(made: Sequence[Board], methods: Sequence[MethodIdentity]) -> dict[str, MethodIdentity]:
    """Return each method as this installation or one of its records names it, the unchanged variant where there is."""
    found = {identity.name: identity for identity in methods}
    for one in made:
        for record in sorted(one.records, key=lambda record: len(record.method.changed)):
            found.setdefault(record.method.name, record.method)
    return found


def _changed(made: Sequence[Board]) -> dict[str, list[dict[str, Any]]]:
    """Return the corrections of each method, those of one board together, the newest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in made:
        for entry in one.corrected:
            found.setdefault(entry["method"], []).append(entry | {"board": one.table.protocol, "slug": one.slug})
    return found


def _results(made: Sequence[Board]) -> dict[str, list[dict[str, Any]]]:
    """Return where each method stands: one entry per board and variant, best and last side by side."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in made:
        pairs = [(table, row) for table in one.table.whole for row in table.rows]
        last = {row.key: row for _, row in pairs if row.checkpoint == "last"}
        for table, row in pairs:
            if row.checkpoint == "best":
                entry = board_page.summarize_row(table, row) | {
                    "board": table.name,
                    "slug": one.slug,
                    "last": board_page.summarize_row(table, last[row.key])["robust"] if row.key in last else "",
                    "runs": [
                        {"seed": seed, "slug": file_names.slug(run)}
                        for seed, run in zip(row.seeds, row.runs, strict=True)
                    ],
                }
                found.setdefault(row.identity.name, []).append(entry)
    return found


def _protocol_pages(out: dict[str, bytes], made: Sequence[Board], toml: Mapping[str, str]) -> None:
    """Add a page per protocol, with the very bytes of which its digest is taken."""
    for one in made:
        plain = {key: value for key, value in one.protocol.canonical().items() if key != "summary"}
        exact = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
        stem = f"protocols/{one.slug}"
        if hashlib.sha256(exact).hexdigest() == one.protocol.digest:
            out[f"{stem}.json"] = exact
        if one.protocol.digest in toml:
            out[f"{stem}.toml"] = toml[one.protocol.digest].encode()
        out[f"{stem}.html"] = page(
            "protocol.html",
            root="../",
            here="protocols",
            board=_summary(one),
            sections=_sections(plain),
            json=f"{stem}.json" in out,
            toml=f"{stem}.toml" in out,
            namesakes=[other.slug for other in made if other.protocol.name == one.protocol.name and other is not one],
        )
    out["protocols/index.html"] = page(
        "protocols.html", root="../", here="protocols", boards=[_summary(one) for one in made]
    )


def _sections(plain: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return every key of a protocol by its section, tables within tables flattened with dots."""
    loose = [(key, _text(value)) for key, value in plain.items() if not isinstance(value, dict)]
    nested = [(key, _flat(value)) for key, value in plain.items() if isinstance(value, dict)]
    return [("protocol", loose), *nested]


def _flat(plain: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in plain.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", _text(value)))
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)
