"""From a command line or a suite file to a `plan.Suite`: methods, variants, protocols, seeds."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from advbench.benchmark import discovery
from advbench.benchmark.files import read_toml
from advbench.benchmark.protocol import Protocol, ProtocolError, explain, resolve
from advbench.benchmark.records.schema import Part, Scalar
from advbench.benchmark.runs.plan import MethodRequest, Suite

DEFAULT_METHODS = ("standard", "pgd_at", "trades", "dynat", "d2r", "sglr", "act")
_SETTING = re.compile(r"(?P<method>[\w-]+)\.(?P<key>\w+)=(?P<value>.*)")


class RequestError(ValueError):
    """A request that cannot be understood; the message is one line that says how to fix it."""


class _Row(Part):
    name: str
    set: dict[str, Scalar] = Field(default={})
    own_recipe: bool = False


class _SuiteFile(Part):
    protocols: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = ()
    method: Annotated[tuple[_Row, ...], Field(min_length=1)]


def method_names(wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the methods named by "all", "default" or a list.

    Raises:
        MethodError: if there is none of a name; the message lists all.
    """
    names: dict[str, None] = {}
    for word in wanted:
        expanded = discovery.names() if word == "all" else DEFAULT_METHODS if word == "default" else (word,)
        for name in expanded:
            names[discovery.load(name).card.name] = None
    return tuple(names)


def request(name: str, settings: Mapping[str, object], *, own_recipe: bool = False) -> MethodRequest:
    """Return a row of a board: a method with some hyper-parameters set, read by their types.

    Args:
        name: of the method.
        settings: hyper-parameters that differ from the defaults.
        own_recipe: whether it is trained as its card says that the authors train.

    Raises:
        MethodError: for a name or value that does not fit; the message lists the right ones.
        RequestError: if the card names no recipe.
    """
    method = discovery.make(name, settings)
    values: dict[str, Scalar] = method.hyperparameters()
    if own_recipe and method.card.recipe is None:
        raise RequestError(f"{method.card.name}: its card names no recipe of its own; name methods that have one")
    recipe = method.card.recipe if own_recipe else None
    return MethodRequest(method.card.name, {key: values[key] for key in settings}, recipe)


def settings_by_method(settings: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read `method.key=value`, several times.

    Raises:
        RequestError: if one is not of that form.
    """
    found: dict[str, dict[str, str]] = {}
    for setting in settings:
        match = _SETTING.fullmatch(setting)
        if match is None:
            raise RequestError(f"--set {setting}: write method.key=value, such as trades.beta=3.0")
        found.setdefault(match["method"].replace("-", "_"), {})[match["key"]] = match["value"]
    return found


def from_words(
    protocols: Iterable[Protocol],
    methods: Iterable[str],
    seeds: tuple[int, ...],
    settings: Iterable[str],
    *,
    own_recipe: bool = False,
) -> Suite:
    """Return the suite of a command line.

    Raises:
        RequestError: if a setting belongs to no method of the suite, or the suite names a protocol twice.
        MethodError: for methods or hyper-parameters that there are not.
    """
    names = method_names(methods)
    changed = settings_by_method(settings)
    for name in changed:
        if name not in names:
            raise RequestError(f"--set {name}.…: {name} is not among the methods of this run: {', '.join(names)}")
    requests = tuple(request(name, changed.get(name, {}), own_recipe=own_recipe) for name in names)
    return Suite(_different(protocols), requests, seeds)


def from_file(path: Path) -> Suite:
    """Read a suite file: `protocols`, `seeds` (optional), one `[[method]]` with `name`, `set`, `own_recipe` for a row.

    Protocol files are looked for beside the suite file.

    Raises:
        RequestError: in one line that names file and key.
        MethodError: for methods or hyper-parameters that there are not.
    """
    try:
        plain = _SuiteFile.model_validate(read_toml(path, RequestError))
    except ValidationError as error:
        keys = "a suite has protocols, seeds and [[method]] with name and set"
        raise RequestError(f"{path}: {explain(error, 'suite')}; {keys}") from None
    if len(set(plain.seeds)) != len(plain.seeds):
        raise RequestError(f"{path}: seeds: must be different, got {list(plain.seeds)}")
    resolved = (_protocol(path, reference) for reference in plain.protocols)
    requests: list[MethodRequest] = []
    for number, row in enumerate(plain.method):
        try:
            requests.append(request(row.name, row.set, own_recipe=row.own_recipe))
        except ValueError as error:
            raise RequestError(f"{path}: method.{number}: {error}") from None
    if len(set(map(repr, requests))) != len(requests):
        raise RequestError(f"{path}: method: two rows are the same")
    return Suite(_different(resolved), tuple(requests), plain.seeds)


def _protocol(path: Path, reference: str) -> Protocol:
    if reference.endswith(".toml"):
        return Protocol.from_toml(path.parent / reference)  # an absolute path stays what it is
    try:
        return resolve(reference)
    except ProtocolError as error:
        raise RequestError(f"{path}: protocols: {error}") from None


def _different(protocols: Iterable[Protocol]) -> tuple[Protocol, ...]:
    """Refuse the same protocol twice, and two different ones under one name: their runs would share a folder."""
    found: dict[str, Protocol] = {}
    for protocol in protocols:
        if protocol.name in found:
            same = "twice" if found[protocol.name].digest == protocol.digest else "for two different protocols"
            raise RequestError(f"the name {protocol.name} is used {same}; give each protocol once, under its own name")
        found[protocol.name] = protocol
    return tuple(found.values())
