"""What an adapter's source must not contain. Nothing of the file is executed: it is parsed, and judged by rules.

Rules stop mistakes and plain attempts; they cannot stop everything that Python can hide. What gets past them is held
down by the trainer (budgets), by the contract (what moved, and who moved it) and above all by the evaluator, which
never runs an author's code.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OURS = ("advbench.benchmark.method", "advbench.benchmark.losses", "advbench.benchmark.weights")
LIBRARIES = {"__future__", "abc", "collections", "copy", "dataclasses", "enum", "functools", "itertools", "math"}
LIBRARIES |= {"operator", "torch", "typing"}
MENDS = {
    "parse": "write valid Python",
    "imports-another-method": "copy what you need, or put the variant into the same file",
    "imports-the-house": f"import only {', '.join(OURS)} and torch",
    "imports-a-library": f"import only torch, the interface and {', '.join(sorted(LIBRARIES - {'torch'}))}",
    "reads-test-data": "a method gets batches of the training split and task.labels, nothing else",
    "back-door-optimiser": "the optimiser is the protocol's: step.backward and step.advance, once a batch",
    "files-or-network": "a method reads and writes nothing: what it remembers belongs into its nets",
    "global-random-state": "the trainer seeds everything; draw from torch's functions without seeding",
    "global-settings": "precision, devices and threads are the protocol's and the machine's",
    "monkey-patching": "never assign to what is not yours: write the formula into your own file",
    "introspection": "write plain code: no dynamic access, no private attributes, no globals",
    "attack-detection": "networks come from task.network(); an adapter defines no forward of its own",
    "protocol-identity": "nothing may branch on the workload: use num_classes as a number in a formula only",
    "one-device": "make tensors where the batch is: x.new_zeros, torch.zeros_like(x), .to(x)",
    "extra-data": "no data but the protocol's: declare extra data at `advbench submit` and use the open division",
}
"""Every rule with what to do about it."""
_BUILTINS = {
    **dict.fromkeys(("open", "input"), "files-or-network"),
    **dict.fromkeys(
        (
            "__import__",
            "breakpoint",
            "compile",
            "delattr",
            "dir",
            "eval",
            "exec",
            "getattr",
            "globals",
            "hasattr",
            "locals",
            "setattr",
            "vars",
            "__builtins__",
            "__file__",
            "__loader__",
            "__spec__",
        ),
        "introspection",
    ),
}
_ATTRIBUTES = {
    "dataset": "reads-test-data",
    "test": "reads-test-data",
    "validation": "reads-test-data",
    "protocol": "protocol-identity",
    **dict.fromkeys(("optimiser", "optimizer", "param_groups", "grad", "data", "set_"), "back-door-optimiser"),
    **dict.fromkeys(("cuda", "cpu", "numpy"), "one-device"),
    **dict.fromkeys(("f_back", "gi_frame", "tb_frame", "ledger"), "introspection"),
}
_TORCH = {
    **dict.fromkeys(("optim",), "back-door-optimiser"),
    **dict.fromkeys(("load", "save", "hub", "from_file", "package", "serialization"), "files-or-network"),
    **dict.fromkeys(("multiprocessing", "distributed"), "files-or-network"),
    **dict.fromkeys(("manual_seed", "seed", "random", "set_rng_state"), "global-random-state"),
    **dict.fromkeys(
        ("backends", "cuda", "set_default_dtype", "set_default_device", "set_num_threads"), "global-settings"
    ),
    **dict.fromkeys(("set_float32_matmul_precision", "use_deterministic_algorithms"), "global-settings"),
    **dict.fromkeys(("utils", "jit", "ops", "library", "overrides", "fx", "compile", "classes"), "introspection"),
    **dict.fromkeys(("is_grad_enabled", "is_inference_mode_enabled"), "attack-detection"),
}
_MODULES = {"sys", "os", "io", "builtins", "inspect", "importlib", "types", "torch", "nn", "copy", "dataclasses", "gc"}
"""Modules that may not be reached by way of another module."""
_WORKLOAD = re.compile(r"\b(?:cifar|digits|image-?net|svhn|mnist)", re.IGNORECASE)
_OUTSIDE = re.compile(
    r"https?://|ftp://|^[~/]|\.(?:npz|npy|pth?|pkl|safetensors|csv|zip|h5|tar)$|\bddpm\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Violation:
    """A rule of `MENDS` that a line breaks."""

    rule: str
    line: int
    said: str


def examine(path: Path) -> tuple[Violation, ...]:
    """Return what an adapter's file breaks, in order of lines."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (SyntaxError, ValueError) as error:
        return (Violation("parse", getattr(error, "lineno", None) or 0, f"not valid Python: {error}"),)
    except OSError as error:
        return (Violation("parse", 0, f"cannot be read ({error.strerror})"),)
    found = set(_Reader(tree).violations())
    return tuple(sorted(found, key=lambda one: (one.line, one.rule, one.said)))


