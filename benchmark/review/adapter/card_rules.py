"""Whether a card is complete, and whether what it says of the cost is what is measured."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from advbench.benchmark import discovery
from advbench.benchmark.method import Card, Method
from advbench.benchmark.review.adapter.contract import Case
from advbench.benchmark.review.adapter.report import Broken
from advbench.benchmark.review.adapter.workload import make_step

FILL_IN = "FILL IN"
"""What `advbench new-method` leaves where the author must write."""
THIN, WIDE = 60, 100
"""Lines of file for an adapter of one network, and for one of two networks or with a teacher."""
_FAMILIES = re.search(r"family: (.*?)\n        code:", Card.__doc__ or "", re.DOTALL)


def families() -> tuple[str, ...]:
    """Return the families that `Card` documents."""
    return tuple(re.findall(r'"([^"]+)"', _FAMILIES.group(1))) if _FAMILIES else ()


def complete(method: Method[Any]) -> None:
    """Every field of the card is filled in, and every hyper-parameter says where its default comes from.

    Raises:
        Broken: naming the first field that is not.
    """
    card = method.card
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        if FILL_IN in (" ".join(value) if isinstance(value, tuple) else str(value)):
            raise Broken(f"card.{field.name} is not filled in", "write it from the paper")
    wanted = {
        "name": (r"[a-z][a-z0-9_]*", card.name, "lower case with underscores"),
        "label": (r".+", card.label, "the name in tables"),
        "title": (r".+", card.title, "the paper's title"),
        "authors": (r".+(?: and |,).+", card.authors, '"Last, First and Last, First", as BibTeX has it'),
        "venue": (r".+", card.venue, "where it appeared"),
        "year": (r"20(?:1[3-9]|2\d)", str(card.year), "the year of the venue"),
        "url": (r"https://\S+", card.url, "an https address of the paper"),
        "key": (r"[a-z]+[0-9]{4}[a-z0-9]*", card.key, 'a citation key such as "zhang2019theoretically"'),
        "cost": (r".*\d+F.*", card.cost, 'passes per image, such as "23F"'),
    }
    for name, (pattern, value, mend) in wanted.items():
        if not re.fullmatch(pattern, value):
            raise Broken(f"card.{name} = {value!r}", mend)
    if card.family not in families():
        raise Broken(f"card.family = {card.family!r}", f"one of {', '.join(families())}")
    for knob in dataclasses.fields(method):
        source = knob.metadata.get("source", "")
        if not source or FILL_IN in source:
            raise Broken(f"{knob.name} names no source", 'knob(default, "paper, Table 5")')


def measured_passes(method: Method[Any]) -> tuple[float, ...]:
    """Return the passes per image in forwards F, early and late in training, at ten inner steps."""
    found = []
    for progress in (0.0, 0.95):
        case = Case.of(method)
        step = make_step(case.nets, case.task, progress=progress, steps=10)
        batch = case.task.batch()
        case.task.ledger.reset()
        with step.batch():
            method.update(case.nets, batch, step)
        found.append(case.task.ledger.passes.forwards / len(batch.x))
    return tuple(dict.fromkeys(found))


def costs_what_it_says(method: Method[Any]) -> None:
    """The measured passes per image are among those that the card names.

    Raises:
        Broken: with what was measured.
    """
    said = {float(number) for number in re.findall(r"(\d+(?:\.\d+)?)\s*F\b", method.card.cost)}
    measured = measured_passes(method)
    if not set(measured) <= said:
        text = ", then ".join(f"{passes:g}F" for passes in measured)
        raise Broken(f"the card says {method.card.cost!r}, measured {text}", f'write cost="{text}"')


def thin(file: Path) -> None:
    """Hold a file to 60 lines for each adapter of one network, 100 for two or with a teacher.

    Raises:
        Broken: if it is longer.
    """
    adapters = discovery.in_file(file)
    text = file.read_text(encoding="utf-8")
    wide = "Duo" in text or any(adapter.requires for adapter in adapters)
    most = (WIDE if wide else THIN) * len(adapters)
    lines = len(text.splitlines())
    if lines > most:
        raise Broken(f"{lines} lines, {most} are granted", "an adapter says what differs, the trainer does the rest")
