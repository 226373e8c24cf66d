"""All checks of one adapter in their order: nothing of a file runs before its source has been read."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from advbench.benchmark import discovery
from advbench.benchmark.discovery import MethodError
from advbench.benchmark.method import Method
from advbench.benchmark.review.adapter import card_rules, contract, linters, short_runs, source_rules
from advbench.benchmark.review.finding import CheckError, Finding, Report
from advbench.benchmark.training import side_effects


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
    folder = Path(next(iter(import_module("advbench.methods").__path__)))
    for file in (*sorted(folder.glob("*.py")), *discovery.outside_files()):
        if word in source_rules.method_names(discovery.source_text(file)):
            return Target(file, word)
    return Target(discovery.source_file(discovery.load(word)), word)  # by entry point; or the error lists all


def _outcome(rule: str, check: Callable[[], object]) -> Finding:
    """Return how a check went; whatever an adapter raises in it is its finding, an end of the process too."""
    try:
        message = check()
    except linters.ToolMissingError as error:
        return Finding(rule, "note", "", f"not run: {error}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a method raises is what was found)
        return _failure(rule, error)
    return Finding(rule, "ok", "", message if isinstance(message, str) else "")


def _failure(rule: str, error: BaseException) -> Finding:
    if isinstance(error, CheckError):
        return Finding(rule, "failed", "", error.message, error.hint)
    message = " ".join(str(error).split())[:200]
    if not isinstance(error, MethodError):
        message = f"{type(error).__name__}: {message}"
    hint = "run it with --debug to see where" if isinstance(error, AssertionError) else "correct what the message names"
    return Finding(rule, "failed", "", message, hint)


def load(target: Target) -> tuple[type[Method[Any]], ...]:
    """Import what is to be checked, and see that importing replaces nothing.

    Raises:
        MethodError: if it cannot be imported or defines no method.
        CheckError: if importing it replaces code of the benchmark.
    """
    before = side_effects.code()
    if not discovery.in_file(target.file):
        discovery.adopt(target.file)
    methods = discovery.in_file(target.file)
    changed = side_effects.replaced(before)
    if changed:
        raise CheckError(f"importing it replaces {changed[0]}", "never assign to what is not yours")
    chosen = tuple(method for method in methods if target.name in {"", method.card.name})
    if not chosen:
        raise MethodError(f"{target.file}: defines no method; a method is a subclass of Method with a card")
    return chosen


def _checks(method: Method[Any], file: Path, *, tooling: bool) -> Iterator[Finding]:
    yield _outcome("complete card", partial(card_rules.complete, method))
    yield _outcome("passes per image", partial(card_rules.costs_what_it_says, method))
    yield _outcome("short source", partial(card_rules.thin, file))
    if tooling:
        yield _outcome("style", partial(linters.style, file))
        yield _outcome("types", partial(linters.types, file))
    for name, check in contract.CHECKS.items():
        yield _outcome(name, partial(check, method))
    yield _outcome("overfits one batch", partial(short_runs.overfits_one_batch, method))
    with tempfile.TemporaryDirectory() as folder:
        yield _outcome("resumes to the bit", partial(short_runs.resumes_to_the_bit, method, Path(folder)))
        yield _outcome("seeds differ", partial(short_runs.seeds_differ, method, Path(folder)))


def examine(target: Target, *, tooling: bool = True) -> list[Report]:
    """Check every adapter that is asked for; `tooling` adds ruff and mypy."""
    label, file = target.name or target.file.stem, target.file.name
    read = source_rules.examine(discovery.source_text(target.file), file)
    if read:
        rest = Finding("everything else", "note", "", "not run: the source was refused, so none of it was run")
        return [Report(label, file, official=False, findings=(*read, rest))]
    first = Finding("source rules", "ok", "", f"{len(source_rules.RULES)} rules")
    try:
        methods = load(target)
    except (CheckError, MethodError) as error:
        return [Report(label, file, official=False, findings=(first, _failure("import", error)))]
    reports = []
    for kind in methods:
        try:
            method = discovery.make(kind.card.name)
        except MethodError as error:
            found = [_failure("defaults", error)]
        else:
            found = list(_checks(method, target.file, tooling=tooling))
        official = not discovery.is_outside(kind)
        reports.append(Report(kind.card.name, file, official=official, findings=(first, *found)))
    return reports
