"""torch.export and TorchScript programs: code in a file, opened only where the user asks for it by name.

`torch.export.load` unpickles members of an archive without limits, calls whatever function the graph names, evaluates
its expressions of sizes, and runs Python source in which its names are written. So torch is never given the file: every
member is checked here, and what passed is written into a new archive in memory, which torch reads.
"""

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advbench.benchmark.models.state_dicts import first_words

Kind = Literal["exported", "scripted"]
_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.(format_version|storage_alignment)"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_NAME = re.compile(r"[A-Za-z_]\w*|", re.ASCII)
_TEXT = re.compile(r"[\w.,+:> -]*", re.ASCII)
_SYMBOL = re.compile(r"Symbol\('[a-z]+\d+'(, (positive|integer)=(True|False))*\)")
_EXPRESSION = re.compile(r"([a-z]{1,2}\d+|\d+|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|[-+*/(), ])*", re.ASCII)
_FUNCTION = re.compile(
    r"_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.(sym_[a-z]+|_sym_sqrt)"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
)
_OPERATOR = re.compile(r"torch\.ops\.(aten|prims)\.(?!from_file|save\b)\w+\.\w+", re.ASCII)
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


class ProgramError(ValueError):
    """A program that cannot be opened; the message is one line."""


class Program(nn.Module):
    """An exported or scripted program as a module.

    Programs refuse `eval()` or `requires_grad_()`, so this one is hidden from `modules()`.
    """

    def __init__(self, program: nn.Module, device: torch.device) -> None:
        super().__init__()
        for parameter in program.parameters():
            parameter.requires_grad_(False)
        self._program = (program.to(device),)

    def forward(self, x: Tensor) -> Tensor:
        """Run the program."""
        logits: Tensor = self._program[0](x)
        return logits


def kind_of(path: Path) -> Kind | None:
    """Return "exported" or "scripted" for a file that looks like such a program, by the names of its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return None
    if any(
        name.endswith(("archive_format", "serialized_exported_program.json", "models/model.json")) for name in names
    ):
        return "exported"
    return "scripted" if any("/code/" in name or name.endswith("constants.pkl") for name in names) else None


def open_scripted(path: Path, device: torch.device) -> Program:
    """Open a TorchScript program.

    Raises:
        ProgramError: if it is none.
    """
    try:
        program: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's
    except RuntimeError as error:
        raise ProgramError(f"{path}: not a readable TorchScript program ({first_words(error)})") from None
    return Program(program.eval(), device)


def open_exported(path: Path, device: torch.device) -> Program:
    """Open a torch.export program after every member of its archive has been checked.

    Raises:
        ProgramError: if a member would be unpickled or is not known to be harmless, or if torch cannot read it.
    """
    if device.type != "cpu":
        raise ProgramError(f"{path}: an exported program stays on the device it was made for: --device cpu")
    try:
        archive = _rewritten(_members(path))
        program = torch.export.load(archive).module()
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001 (torch raises whatever its parsers raise)
        raise ProgramError(f"{path}: not a readable torch.export program ({first_words(error)})") from None
    return Program(program, device)


OPENERS: Mapping[Kind, Callable[[Path, torch.device], Program]] = {"exported": open_exported, "scripted": open_scripted}


def _members(path: Path) -> dict[str, bytes]:
    """Read the members of an archive by their names below its root; refuse what torch never writes."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > path.stat().st_size:
            raise ProgramError("an exported program is not compressed; this one is, or its members overlap")
        if any(info.filename == "serialized_exported_program.json" for info in infos):
            raise ProgramError("written by a torch older than 2.8, with unlimited pickles: export it anew")
        found: dict[str, bytes] = {}
        for info in infos:
            name = info.filename.partition("/")[2]
            if not _MEMBER.fullmatch(name):
                raise ProgramError(f"member {info.filename!r} is refused: pickled objects and native code are not run")
            if name in found:
                raise ProgramError(f"two members are called {name!r}")
            found[name] = archive.read(info)
    return found


def _rewritten(members: dict[str, bytes]) -> io.BytesIO:
    """Return a new archive of checked members, its JSON written anew: what was checked is what torch reads."""
    goal = io.BytesIO()
    with zipfile.ZipFile(goal, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"program/{name}", _checked_member(name, content))
    goal.seek(0)
    return goal


def _checked_member(name: str, content: bytes) -> bytes:
    if name == "models/model.json":
        return json.dumps(_checked(_without_comments(json.loads(content)))).encode()
    if name.endswith("_config.json"):
        return json.dumps(_checked_payloads(json.loads(content))).encode()
    if name.endswith(".pt"):
        _require_plain_pickle(name, content)
    return content


def _require_plain_pickle(name: str, content: bytes) -> None:
    """Refuse what torch would unpickle without limits: it does so with whatever `weights_only` refuses."""
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError):
        raise ProgramError(f"{name} holds more than tensors, and code in it is not run") from None


def _checked_payloads(config: Any) -> Any:  # noqa: ANN401 (JSON)
    for payload in config["config"].values():
        if payload.get("use_pickle") or not _PAYLOAD.fullmatch(payload["path_name"]):
            raise ProgramError(f"{payload['path_name']!r} is a pickled object, and code in it is not run")
    return config


def _without_comments(program: Any) -> Any:  # noqa: ANN401 (JSON)
    """Drop what the author's machine left in a program (stack traces, guards): source text, which torch reads."""
    if isinstance(program, dict):
        kept = {key: value for key, value in program.items() if key not in {"metadata", "guards_code"}}
        empty: dict[str, Any] = {key: type(program[key])() for key in program if key not in kept}
        return {key: _without_comments(value) for key, value in kept.items()} | empty
    return [_without_comments(value) for value in program] if isinstance(program, list) else program


def _checked(value: Any, key: str = "") -> Any:  # noqa: ANN401 (JSON)
    """Return a part of a graph unchanged; refuse functions, expressions, names and containers that are not known."""
    if isinstance(value, dict):
        for inner, part in value.items():
            _require(_TEXT.fullmatch(inner) is not None, "key", inner)
            _checked(part, inner)
    elif isinstance(value, list):
        for part in value:
            _checked(part, key)
    elif isinstance(value, str):
        if key == "target":
            _require(_is_known(value), "function", value)
        elif key == "expr_str":
            _require(_EXPRESSION.fullmatch(_SYMBOL.sub("1", value)) is not None, "expression", value)
        elif key in {"in_spec", "out_spec"}:
            _require(_is_plain_tree(json.loads(value)[1]), "container", value)
        else:
            allowed = _NAME if key in {"name", "forward_arg_names"} else _TEXT
            _require(allowed.fullmatch(value) is not None, "name", value)
    return value


def _require(known: bool, kind: str, text: str) -> None:  # noqa: FBT001 (a condition)
    if not known:
        raise ProgramError(f"{kind} {text[:80]!r} in its graph is refused: it could run code")


def _is_known(target: str) -> bool:
    if _FUNCTION.fullmatch(target):
        return True
    if not _OPERATOR.fullmatch(target):
        return False
    found: object = torch
    for name in target.split(".")[1:]:
        found = getattr(found, name, None)
    return isinstance(found, torch._ops.OpOverload)  # noqa: SLF001 (the only name of this class)


def _is_plain_tree(spec: Any) -> bool:  # noqa: ANN401 (JSON)
    context = spec["context"] if spec["type"] is None else json.loads(spec["context"])
    plain = context is None or (isinstance(context, list) and all(isinstance(name, str) for name in context))
    return plain and spec["type"] in _CONTAINERS and all(map(_is_plain_tree, spec["children_spec"]))
