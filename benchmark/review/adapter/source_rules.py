"""What an adapter's source must not contain. Nothing of the file is executed: it is parsed, and judged by a table.

The rules stop honest mistakes and cheap tricks; CONTRIBUTING.md says what they do not see. What gets past them is held
down by the trainer (budgets), by the contract (what moved, and who moved it), by the maintainer who reads the adapter
and above all by the evaluator, which never runs an author's code.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from advbench.benchmark.review.finding import Finding

LIBRARIES = (
    *("__future__", "abc", "collections", "copy", "dataclasses", "enum", "functools", "itertools", "math"),
    *("operator", "torch", "typing"),
)
MOST_DATA = 2_000
"""Characters in all literals of an adapter together, its card and docstrings aside; the longest of ours has 500."""

Kind = Literal["import", "torch", "builtin", "attribute", "assigned", "compared", "text", "defined", "data", "syntax"]
"""What a rule judges: a dotted name that is imported, or that lies below torch; a name that is not imported; an
attribute with its owner, `owner.name`; the root of an assignment into something imported or handed in; an attribute in
a comparison; a string; the name of a function; the size of all literals; a syntax error."""


class Rule(NamedTuple):
    """A rule: its name, what to do about a breach, and what breaches it, as a regular expression for each kind."""

    name: str
    hint: str
    breaches: Mapping[Kind, str]


_NOT_OWN = r"(?<!^self)(?<!^cls)(?<!^super\(\))"
_DETOURS = r"\.(sys|os|io|builtins|inspect|importlib|types|torch|gc)$"
RULES = (
    Rule("parse", "write valid Python", {"syntax": ""}),
    Rule(
        "imports-another-method",
        "copy what you need, or put the variant into the same file",
        {"import": r"^(\.|advbench\.methods)"},
    ),
    Rule(
        "reads-test-data",
        "a method gets batches of the training split and task.labels, nothing else",
        {
            "import": r"^(advbench\.benchmark\.data|torchvision|sklearn|datasets)\b",
            "attribute": r"\.(dataset|test|validation)$",
        },
    ),
    Rule(
        "imports-the-house",
        "import only advbench.benchmark.method, losses and weights, and torch",
        {"import": r"^advbench(?!\.benchmark\.(method|losses|weights)\b)"},
    ),
    Rule(
        "introspection",
        "write plain code: no dynamic access, no private attributes, no globals",
        {
            "import": rf"{_DETOURS}|\.\*$",
            "torch": r"^torch\.(_|(utils|jit|ops|library|overrides|fx|compile|classes)\b)",
            "builtin": "^(__.*|breakpoint|compile|(get|set|has|del)attr|dir|eval|exec|globals?|locals|vars)$",
            "attribute": rf"(?<!^super\(\))\.__\w+$|{_NOT_OWN}\._\w*$|\.ledger$|{_DETOURS}",
        },
    ),
    Rule(
        "imports-a-library",
        f"import only the interface, {', '.join(LIBRARIES)}",
        {"import": rf"^(?!(advbench|{'|'.join(LIBRARIES)})\b)"},
    ),
    Rule(
        "back-door-optimiser",
        "the optimiser is the protocol's: step.backward and step.advance, once a batch",
        {
            "torch": r"^torch\.optim\b",
            "attribute": r"\.(optimi[sz]er|param_groups|grad|data|set_)$|(?<!^step)(?<!^super\(\))\.backward$",
        },
    ),
    Rule(
        "files-or-network",
        "a method reads and writes nothing: what it remembers belongs into its nets",
        {
            "torch": r"^torch\.(load|save|hub|from_file|package|serialization|multiprocessing|distributed)\b",
            "builtin": "^(open|input)$",
        },
    ),
    Rule(
        "global-random-state",
        "the trainer seeds everything: draw with generator=step.generator",
        {"torch": r"^torch\.(manual_seed|seed|random|set_rng_state)\b"},
    ),
    Rule(
        "global-settings",
        "precision, devices and threads are the protocol's and the machine's",
        {"torch": r"^torch\.(backends|cuda|use_deterministic_algorithms|set_(default|num_threads|float32_matmul))"},
    ),
    Rule(
        "uncounted-passes",
        "call the network, or step.features(net, x) for activations and logits: their passes are counted",
        {"attribute": r"(?<!^step)\.(features|forward_features|forward_head)$"},
    ),
    Rule("monkey-patching", "never assign to what is not yours: write the formula into your file", {"assigned": ""}),
    Rule(
        "attack-detection",
        "networks come from task.network(); an adapter defines no forward of its own",
        {"torch": r"^torch\.is_(grad|inference_mode)_enabled$", "defined": "^(forward|__call__|__getattr.*)$"},
    ),
    Rule(
        "extra-data",
        "no data but the protocol's: declare extra data at `advbench submit` and use the open division",
        {"text": r"https?://|ftp://|^[~/]|\.(?:npz|npy|pth?|pkl|safetensors|csv|zip|h5|tar)$|\bddpm\b"},
    ),
    Rule(
        "protocol-identity",
        "nothing may branch on the workload: use num_classes as a number in a formula only",
        {
            "attribute": r"\.protocol$",
            "compared": "^num_classes$",
            "text": r"\b(?:cifar|digits|image-?net|svhn|mnist)",
        },
    ),
    Rule(
        "one-device",
        "make tensors where the batch is: x.new_zeros, torch.zeros_like(x), .to(x)",
        {"attribute": r"\.(cuda|cpu|numpy)$"},
    ),
    Rule("large-literal", "an adapter is a formula: images, labels and weights have no place in it", {"data": ""}),
)
"""Every rule; of two that fit, the first speaks."""


def examine(source: bytes, name: str) -> tuple[Finding, ...]:
    """Return what an adapter's source breaks, in order of lines; `name` is the file's in the findings."""
    found = {}
    for kind, text, line, message in _facts(source):
        for rule in RULES:
            if kind in rule.breaches and re.search(rule.breaches[kind], text, re.IGNORECASE):
                place = f"{name}:{line}"
                found[line, rule.name, message] = Finding(rule.name, "refused", place, message, rule.hint)
                break
    return tuple(finding for _, finding in sorted(found.items()))


def method_names(source: bytes) -> tuple[str, ...]:
    """Return the names of the adapters that a source defines, read from their cards without running it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    cards = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and _is_card(node)]
    names = [word.value for card in cards if isinstance(card, ast.Call) for word in card.keywords if word.arg == "name"]
    return tuple(name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str))


