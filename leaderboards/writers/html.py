"""Write boards as one self-contained HTML page: no network, light and dark, sortable and filterable."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from advbench.leaderboards.table import ELSEWHERE, Cell, Column, Row, Table, show
from advbench.leaderboards.writers.escaping import display, split_address

STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #5b6472; --paper: #fff; --ink: #16191d; --accent: #0b5fb0;
  --stripe: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a414c; --soft: #a3adba; --paper: #14171b; --ink: #e7eaee; --accent: #7db8f0; --stripe: #1b1f25; }
}
* { box-sizing: border-box; } a { color: var(--accent); }
body { margin: 0 auto; max-width: 90rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p, li, summary, label { color: var(--soft); }
.mark { border: 1px solid currentColor; border-radius: .8em; padding: 0 .6em; font-size: .8rem; margin-left: .4em;
  white-space: nowrap; }
.frame { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th.text, td.text { text-align: left; }
td.text { white-space: normal; min-width: 5.5rem; }
tbody th { font-weight: inherit; text-align: left; position: sticky; left: 0; background: var(--paper); }
thead th { vertical-align: bottom; }
thead button { all: unset; cursor: pointer; font-weight: 600; white-space: normal; }
thead button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tbody tr:hover td, tbody tr:hover th { background: var(--stripe); }
small { color: var(--soft); font-size: .82em; }
.state { color: var(--soft); font-style: italic; }
input, select { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line);
  border-radius: .3rem; padding: .2rem .4rem; margin-right: 1rem; }
.published { border-style: dashed; margin-top: .4rem; font-size: .92em; }
ul { padding-left: 1.2rem; font-size: .88rem; }
"""

SCRIPT = """
for (const board of document.querySelectorAll("section")) {
  const body = board.querySelector("tbody");
  if (!body) continue;
  const filter = board.querySelector("input"), checkpoint = board.querySelector("select");
  const apply = () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const row of body.rows) {
      row.hidden = (wanted && !row.dataset.text.includes(wanted)) ||
        (checkpoint.value && row.dataset.checkpoint !== checkpoint.value);
    }
  };
  filter.addEventListener("input", apply);
  checkpoint.addEventListener("change", apply);
  board.querySelectorAll("thead th").forEach((head, index) => {
    head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : head.dataset.first === "ascending";
      board.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = row => row.cells[index].dataset.value;
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = head.dataset.kind === "text" ? x.localeCompare(y) : Number(x) - Number(y);
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% for board in boards %}
<section>
<h2 id="{{ board.digest[:16] }}">{{ board.name }}\
{% for mark in board.marks %} <span class="mark">{{ mark }}</span>{% endfor %}</h2>
<p>{{ board.subtitle }}</p>
{% if board.rows %}
<p><label>Filter <input type="search" placeholder="method, family"></label>
<label>Checkpoint <select><option value="">both</option><option>best</option><option>last</option></select></label></p>
<div class="frame" tabindex="0" role="region" aria-label="Board {{ board.name }}">
<table>
<caption hidden>{{ board.name }}</caption>
<thead><tr>
{% for head in board.heads %}<th scope="col" class="{{ head.kind }}" data-kind="{{ head.kind }}" \
data-first="{{ head.first }}"><button type="button">{{ head.label }}</button></th>
{% endfor %}</tr></thead>
<tbody>
{% for row in board.rows %}<tr data-checkpoint="{{ row.checkpoint }}" data-text="{{ row.text }}">
{% for cell in row.cells %}<{{ cell.tag }}{% if cell.tag == "th" %} scope="row"{% endif %} class="{{ cell.kind }}" \
data-key="{{ cell.key }}" data-value="{{ cell.value }}"{% if cell.title %} title="{{ cell.title }}"{% endif %}>\
{% if cell.bold %}<strong>{% endif %}\
{% if cell.state %}<span class="state">{{ cell.main }}</span>\
{% elif cell.url %}<a href="{{ cell.url }}">{{ cell.main }}</a>\
{% else %}{{ cell.main }}{% endif %}\
{% if cell.bold %}</strong>{% endif %}\
{% if cell.small %}<small> {{ cell.small }}</small>{% endif %}</{{ cell.tag }}>
{% endfor %}</tr>
{% endfor %}</tbody>
</table>
</div>
{% else %}<p>{{ board.empty }}</p>
{% endif %}{% if board.published.rows %}<h3>{{ board.published.heading }}</h3>
<div class="frame published" tabindex="0" role="region" aria-label="{{ board.published.heading }}"><table>
<thead><tr>{% for head in board.published.heads %}<th scope="col" class="{{ head.kind }}">{{ head.label }}</th>
{% endfor %}</tr></thead>
<tbody>{% for row in board.published.rows %}<tr data-origin="as published"><th scope="row">{{ row.label }}</th>
{% for cell in row.cells %}<td class="{{ cell.kind }}">{{ cell.text }}</td>
{% endfor %}<td class="text">{{ row.source[0] }}{% if row.source[1] %}\
<a href="{{ row.source[1] }}">{{ row.source[1] }}</a>{% endif %}{{ row.source[2] }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}<details open><summary>Notes</summary><ul>
{% for note in board.notes %}<li>{{ note }}</li>
{% endfor %}</ul></details>
{% if board.comparisons %}<details><summary>Pairwise comparisons behind the ranks (AutoAttack on best)</summary>
<div class="frame"><table><thead><tr><th class="text">Row</th><th class="text">against</th><th>Difference (points)</th>\
<th>95 % bootstrap</th><th>p (McNemar, largest)</th><th>p (Holm)</th><th class="text">Verdict</th></tr></thead>
<tbody>{% for pair in board.comparisons %}<tr>{% for text in pair[:2] %}<td class="text">{{ text }}</td>{% endfor %}\
{% for text in pair[2:6] %}<td>{{ text }}</td>{% endfor %}<td class="text">{{ pair[6] }}</td></tr>
{% endfor %}</tbody></table></div></details>
{% endif %}</section>
{% endfor %}
</main>
<script>{{ script }}</script>
</body>
</html>
"""


