"""Find methods: every `Method` subclass defined in a file of methods/, by the name on its card.

There is no list to edit: a new defense is a new file. Files are imported when they are first asked for.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from advbench.benchmark.method import Method


class MethodError(ValueError):
    """No such method, or a hyper-parameter it does not have; the message is one line with what there is."""


def _defined_in(module_name: str) -> dict[str, type[Method[Any]]]:
    module = importlib.import_module(module_name)
    found = {}
    for _, member in inspect.getmembers(module, inspect.isclass):
        if issubclass(member, Method) and member.__module__ == module_name and "card" in vars(member):
            found[member.card.name] = member
    return found


@cache
def _all() -> dict[str, type[Method[Any]]]:
    package = importlib.import_module("advbench.methods")
    found: dict[str, type[Method[Any]]] = {}
    for entry in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        for name, method in _defined_in(f"advbench.methods.{entry.name}").items():
            if name in found:
                raise MethodError(f"two methods are named {name!r}: {found[name].__module__} and {method.__module__}")
            found[name] = method
    return found


def names() -> tuple[str, ...]:
    """Return the names of all methods, sorted."""
    return tuple(sorted(_all()))


def load(name: str) -> type[Method[Any]]:
    """Return the class of a method.

    Raises:
        MethodError: if there is none of that name; the message lists all.
    """
    if name not in _all():
        raise MethodError(f"no method {name!r}; there are: {', '.join(names())}")
    return _all()[name]


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
    try:
        return method(**given)
    except ValueError as error:
        raise MethodError(f"{name}: {error}") from None