def _is_card(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "card" for to in node.targets)


class _Context(NamedTuple):
    """What is known of a module: its imports, local name → dotted name, and which constants are no code."""

    imported: dict[str, str]
    prose: set[ast.AST]
    sources: set[ast.AST]


def _context(nodes: list[ast.AST]) -> _Context:
    imported, prose, sources = _Context({}, set(), set())
    for node in nodes:
        match node:
            case ast.Import(names=names):
                tops = ((it, it.name.partition(".")[0]) for it in names)
                imported |= {it.asname or top: it.name if it.asname else top for it, top in tops}
            case ast.ImportFrom(module=module, names=names):
                imported |= {it.asname or it.name: f"{module or ''}.{it.name}" for it in names}
            case ast.Expr(value=ast.Constant() as docstring):
                prose.add(docstring)
            case ast.Assign(value=card) if _is_card(node):
                prose.update(ast.walk(card))
            case ast.Call(func=ast.Name(id="knob")):  # its source names the workloads of a paper
                sources.update(ast.walk(node))
    return _Context(imported, prose, sources)


def _facts(source: bytes) -> Iterator[tuple[Kind, str, int, str]]:
    """Yield everything that a rule may judge: kind, text, line, and the message if it breaches one."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError) as error:
        yield "syntax", "", getattr(error, "lineno", None) or 0, f"not valid Python: {error}"
        return
    context = _context(nodes)
    for node in nodes:
        for kind, text, message in (*_of_node(node, context), *_of_target(node, context)):
            yield kind, text, getattr(node, "lineno", 0), message
    size = sum(
        _characters(node.value) for node in nodes if isinstance(node, ast.Constant) and node not in context.prose
    )
    if size > MOST_DATA:
        yield "data", "", 1, f"its literals have {size:,} characters, {MOST_DATA:,} are granted"


def _characters(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return value.bit_length() // 3 if isinstance(value, int) else 8


def _of_node(  # noqa: C901, PLR0912 (a table, case by case)
    node: ast.AST, context: _Context
) -> Iterator[tuple[Kind, str, str]]:
    match node:
        case ast.Import(names=names):
            for it in names:
                yield from _imported(it.name)
        case ast.ImportFrom(level=level, module=module, names=names):
            for it in names:
                yield from _imported(f"{'.' * level}{module or ''}.{it.name}")
        case ast.Name(id=name) if name not in context.imported:
            yield "builtin", name, f"uses {name}"
        case ast.Global(names=global_names):
            yield "builtin", "global", f"global {', '.join(global_names)}"
        case ast.FunctionDef(name=name):
            yield "defined", name, f"defines {name}"
        case ast.Attribute(attr=name):
            dotted = _dotted(node, context)
            if dotted.startswith("torch."):
                yield "torch", dotted, f"uses {dotted}"
            else:
                yield "attribute", ast.unparse(node), f"touches .{name}"
        case ast.Compare():
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute):
                    yield "compared", part.attr, f"compares {part.attr}"
        case ast.Constant(value=str(text)) if node not in context.prose | context.sources:
            yield "text", text, f"names {text[:60]!r}"


def _of_target(node: ast.AST, context: _Context) -> Iterator[tuple[Kind, str, str]]:
    if not isinstance(node, ast.Attribute | ast.Subscript) or isinstance(node.ctx, ast.Load):
        return
    root: ast.expr = node
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    if isinstance(root, ast.Name) and (root.id in context.imported or root.id in {"step", "task"}):
        yield "assigned", root.id, f"assigns to {ast.unparse(node)}"


def _imported(name: str) -> Iterator[tuple[Kind, str, str]]:
    yield "import", name, f"imports {name}"
    yield "torch", name, f"imports {name}"


def _dotted(node: ast.expr, context: _Context) -> str:
    """Return "torch.nn.functional" for an expression that reads so, imports resolved; "" if it does not."""
    if isinstance(node, ast.Name):
        return context.imported.get(node.id, "")
    root = _dotted(node.value, context) if isinstance(node, ast.Attribute) else ""
    return f"{root}.{node.attr}" if isinstance(node, ast.Attribute) and root else ""
