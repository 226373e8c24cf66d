"""Write the beginning of a new defense: an adapter that runs, a card to fill in, a test that fails until then."""

import keyword
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import jinja2

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class ScaffoldError(ValueError):
    """A new method that cannot be begun; the message is one line with the fix."""


@dataclass(frozen=True)
class Shape:
    """What a defense is made of.

    Attributes:
        networks: 1, or 2 for a target and a guide trained together.
        teacher: whether it learns from a frozen teacher.
        memory: whether it remembers something of every training image.
    """

    networks: int = 1
    teacher: bool = False
    memory: bool = False

    @property
    def nets(self) -> str:
        """The class that holds the networks."""
        if self.networks == 2:
            return "Nets" if self.teacher else "TwoNetworks"
        return "Taught" if self.teacher else "OneNetwork"

    @property
    def family(self) -> str:
        """The family that this shape most often has."""
        if self.teacher:
            return "distillation"
        if self.networks == 2:
            return "two networks"
        return "label refinement" if self.memory else "adversarial training"

    @property
    def forwards(self) -> int:
        """Passes per training image of the generated loss, in forwards F, at ten inner steps."""
        return 23 + 3 * (self.networks == 2) + int(self.teacher)

    @property
    def terms(self) -> tuple[str, ...]:
        """The summands of the generated loss."""
        first = "ce_mean(z_adv, memory[batch.index])" if self.memory else "ce_mean(z_adv, batch.y)"
        weight = "" if self.memory else "self.weight * "
        if self.networks == 1 and not self.teacher:
            return (f"{weight}{first}",)
        match = "kl_mean(z_teacher, z_adv)"
        if self.networks == 2:
            match = "matching" if self.teacher else "kl_mean(z_guide.detach(), z_adv)"
            return (first, "ce_mean(z_guide, batch.y)", f"{weight}{match}")
        return (first, f"{weight}{match}")


def class_name(name: str) -> str:
    """Return the class for a method's name: "soft_margin" becomes SoftMargin."""
    return "".join(part.capitalize() for part in name.split("_") if part)


def render(name: str, shape: Shape) -> tuple[str, str]:
    """Return the adapter and its test as Python source."""
    templates = resources.files("advbench.benchmark.review.adapter") / "templates"
    engine = jinja2.Environment(  # noqa: S701 (Python source, not HTML)
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    used = sorted(["TwoNetworks" if shape.nets == "Nets" else shape.nets, "Method", "Step", "Task"], key=str.lower)
    facts = {
        **vars(shape),
        "name": name,
        "label": name.replace("_", "-").upper(),
        "kind": class_name(name),
        "year": datetime.now(UTC).year,
        "nets": shape.nets,
        "own_nets": shape.nets == "Nets",
        "imported_nets": ", ".join(used),
        "family": shape.family,
        "forwards": shape.forwards,
        "terms": shape.terms,
        "build_doc": "Make the networks; averages and teachers are frozen, the rest is trained.",
        "import_line": f"from advbench.methods.{name} import {class_name(name)}",
    }
    adapter, test = (
        engine.from_string((templates / f"{file}.jinja").read_text(encoding="utf-8")).render(facts)
        for file in ("method.py", "test_method.py")
    )
    return adapter, test


def write(name: str, shape: Shape, folder: Path) -> tuple[Path, ...]:
    """Write adapter and test; in a checkout into methods/ and tests/oracle/, elsewhere the adapter alone into `folder`.

    Raises:
        ScaffoldError: for a name that cannot be one, or files that exist.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ScaffoldError(f"{name!r} cannot name a method: lower-case letters, digits and underscores")
    checkout = (folder / "methods").is_dir() and (folder / "benchmark" / "method.py").is_file()
    adapter, test = render(name, shape)
    due = {folder / "methods" / f"{name}.py" if checkout else folder / f"{name}.py": adapter}
    if checkout:
        due[folder / "tests" / "oracle" / f"test_{name}.py"] = test
    for path in due:
        if path.exists():
            raise ScaffoldError(f"{path}: exists already; choose another name, or remove it")
    for path, text in due.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(due)
