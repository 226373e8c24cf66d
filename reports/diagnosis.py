"""The diagnosis of one network on one page: six panels and a verdict in words. Torch-free.

Reads the JSON data that `benchmark/evaluation/diagnosis.py` returns.
"""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.benchmark.protocol_parts import NORMS, exact
from advbench.reports.drawing.colours import BLUE, GREY, INK, ORANGE
from advbench.reports.drawing.heat_map import heat
from advbench.reports.drawing.points import name_of
from advbench.reports.drawing.style import PAGE, PAPER, TALL, FigureLayout, ReportError, figure, scaled

_LOOKS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "margin": {"color": ORANGE, "linestyle": "--", "marker": "s"},
    "noise": {"color": GREY, "linestyle": ":", "marker": "v"},
}
"""How the curves of an attack are drawn."""


def draw(found: Mapping[str, Any], *, layout: FigureLayout = PAPER) -> Figure:
    """Draw the six experiments.

    Raises:
        ReportError: if this is no diagnosis.
    """
    if found.get("kind") != "diagnosis":
        raise ReportError("this is no diagnosis; `advbench diagnose` makes one")
    single = layout.width == "single"
    tall = TALL if single else 4.9 if layout.paper else 3.9
    with figure(layout.inches(PAGE), tall, layout) as made:
        panels = made.subplots(6, 1) if single else made.subplots(2, 3)
        for axes, (title, panel) in zip(panels.flat, _PANELS.items(), strict=True):
            panel(axes, found)
            axes.set_title(title, loc="left")
        part = f"first {found['images']} of {found['test']}" if found["images"] < found["test"] else found["images"]
        threat = f"{NORMS[found.get('norm', 'linf')]}, eps {found['eps']}"
        made.supxlabel(f"{found.get('name', 'network')}; {threat}; {part} test images", fontsize="medium")
        return made


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def _curve(axes: Axes, name: str, xs: Sequence[float], shares: Sequence[float], *, label: str = "") -> None:
    axes.plot(xs, _percent(shares), label=label or name, markersize=scaled(3), **_LOOKS[name])


def _accuracy(axes: Axes, xlabel: str, *, ticks: Sequence[int] = ()) -> None:
    """Finish axes whose vertical one is accuracy; the horizontal one is logarithmic if it has ticks of its own."""
    axes.set_ylim(-3, 103)
    axes.set_ylabel("accuracy (%)")
    axes.set_xlabel(xlabel)
    if ticks:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")


def _eps(axes: Axes, found: Mapping[str, Any]) -> None:
    data = found["against_eps"]
    radii = [0.0, *(float(exact(radius)) for radius in data["eps"])]
    for name, values in data["curves"].items():
        _curve(axes, name, radii, [found["clean"], *values])
    axes.axvline(float(exact(found["eps"])), color=GREY, linewidth=scaled(0.8), linestyle=(0, (1, 1)), zorder=0)
    _accuracy(axes, f"eps (PGD-{data['steps']}, step eps/4)")


def _steps(axes: Axes, found: Mapping[str, Any]) -> None:
    data = found["against_steps"]
    for name, values in data["curves"].items():
        _curve(axes, name, data["steps"], values)
    _accuracy(axes, "steps of PGD", ticks=data["steps"])


def _losses(axes: Axes, found: Mapping[str, Any]) -> None:
    twin = axes.twinx()
    twin.spines["right"].set_visible(True)
    twin.grid(visible=False)
    for side, name in ((axes, "cross-entropy"), (twin, "margin")):
        rows = {key: np.array(values, dtype=float) for key, values in found["against_steps"]["losses"][name].items()}
        stroke = {"color": _LOOKS[name]["color"], "linestyle": _LOOKS[name]["linestyle"]}
        steps = np.arange(len(rows["0.5"]))
        side.plot(steps, rows["0.5"], **stroke)
        for edge in ("0.1", "0.9"):  # lines: areas on two scales would hide each other
            side.plot(steps, rows[edge], linewidth=scaled(0.4), **stroke)
        side.set_ylabel(name, color=stroke["color"])
    axes.set_xlabel("iteration (median; thin: 10 %, 90 %)")


def _noise(axes: Axes, found: Mapping[str, Any]) -> None:
    data = found["against_noise"]
    _curve(axes, "noise", data["draws"], data["accuracy"], label="worst of n draws")
    axes.axhline(100 * found["columns"]["pgd20"], color=BLUE, label="PGD-20")
    _accuracy(axes, "draws", ticks=data["draws"])