def write(
    tables: Table | Sequence[Table], *, decimals: int | None = None, title: str = "Adversarial robustness leaderboard"
) -> str:
    """Return one page with a board, or several below each other; every name is escaped.

    Args:
        tables: the boards, or selections of them.
        decimals: places of accuracies; by default as many as the test set supports.
        title: of the page.
    """
    boards = [tables] if isinstance(tables, Table) else list(tables)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(PAGE).render(
        title=title,
        style=Markup(STYLE),  # noqa: S704 (constants of this module)
        script=Markup(SCRIPT),  # noqa: S704
        boards=[_board(board, board.decimals if decimals is None else decimals) for board in boards],
    )


def _board(table: Table, decimals: int) -> dict[str, Any]:
    labels = {row.key: row.label for row in table.rows}
    return {
        "name": table.protocol,
        "digest": table.digest,
        "marks": table.marks,
        "subtitle": f"{display(table.dataset)}, {display(table.network)}, {table.threat}; sha256 {table.digest}",
        "heads": [
            {
                "label": column.heading,
                "kind": column.kind,
                "first": "descending" if column.kind == "accuracy" else "ascending",
            }
            for column in table.columns
        ],
        "rows": [
            {
                "checkpoint": row.checkpoint,
                "text": f"{row.label} {row.identity.name} {row.identity.family}".lower(),
                "cells": [_cell(row, column, decimals) for column in table.columns],
            }
            for row in table.rows
        ],
        "empty": "No row of this board is shown." if table.images else "No records yet.",
        "published": _published(table),
        "notes": [note.text for note in table.notes],
        "comparisons": [
            (
                labels[one.a],
                labels[one.b],
                f"{100 * one.difference:.{decimals}f}",
                f"[{100 * one.interval.low:.{decimals}f}, {100 * one.interval.high:.{decimals}f}]",
                f"{one.p:.2g}",
                f"{one.adjusted:.2g}",
                f"{labels[one.winner]} ahead" if one.winner else "tied",
            )
            for one in table.comparisons
            if one.a in labels and one.b in labels
        ],
    }


def _published(table: Table) -> dict[str, Any]:
    """Return the rows that were quoted from elsewhere, each with its source."""
    columns = table.quoted
    heads = [("Method", "text"), ("Checkpoint", "text"), *((column.heading, column.kind) for column in columns)]
    heads += [("Other attack (%)", "text"), ("Source", "text")]
    rows = []
    for one in table.published:
        numbers = [(show(one.cell(column.key), column, one.decimals).plain, column.kind) for column in columns]
        cells = [(one.checkpoint, "text"), *numbers, (one.other, "text")]
        rows.append(
            {
                "label": one.label,
                "cells": [{"text": text, "kind": kind} for text, kind in cells],
                "source": split_address(one.source),
            }
        )
    return {"heading": ELSEWHERE, "heads": [{"label": label, "kind": kind} for label, kind in heads], "rows": rows}


def _cell(row: Row, column: Column, decimals: int) -> dict[str, Any]:
    """Return what the template shows of a cell: its main number or word, what is small beside it, its provenance."""
    cell = row.cells[column.key]
    shown = show(cell, column, decimals)
    small = shown._replace(main="").plain.strip()
    method = column.key == "method"
    if method:
        small = row.signs
    return {
        "tag": "th" if method else "td",
        "key": column.key,
        "kind": column.kind,
        "value": cell.text if column.kind == "text" else ("" if cell.mean is None else repr(cell.mean)),
        "title": _provenance(row, cell, column),
        "bold": cell.bold,
        "state": cell.state not in {"measured", "not applicable"},
        "main": shown.main,
        "small": small,
        "url": row.identity.url if method and row.identity.url.startswith(("https://", "http://")) else "",
    }


def _provenance(row: Row, cell: Cell, column: Column) -> str:
    """Say where a cell comes from, for the pointer that rests on it: its seeds and runs, or why it is empty."""
    if cell.state != "measured":
        return cell.reason
    if column.key == "method":
        notes = f"; {'; '.join(row.notes)}" if row.notes else ""
        return f"{row.identity.title}, {row.identity.venue} {row.identity.year}{notes}"
    if column.kind in {"accuracy", "points"}:
        if len(cell.values) == len(row.runs):
            pairs = zip(row.seeds, row.runs, cell.values, strict=True)
            return "; ".join(f"seed {seed}: {value:.2f} (run {run})" for seed, run, value in pairs)
        return f"runs {', '.join(row.runs)}"
    return ""
