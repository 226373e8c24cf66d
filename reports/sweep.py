"""Robust accuracy against eps, from results that hold several radii: a sweep off the board, or a diagnosis. Torch-free.

Records cannot be drawn so: they hold clean accuracy, the protocol's own radius, and one large radius under another
attack, which is three points of two curves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.benchmark.protocol import published
from advbench.benchmark.protocol_parts import NORMS, exact
from advbench.benchmark.records.schema import COLUMNS
from advbench.reports.drawing.colours import GREY, STROKES
from advbench.reports.drawing.points import name_of
from advbench.reports.drawing.style import COLUMN, PAPER, FigureLayout, ReportError, caption, figure, scaled

BYTE = 255


@dataclass(frozen=True)
class Curve:
    """Accuracies in [0,1] of one network under one attack, by growing radius from 0 on.

    Attributes:
        network, attack: names.
        norm: "linf" or "l2".
        eps: radii.
        accuracy: at each of them.
        interval: Wilson 95 % at each of them; empty where the result does not hold it.
        images: how many were attacked.
        trained: radius of the protocol; None where it is not known.
    """

    network: str
    attack: str
    norm: str
    eps: tuple[Fraction, ...]
    accuracy: tuple[float, ...]
    interval: tuple[tuple[float, float], ...]
    images: int
    trained: Fraction | None


def curves(result: Mapping[str, Any], name: str) -> list[Curve]:
    """Take the curves out of one result, the strongest attack last.

    Args:
        result: JSON data of an evaluation off the board, or of a diagnosis.
        name: what the network is called if the result does not say.

    Raises:
        ReportError: if it holds fewer than two radii, or is something else.
    """
    try:
        made = list({"diagnosis": _diagnosis, "evaluation off the board": _sweep}[result["kind"]](result, name))
    except KeyError as error:
        raise ReportError(f"{name}: no sweep of eps in it: no {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise ReportError(f"{name}: not a readable result ({error}); make it anew") from None
    if not made:
        raise ReportError(f"{name}: fewer than two radii; `advbench evaluate --eps-sweep LIST --out FILE` gives more")
    return made


def _diagnosis(result: Mapping[str, Any], name: str) -> Iterator[Curve]:
    data = result["against_eps"]
    radii = (Fraction(0), *(exact(radius) for radius in data["eps"]))
    for loss, values in data["curves"].items():
        attack = "noise" if loss == "noise" else f"PGD-{data['steps']}, {loss}"
        shares = (float(result["clean"]), *(float(value) for value in values))
        if len(shares) != len(radii):
            raise ValueError(f"{len(values)} accuracies at {len(data['eps'])} radii")
        trained = exact(result["eps"])
        yield Curve(
            str(result.get("name", name)),
            attack,
            result.get("norm", "linf"),
            radii,
            shares,
            (),
            int(result["images"]),
            trained,
        )


def _sweep(result: Mapping[str, Any], name: str) -> Iterator[Curve]:
    norms = {threat["norm"] for threat in result["threats"]}
    if len(norms) > 1:
        raise ReportError(f"{name}: radii of two norms do not share an axis; give a file for each")
    threats = sorted(result["threats"], key=lambda threat: exact(threat["eps"]))
    if len(threats) < 2:
        return
    network = str(result["network"].get("reference", name)) if isinstance(result["network"], dict) else name
    known = published().get(str(result.get("protocol")))
    trained = known.threat.eps if known and norms == {known.threat.norm} else None
    for column in (column for column in COLUMNS[1:] if all(column in threat["columns"] for threat in threats)):
        measured = [threats[0]["columns"]["clean"], *(threat["columns"][column] for threat in threats)]
        draws = threats[0].get("eot", 0)
        yield Curve(
            network,
            name_of(column) + (f", EOT {draws}" if draws else ""),
            next(iter(norms)),
            (Fraction(0), *(exact(threat["eps"]) for threat in threats)),
            tuple(float(cell["accuracy"]) for cell in measured),
            tuple((float(low), float(high)) for low, high in (cell["interval"] for cell in measured)),
            int(result["images"]),
            trained,
        )


def draw(some: Sequence[Curve], *, layout: FigureLayout = PAPER) -> Figure:
    """Draw every attack on one network, or of several networks the attack on each that leaves least on average.

    Raises:
        ReportError: for no curve, or radii of two norms.
    """
    if not some:
        raise ReportError("no sweep of eps to draw")
    if len({curve.norm for curve in some}) > 1:
        raise ReportError("radii of two norms do not share an axis; draw them one by one")
    networks = dict.fromkeys(curve.network for curve in some)
    chosen = list(some) if len(networks) == 1 else [_strongest(name, some) for name in networks]
    attacks = {curve.attack for curve in chosen}
    across = layout.inches(COLUMN)
    with figure(across, 0.62 * across + 0.5 + 0.12 * len(chosen), layout) as made:
        axes = made.add_subplot()
        whole = _unit(axes, chosen)
        for number, (curve, (colour, line, marker)) in enumerate(zip(chosen, cycle(STROKES), strict=False)):
            label = curve.attack if len(networks) == 1 else curve.network
            if len(networks) > 1 and len(attacks) > 1:
                label += f" ({curve.attack})"
            size = scaled(max(3.0, 5.5 - number))  # where curves coincide the lower marker shows around the upper one
            stroke = {"color": colour, "linestyle": line, "marker": marker, "markersize": size, "label": label}
            _line(axes, curve, whole, stroke)
        trained = {curve.trained for curve in chosen if curve.trained is not None}
        for radius in trained:
            axes.axvline(float(radius) * whole, color=GREY, linewidth=scaled(0.8), linestyle=(0, (1, 1)), zorder=0)
        axes.set_ylim(-2, 102)
        axes.set_ylabel("Accuracy (%)" if len(attacks) > 1 else f"{attacks.pop()} accuracy (%)")
        about = next(iter(networks)) if len(networks) == 1 else f"{len(networks)} networks"
        counts = sorted({curve.images for curve in chosen})
        about += f", n = {' to '.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))}"
        about += "; bars: Wilson 95 %" if any(curve.interval for curve in chosen) else ""
        about += "; dotted: the protocol's eps" if trained else ""
        caption(axes, about, share=0.9)
        made.legend(loc="outside lower left", ncols=1 if len(networks) > 1 else 2, handlelength=3.2)
        return made


def _strongest(network: str, some: Sequence[Curve]) -> Curve:
    """Return the curve of a network that lies lowest."""
    return min(
        (curve for curve in some if curve.network == network),
        key=lambda curve: sum(curve.accuracy) / len(curve.accuracy),
    )


def _unit(axes: Axes, some: Sequence[Curve]) -> int:
    """Name the horizontal axis; return what radii are multiplied by: 255 where all of them are multiples of 1/255."""
    norm = NORMS.get(some[0].norm, some[0].norm)
    bytewise = some[0].norm == "linf" and all(
        (BYTE * radius).denominator == 1 for curve in some for radius in curve.eps
    )
    axes.set_xlabel(f"{norm} radius eps (1/255)" if bytewise else f"{norm} radius eps")
    return BYTE if bytewise else 1


def _line(axes: Axes, curve: Curve, whole: int, look: Mapping[str, Any]) -> None:
    """Draw one curve with its intervals."""
    xs = [float(radius) * whole for radius in curve.eps]
    ys = [100 * share for share in curve.accuracy]
    axes.plot(xs, ys, **look)
    if curve.interval:
        spans = [
            [100 * (share - low) for share, (low, _) in zip(curve.accuracy, curve.interval, strict=True)],
            [100 * (high - share) for share, (_, high) in zip(curve.accuracy, curve.interval, strict=True)],
        ]
        axes.errorbar(xs, ys, yerr=spans, fmt="none", ecolor=look["color"], elinewidth=scaled(0.6), alpha=0.45)
