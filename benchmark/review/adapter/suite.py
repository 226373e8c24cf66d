"""All checks of one adapter in their order: nothing of a file runs before its source has been read."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from advbench.benchmark import discovery
from advbench.benchmark.discovery import MethodError
from advbench.benchmark.method import Method
from advbench.benchmark.review.adapter import card_rules, contract, linters, short_runs, side_effects, source_rules
from advbench.benchmark.review.adapter.report import Broken, Finding, Report

Topic = Literal["source", "card", "contract", "learning", "tools"]


@dataclass(frozen=True)
class Target:
    """What is checked: a file, and the one adapter in it that was asked for (empty: all)."""

    file: Path
    name: str = ""


def locate(word: str) -> Target:
    """Find what a METHOD or a FILE on the command line means, without importing any method.

    Raises:
        MethodError: if there is neither.
    """
    if word.endswith(".py"):
        if not Path(word).is_file():
            raise MethodError(f"{word}: no such file")
        return Target(Path(word))
    folder = Path(__file__).resolve().parents[2] / "methods"
    for file in (*sorted(folder.glob("*.py")), *discovery.outside_files()):
        if word in source_rules.method_names(file):
            return Target(file, word)
    return Target(discovery.source_file(discovery.load(word)), word)  # by entry point; or the error lists all


def _finding(topic: Topic, name: str, check: Callable[[], object]) -> Finding:
    """Run one check and time it."""
    began = time.perf_counter()
    try:
        said = check()
    except Broken as error:
        return Finding(topic, name, "failed", error.said, error.mend, time.perf_counter() - began)
    except linters.ToolMissingError as error:
        return Finding(topic, name, "not run", str(error), seconds=time.perf_counter() - began)
    except Exception as error:  # noqa: BLE001 (whatever a method raises is what was found)
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        mend = (
            "run it with --debug to see where" if isinstance(error, AssertionError) else "mend what the message names"
        )
        return Finding(topic, name, "failed", text, mend, time.perf_counter() - began)
    return Finding(topic, name, "passed", said if isinstance(said, str) else "", seconds=time.perf_counter() - began)


def read_source(file: Path) -> list[Finding]:
    """Judge a file by its text alone."""
    violations = source_rules.examine(file)
    return [
        Finding("source", one.rule, "failed", f"line {one.line}: {one.said}", source_rules.MENDS[one.rule])
        for one in violations
    ] or [Finding("source", "rules of adapters", "passed", f"{len(source_rules.MENDS)} rules")]


def load(target: Target) -> tuple[type[Method[Any]], ...]:
    """Import what is to be checked, and see that importing replaces nothing.

    Raises:
        MethodError: if it cannot be imported or defines no method.
        Broken: if importing it replaces code of the house.
    """
    before = side_effects.fingerprint()
    if not discovery.in_file(target.file):
        discovery.adopt(target.file)
    methods = discovery.in_file(target.file)
    changed = side_effects.replaced(before)
    if changed:
        raise Broken(f"importing it replaces {changed[0]}", source_rules.MENDS["monkey-patching"])
    chosen = tuple(method for method in methods if target.name in {"", method.card.name})
    if not chosen:
        raise MethodError(f"{target.file}: defines no method; a method is a subclass of Method with a card")
    return chosen


def _checks(method: Method[Any], file: Path, folder: Path, *, tooling: bool) -> Iterator[Finding]:
    yield _finding("card", "complete", partial(card_rules.complete, method))
    yield _finding("card", "passes per image", partial(_passes, method))
    yield _finding("source", "thin", partial(card_rules.thin, file))
    if tooling:
        yield _finding("tools", "style", partial(linters.style, file))
        yield _finding("tools", "types", partial(linters.types, file))
    for name, check in contract.CHECKS.items():
        yield _finding("contract", name, partial(check, method))
    yield _finding("learning", "overfits one batch", partial(short_runs.overfits_one_batch, method))
    yield _finding("learning", "resumes to the bit", partial(short_runs.resumes_to_the_bit, method, folder))
    yield _finding("learning", "seeds differ", partial(short_runs.seeds_differ, method, folder))


def _passes(method: Method[Any]) -> str:
    card_rules.costs_what_it_says(method)
    return method.card.cost


def examine(target: Target, *, tooling: bool = True) -> list[Report]:
    """Check every adapter that is asked for; `tooling` adds ruff and mypy."""
    read = read_source(target.file)
    label = target.name or target.file.stem
    if any(finding.state == "failed" for finding in read):
        rest = Finding("contract", "everything else", "not run", "the source was refused, so none of it was run")
        return [Report(label, target.file.name, official=False, findings=(*read, rest))]
    try:
        methods = load(target)
    except Broken as error:
        refused = Finding("source", "import", "failed", error.said, error.mend)
        return [Report(label, target.file.name, official=False, findings=(*read, refused))]
    except MethodError as error:
        refused = Finding("source", "import", "failed", str(error), "mend what the message names")
        return [Report(label, target.file.name, official=False, findings=(*read, refused))]
    reports = []
    for kind in methods:
        with tempfile.TemporaryDirectory() as folder:
            try:
                method = discovery.make(kind.card.name)
            except MethodError as error:
                made = [Finding("source", "defaults", "failed", str(error), "every field needs a default")]
            else:
                made = list(_checks(method, target.file, Path(folder), tooling=tooling))
        official = not discovery.is_outside(kind)
        reports.append(Report(kind.card.name, target.file.name, official=official, findings=(*read, *made)))
    return reports
