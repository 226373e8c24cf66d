"""Method cards as pages: the card in Markdown, where the method stands, its citation."""

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.benchmark.records.schema import MethodIdentity
from advbench.leaderboards import bibtex
from advbench.leaderboards.site.file_names import slug
from advbench.leaderboards.site.render import markdown, page
from advbench.leaderboards.table import BoardError
from advbench.leaderboards.writers.html.column_guide import marker

Result = Mapping[str, Any]


def add(
    out: dict[str, bytes],
    identities: Mapping[str, MethodIdentity],
    cards: Mapping[str, str],
    results: Mapping[str, Sequence[Result]],
    changed: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Add a page per method that has a card or a record, and return the entries of the list of methods.

    Args:
        out: files by name, added to.
        identities: methods that have records, as their records name them.
        cards: method name → card in Markdown, which begins with the label as its heading.
        results: method name → its rows on the boards.
        changed: method name → corrections of its records.
    """
    entries = []
    for name in sorted({*identities, *cards}):
        identity = identities.get(name)
        text = cards.get(name) or describe(identities[name])
        label = identity.label if identity else heading(text, name)
        citation = _citation(identity) if identity else ""
        if citation:
            out[f"methods/{slug(name)}.bib"] = citation.encode()
        out[f"methods/{slug(name)}.html"] = page(
            "method.html",
            root="../",
            here="methods",
            label=label,
            family=identity.family if identity else "",
            marker=marker(identity.family) if identity else None,
            card=markdown(text),
            results=list(results.get(name, ())),
            changed=list(changed.get(name, ())),
            bib=f"{slug(name)}.bib" if citation else "",
            carded=name in cards,
        )
        entries.append(
            {
                "label": label,
                "page": f"{slug(name)}.html",
                "name": name,
                "family": identity.family if identity else "",
                "marker": marker(identity.family) if identity else None,
                "paper": f"{identity.venue} {identity.year}" if identity else "",
                "year": identity.year if identity else "",
                "boards": len({entry["slug"] for entry in results.get(name, ())}),
            }
        )
    return sorted(entries, key=lambda entry: (not entry["boards"], str(entry["label"]).lower()))


def heading(text: str, name: str) -> str:
    """Return the first heading of a card, or the method's name."""
    lines = [line for line in text.splitlines() if line.startswith("# ")]
    return lines[0].removeprefix("# ").strip() if lines else name


def describe(identity: MethodIdentity) -> str:
    """Return a card for a method of which only records are known."""
    facts = {
        "Name": f"`{identity.name}`",
        "Paper": f"{identity.title}, {identity.venue} {identity.year}",
        "Authors": identity.authors.replace(" and ", "; "),
        "Family": identity.family,
        "On the board": "; ".join(identity.notes),
    }
    rows = [f"| {key} | {_cell(value)} |" for key, value in facts.items() if value.strip("`")]
    knobs = [f"| `{_cell(key)}` | `{_cell(str(value))}` |" for key, value in sorted(identity.hyperparameters.items())]
    lines = [f"# {identity.label}", "", "Described from its records: the method is not part of this installation.", ""]
    lines += ["|  |  |", "|---|---|", *rows, ""]
    if knobs:
        lines += ["## Hyper-parameters", "", "| name | value |", "|---|---|", *knobs, ""]
    try:
        lines += ["## Citation", "", "```bibtex", bibtex.entry(identity).strip(), "```", ""]
    except BoardError as error:
        lines += ["## Citation", "", f"None: {error}.", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _citation(identity: MethodIdentity) -> str:
    try:
        return bibtex.entry(identity)
    except BoardError:
        return ""
