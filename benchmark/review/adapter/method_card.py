"""Method cards as Markdown: what a defense is, whose, how it differs from its release, what it costs.

Published numbers and the citation come from outside (they belong to the boards), as plain data.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from advbench.benchmark.method import Method

RESULTS = {
    **{name: name for name in ("row", "data", "network", "eps", "checkpoint", "clean")},
    "data": "dataset",
    "PGD-20": "pgd20",
    "other attack": "other",
    "AutoAttack": "autoattack",
    "source": "source",
}
"""Column of the published results → key."""


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|")


def _table(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows)]


def _paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split())


def render(method: type[Method[Any]], citation: str, published: Iterable[Mapping[str, object]] = ()) -> str:
    """Return the card of a method as Markdown.

    Args:
        method: the adapter's class.
        citation: the BibTeX entry of its paper.
        published: published results, each with dataset, network, eps, checkpoint, clean, pgd20, other, attack,
            autoattack (percent or None) and source.
    """
    card = method.card
    teachers = ", ".join(f"{role}: `{name}`" for role, name in method.requires.items())
    facts = [
        ("Name", f"`{card.name}`"),
        ("Paper", f"[{card.title}]({card.url}), {card.venue} {card.year}"),
        ("Authors", card.authors.replace(" and ", "; ")),
        ("Official code", card.code or "none known"),
        ("Family", card.family),
        ("Passes per training image", f"{card.cost} (F: one forward; ten inner steps)"),
        ("`best` is chosen by", f"{'PGD' if card.robust else 'clean accuracy'} on the validation split"),
        ("Frozen teachers", teachers or "none"),
    ]
    if card.recipe is not None:
        facts.append(("The authors' own recipe", str(card.recipe)))
    if method.update is not Method.update:
        facts.append(("Update", "its own (one optimiser step a batch all the same)"))
    if card.notes:
        facts.append(("On the board", "; ".join(card.notes)))
    lines = [f"# {card.label}", "", _paragraph(method.__doc__), "", *_table(("", ""), facts), ""]
    fields = dataclasses.fields(method)
    if fields:
        knobs = [
            (
                f"`{field.name}`",
                f"`{field.default}`",
                field.metadata.get("source", ""),
                ", ".join(f"{value:g}" for value in field.metadata.get("tune", ())),
            )
            for field in fields
        ]
        lines += ["## Hyper-parameters", "", *_table(("name", "default", "source", "tuned among"), knobs), ""]
    if card.differs:
        lines += ["## What differs from the release, and why", "", *(f"- {reason}" for reason in card.differs), ""]
    results = [
        {**result, "other": None if result["other"] is None else f"{result['other']} ({result['attack']})"}
        for result in published
    ]
    if results:
        rows = [[result[key] for key in RESULTS.values()] for result in results]
        lines += ["## As published, not measured here", "", *_table(tuple(RESULTS), rows), ""]
    return "\n".join([*lines, "## Citation", "", "```bibtex", citation.strip(), "```", ""])