def _peers(axes: Axes, found: Mapping[str, Any]) -> None:
    data = found["against_peers"]
    names = list(data)
    colours = [BLUE, *["white"] * (len(names) - 1)]
    hatches = ["", *["////"] * (len(names) - 1)]
    values = _percent(list(data.values()))
    axes.bar(range(len(names)), values, color=colours, hatch=hatches, edgecolor=INK, linewidth=scaled(0.6))
    for place, value in enumerate(values):
        axes.text(place, value + 2, f"{value:.0f}", ha="center")
    axes.set_xticks(range(len(names)), [fill(name, 12) for name in names])
    axes.set_xlim(-0.7, max(1, len(names) - 1) + 0.7)
    axes.set_ylim(0, 112)
    axes.set_xlabel("PGD-20 examples made on" if len(names) > 1 else "PGD-20 examples made on; no peers here")
    axes.set_ylabel("accuracy (%)")
    axes.grid(visible=False, axis="x")


def _agreement(axes: Axes, found: Mapping[str, Any]) -> None:
    data = found["agreement"]
    names = [name_of(name) for name in data["attacks"]]
    table = np.array(data["also"], dtype=float)
    rows = [f"{name} ({count})" for name, count in zip(names, data["fooled"], strict=True)]
    heat(axes, 100 * table, rows=rows, columns=names)


_PANELS = {
    "a  Accuracy against eps": _eps,
    "b  Accuracy against steps": _steps,
    "c  Loss along the iterations": _losses,
    "d  Noise against gradients": _noise,
    "e  White box against transfer": _peers,
    "f  Fooled by row, also by column (%)": _agreement,
}


def words(found: Mapping[str, Any]) -> list[str]:
    """Return what each experiment shows, in sentences, and every raised flag with its evidence and what to do next."""
    lines = [
        f"clean {found['clean']:.1%}; " + "; ".join(_column(found, name) for name in found["agreement"]["attacks"])
    ]
    eps, steps = found["against_eps"], found["against_steps"]
    lowest = min(eps["curves"]["cross-entropy"][-1], eps["curves"]["margin"][-1])
    lines.append(
        f"a  at eps {eps['eps'][-1]} the better of both losses leaves {lowest:.1%}: "
        + ("as it must be" if lowest <= 0.05 else "an attack there must reach 0 %: gradients mislead it")
    )
    few, many = steps["curves"]["cross-entropy"][-3], steps["curves"]["cross-entropy"][-1]
    lines.append(f"b  {steps['steps'][-3]} steps leave {few:.1%}, {steps['steps'][-1]} steps {many:.1%}")
    lines.append("c  " + "; ".join(_risen(name, rows) for name, rows in steps["losses"].items()))
    noise, own = found["against_noise"], found["columns"]["pgd20"]
    lines.append(
        f"d  the worst of {noise['draws'][-1]} draws of noise leaves {noise['accuracy'][-1]:.1%}, PGD-20 {own:.1%}"
        + (": noise is stronger than gradients" if noise["accuracy"][-1] < own else "")
    )
    peers = {name: value for name, value in found["against_peers"].items() if name != "itself"}
    others = ", ".join(f"{name} {value:.1%}" for name, value in peers.items()) or "no peers here: not tried"
    lines.append(f"e  examples of itself {found['against_peers']['itself']:.1%}; of others: {others}")
    raised = [flag for flag in found["flags"] if flag["state"] == "raised"]
    not_run = [flag["name"] for flag in found["flags"] if flag["state"] == "not run"]
    lines += [
        f"FLAG {flag['name']}: {flag['sign']} ({flag['reason']}). Next: {flag['hint']}. {flag['url']}"
        for flag in raised
    ]
    lines.append(f"{len(raised)} masking flags raised, {len(found['flags']) - len(raised) - len(not_run)} clear")
    if not_run:
        lines.append(f"not run: {', '.join(not_run)}")
    return lines


def _column(found: Mapping[str, Any], name: str) -> str:
    return f"{name_of(name)} {found['columns'][name]:.1%}"


def _risen(name: str, rows: Mapping[str, Sequence[float | None]]) -> str:
    first, last = rows["0.5"][0], rows["0.5"][-1]
    if first is None or last is None:
        return f"median {name} is not finite"
    verb = "rises" if last > first else "does NOT rise"
    return f"median {name} {verb} from {first:.3g} to {last:.3g}"
