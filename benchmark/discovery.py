"""Find methods: every `Method` subclass defined in a file of methods/, by the name on its card.

There is no list to edit: a new defense is a new file. Files are imported when they are first asked for. Methods may
also live outside the repository: in files named by `$ADVBENCH_METHODS`, which jobs in other processes inherit, and in
packages that have entry points in the group `advbench.methods`. Those are marked on their card, and so on every board.
"""

import dataclasses
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from advbench.benchmark.method import Method


class MethodError(ValueError):
    """No such method, or a hyper-parameter it does not have; the message is one line with what there is."""


VARIABLE = "ADVBENCH_METHODS"
"""Environment variable with files of methods, separated as in $PATH."""
GROUP = "advbench.methods"
OUTSIDE = "unofficial method"
"""The note on the card of a method that lies outside the repository."""


_TEXTS: dict[Path, bytes] = {}


def source_text(file: Path) -> bytes:
    """Return a file's text as it was when first asked for: what is judged is what runs and what is recorded.

    Raises:
        MethodError: if it cannot be read.
    """
    place = file.resolve()
    try:
        return _TEXTS.get(place) or _TEXTS.setdefault(place, file.read_bytes())
    except OSError as error:
        raise MethodError(f"{file}: cannot be read ({error.strerror})") from None


def _run(name: str, file: Path) -> None:
    """Make a module of the text that `source_text` gives, never of a compiled file beside it, unless it is made."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise MethodError(f"{file}: not a Python file")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        exec(compile(source_text(file), file, "exec"), vars(module))  # noqa: S102 (what importing does)
    except BaseException:
        del sys.modules[name], _TEXTS[file.resolve()]  # it may be tried again when it was corrected
        raise
    package, _, stem = name.rpartition(".")
    if package:
        setattr(sys.modules[package], stem, module)


def _defined_in(module_name: str) -> dict[str, type[Method[Any]]]:
    module = importlib.import_module(module_name)
    found = {}
    for _, member in inspect.getmembers(module, inspect.isclass):
        if issubclass(member, Method) and member.__module__ == module_name and "card" in vars(member):
            found[member.card.name] = member
    return found


def outside_files() -> tuple[Path, ...]:
    """Return the files that `$ADVBENCH_METHODS` names."""
    return tuple(Path(part).absolute() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part)


def adopt(file: Path) -> None:
    """Take in the methods of a file, here and in every process started from here; nothing is imported yet.

    Raises:
        MethodError: if there is no such Python file.
    """
    if file.suffix != ".py" or not file.is_file():
        raise MethodError(f"{file}: no such Python file; give the file that defines the method")
    files = dict.fromkeys([*outside_files(), file.absolute()])
    os.environ[VARIABLE] = os.pathsep.join(map(str, files))


def in_file(file: Path) -> tuple[type[Method[Any]], ...]:
    """Return the methods that a file defines, by name."""
    here = file.resolve()
    found = _all(outside_files())
    return tuple(method for _, method in sorted(found.items()) if source_file(method).resolve() == here)


def source_file(method: type[Method[Any]]) -> Path:
    """Return the file that defines a method."""
    return Path(inspect.getfile(method))


def is_outside(method: type[Method[Any]]) -> bool:
    """Whether a method lies outside the repository."""
    return OUTSIDE in method.card.notes


def _defined_in_file(name: str, file: Path) -> dict[str, type[Method[Any]]]:
    """Run a file as the module `name`; return its methods.

    Raises:
        MethodError: if it cannot be imported; an adapter that would end the process cannot.
    """
    try:
        _run(name, file)
        return _defined_in(name)
    except (Exception, SystemExit) as error:
        raise MethodError(f"{file}: cannot be imported ({type(error).__name__}: {error})") from error


def _outside(files: tuple[Path, ...]) -> Iterator[tuple[str, dict[str, type[Method[Any]]]]]:
    """Yield where methods outside the repository come from, and the methods."""
    for file in files:
        found = _defined_in_file(f"advbench_outside_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}", file)
        if not found:
            raise MethodError(f"{file}: defines no method; a method is a subclass of Method with a card")
        yield str(file), found
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        module = entry.value.partition(":")[0]
        try:
            found = _defined_in(module)
        except (Exception, SystemExit) as error:
            raise MethodError(f"entry point {entry.name} = {entry.value}: {type(error).__name__}: {error}") from error
        yield f"entry point {entry.name}", found


def _mark(method: type[Method[Any]]) -> None:
    """Say on the card that the method lies outside the repository: records and boards show its notes."""
    if OUTSIDE not in method.card.notes:
        method.card = dataclasses.replace(method.card, notes=(*method.card.notes, OUTSIDE))


@cache
def _all(outside: tuple[Path, ...]) -> dict[str, type[Method[Any]]]:
    package = importlib.import_module("advbench.methods")
    home = {Path(folder).resolve() for folder in package.__path__}
    found: dict[str, type[Method[Any]]] = {}
    for file in sorted(file for folder in home for file in folder.glob("*.py") if file.name != "__init__.py"):
        _take(found, _defined_in_file(f"{package.__name__}.{file.stem}", file))
    for _, methods in _outside(tuple(file for file in outside if file.resolve().parent not in home)):
        _take(found, methods)
        for method in methods.values():
            _mark(method)
    return found


def _take(found: dict[str, type[Method[Any]]], more: Mapping[str, type[Method[Any]]]) -> None:
    for name, method in more.items():
        if name in found:
            places = " and ".join(str(source_file(kind)) for kind in (found[name], method))
            raise MethodError(f"two methods are named {name!r}: {places}; rename one on its card")
        found[name] = method


def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(_all(outside_files())))


def load(name: str) -> type[Method[Any]]:
    """Return the class of a method; hyphens and underscores are the same.

    Raises:
        MethodError: if there is none of that name; the message has the nearest name, or else lists all.
    """
    found = _all(outside_files())
    method = found.get(name, found.get(name.replace("-", "_")))
    if method is None:
        near = difflib.get_close_matches(name, found, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(found))}"
        raise MethodError(f"no method {name!r}; {hint}")
    return method


def make(name: str, hyperparameters: Mapping[str, object] | None = None) -> Method[Any]:
    """Make a method with some hyper-parameters set; strings such as "3.0" are read by the field's type.

    Raises:
        MethodError: for a name or value that does not fit; the message lists the right ones.
    """
    method = load(name)
    given = dict(hyperparameters or {})
    fields = {field.name: field for field in dataclasses.fields(method)}
    for key in given:
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise MethodError(f"{name} has no hyper-parameter {key!r}; it has: {known}")
    hints = inspect.get_annotations(method, eval_str=True)
    for base in reversed(method.__mro__):
        hints.update(inspect.get_annotations(base, eval_str=True) if base is not object else {})
    for key, value in given.items():
        try:
            given[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise MethodError(f"{name}.{key} = {value!r}: {message[0].lower()}{message[1:]}") from None
        read = given[key]
        if isinstance(read, float) and not math.isfinite(read):
            raise MethodError(f"{name}.{key} = {value!r}: must be finite")
    try:
        return method(**given)
    except ValueError as error:
        raise MethodError(f"{name}: {error}") from None
    except SystemExit as error:
        raise MethodError(f"{name}: the adapter tries to end the process (SystemExit: {error})") from None