def method_names(path: Path) -> tuple[str, ...]:
    """Return the names of the adapters that a file defines, read from their cards without running it."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return ()
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == "card" for one in node.targets):
            keywords = node.value.keywords if isinstance(node.value, ast.Call) else []
            names += [
                word.value.value for word in keywords if word.arg == "name" and isinstance(word.value, ast.Constant)
            ]
    return tuple(name for name in names if isinstance(name, str))


class _Reader:
    """Walks one module with its imports resolved."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.imported: dict[str, str] = {}
        self.prose: set[ast.AST] = set()
        for node in ast.walk(tree):
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        """Remember imports, and strings that are prose: docstrings and cards."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imported[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self.imported[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            self.prose.add(node.value)
        elif isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "card" for one in node.targets
        ):
            self.prose.update(ast.walk(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "knob":
            self.prose.update(ast.walk(node))

    def violations(self) -> Iterator[Violation]:
        for node in ast.walk(self.tree):
            line = getattr(node, "lineno", 0)
            for rule, said in self._judge(node):
                yield Violation(rule, line, said)

    def _judge(self, node: ast.AST) -> Iterator[tuple[str, str]]:  # noqa: C901, PLR0912 (a table, case by case)
        match node:
            case ast.Import():
                for alias in node.names:
                    yield from _module(alias.name)
                    if alias.name in OURS:
                        yield "introspection", f"import {alias.name}: write from {alias.name} import …"
            case ast.ImportFrom():
                yield from self._from(node)
            case ast.Name(id=name) if name in _BUILTINS and name not in self.imported:
                yield _BUILTINS[name], f"{name} is used"
            case ast.Global():
                yield "introspection", f"global {', '.join(node.names)}"
            case ast.FunctionDef(name="forward" | "__call__" | "__getattr__" | "__getattribute__"):
                yield "attack-detection", f"defines {node.name}"
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Delete():
                yield from self._assignment(node)
            case ast.Compare():
                if any(isinstance(one, ast.Attribute) and one.attr == "num_classes" for one in ast.walk(node)):
                    yield "protocol-identity", "compares num_classes"
            case ast.Constant(value=str(text)) if node not in self.prose:
                if _OUTSIDE.search(text):
                    yield "extra-data", f"names {text[:60]!r}"
                elif _WORKLOAD.search(text):
                    yield "protocol-identity", f"names {text[:60]!r}"
            case _:
                return

    def _from(self, node: ast.ImportFrom) -> Iterator[tuple[str, str]]:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            whole = f"{module}.{alias.name}"
            if module in {"advbench", "advbench.benchmark"}:
                yield from _module(whole)
            elif module.split(".")[0] == "torch":
                yield from _torch(whole)
            elif alias.name in _MODULES or alias.name == "*":
                yield "introspection", f"imports {whole}"
        if module not in {"advbench", "advbench.benchmark"}:
            yield from _module(module)

    def _dotted(self, node: ast.expr) -> str:
        """Return "torch.nn.functional" for an expression that reads so, imports resolved; "" if it does not."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, "")
        if isinstance(node, ast.Attribute):
            root = self._dotted(node.value)
            return f"{root}.{node.attr}" if root else ""
        return ""

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[str, str]]:
        name, dotted = node.attr, self._dotted(node)
        if dotted.startswith("torch."):
            yield from _torch(dotted)
        elif name in _ATTRIBUTES:
            yield _ATTRIBUTES[name], f"touches .{name}"
        if name in _MODULES and dotted != "torch.nn":
            yield "introspection", f"reaches the module {name}"
        own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
        parent = (
            isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name) and node.value.func.id == "super"
        )
        if name.startswith("_") and not (own and not name.startswith("__")) and not parent:
            yield "introspection", f"touches the private .{name}"
        if name == "backward" and not (isinstance(node.value, ast.Name) and node.value.id == "step") and not parent:
            yield "back-door-optimiser", "calls backward on something else than step"

    def _assignment(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) -> Iterator[tuple[str, str]]:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        for target in (one for whole in targets for one in ast.walk(whole)):
            if not isinstance(target, ast.Attribute | ast.Subscript) or not isinstance(target.ctx, ast.Store | ast.Del):
                continue
            root: ast.expr = target
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name) and (root.id in self.imported or root.id in {"step", "task", "self", "cls"}):
                of_module = root.id == "self" and isinstance(target, ast.Attribute) and self._in_module(target)
                if not of_module:
                    yield "monkey-patching", f"assigns to {ast.unparse(target)}"

    def _in_module(self, target: ast.Attribute) -> bool:
        """Whether `self.x = …` stands in the __init__ of a class: there it makes the author's own nets."""
        return any(
            isinstance(function, ast.FunctionDef) and function.name == "__init__" and target in set(ast.walk(function))
            for function in ast.walk(self.tree)
        )


def _module(name: str) -> Iterator[tuple[str, str]]:
    """Judge an imported module."""
    if name in OURS:
        return
    top, last = name.split(".", maxsplit=1)[0], name.rpartition(".")[2]
    if name.startswith(("advbench.methods", ".")):
        yield "imports-another-method", f"imports {name}"
    elif top == "advbench":
        rule = "reads-test-data" if last in {"data", "sources", "split"} else "imports-the-house"
        yield rule, f"imports {name}"
    elif top in {"torchvision", "sklearn", "datasets"}:
        yield "reads-test-data", f"imports {name}"
    elif top not in LIBRARIES:
        yield "imports-a-library", f"imports {name}"
    elif name.startswith("torch."):
        yield from _torch(name)


def _torch(dotted: str) -> Iterator[tuple[str, str]]:
    """Judge a name below torch."""
    part = dotted.split(".")[1]
    if part in _TORCH:
        yield _TORCH[part], f"uses {dotted}"
    elif part.startswith("_"):
        yield "introspection", f"uses {dotted}"
