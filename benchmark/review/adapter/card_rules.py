"""Whether a method's card is complete, and whether the cost it names is the one that is measured."""

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

from advbench.benchmark import discovery
from advbench.benchmark.method import Family, Method
from advbench.benchmark.review.adapter.contract import EPOCHS, TinyRun
from advbench.benchmark.review.finding import CheckError

FILL_IN = "FILL IN"
"""What `advbench new-method` leaves where the author must write."""
SHORT, WIDE = 60, 125
"""Lines of file for an adapter of one network, and for one with more in its nets: networks, averages, memories."""
FIELDS = {
    "name": (r"[a-z][a-z0-9_]*", "lower case with underscores"),
    "label": (r".+", "the name in tables"),
    "title": (r".+", "the paper's title"),
    "authors": (r".+(?: and |,).+", '"Last, First and Last, First", as BibTeX has it'),
    "venue": (r".+", "where it appeared"),
    "year": (r"20(?:1[3-9]|2\d)", "the year of the venue"),
    "url": (r"https://\S+", "an https address of the paper"),
    "key": (r"[a-z]+[0-9]{4}[a-z0-9]*", 'a citation key such as "zhang2019theoretically"'),
    "cost": (r".*[1-9]\d*F.*", "passes per image, such as forwards=23"),
}
"""Field of a card → what it must look like, and in words."""
CARD_FAMILIES: tuple[str, ...] = get_args(Family)


def complete(method: Method[Any]) -> None:
    """Every field of the card is filled in, and every hyper-parameter says where its default comes from.

    Raises:
        CheckError: naming the first field that is not.
    """
    card = method.card
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        if FILL_IN in str(value):
            raise CheckError(f"card.{field.name} is not filled in", "write it from the paper")
    for name, (pattern, hint) in FIELDS.items():
        if not re.fullmatch(pattern, str(getattr(card, name))):
            raise CheckError(f"card.{name} = {str(getattr(card, name))!r}", hint)
    if card.family not in CARD_FAMILIES:
        raise CheckError(f"card.family = {card.family!r}", f"one of {', '.join(CARD_FAMILIES)}")
    for hyperparameter in dataclasses.fields(method):
        source = hyperparameter.metadata.get("source", "")
        if not source or FILL_IN in source:
            raise CheckError(f"{hyperparameter.name} names no source", 'knob(default, "paper, Table 5")')


def costs_what_it_says(method: Method[Any]) -> str:
    """Measure the passes per image from early to late in training, at ten inner steps: the card names each.

    Returns:
        What was measured, in forwards F.

    Raises:
        CheckError: if the card says otherwise.
    """
    measured = []
    for progress in EPOCHS:
        run = TinyRun.of(method, progress=progress, steps=10)
        run.task.ledger.reset()
        run.update()
        measured.append(run.task.ledger.passes.forwards / len(run.task.batch().x))
    phases = tuple(dict.fromkeys(measured))
    found = dataclasses.replace(method.card, forwards=phases)
    if not set(phases) <= set(method.card.phases):
        written = ", ".join(f"{forwards:g}" for forwards in phases)
        hint = f"write forwards={written if len(phases) == 1 else f'({written})'}"
        raise CheckError(f"the card says {method.card.cost!r}, measured {found.cost}", hint)
    return found.cost


def thin(file: Path) -> None:
    """Hold a file to 60 lines for each adapter of one network, 125 for more: networks, averages, teachers, memories.

    Raises:
        CheckError: if it is longer.
    """
    adapters = discovery.in_file(file)
    text = discovery.source_text(file).decode()
    wide = any(_parts(discovery.make(adapter.card.name)) > 1 for adapter in adapters)
    most = (WIDE if wide else SHORT) * len(adapters)
    lines = len(text.splitlines())
    if lines > most:
        hint = "an adapter says what differs, the trainer does the rest"
        raise CheckError(f"{lines} lines, {most} are granted", hint)


def _parts(method: Method[Any]) -> int:
    nets = TinyRun.of(method).nets
    return len([*nets.children(), *nets.buffers(recurse=False)])
