"""Figures of single images, classes, attacks and sweeps; each against a golden picture."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from advbench.benchmark.protocol import published
from advbench.reports import agreement, attacks, comparison, diagnosis, perclass, results, sweep, transfer
from advbench.reports.drawing.heat_map import heat
from advbench.reports.drawing.style import FigureLayout, ReportError, figure, save

IMAGES, CLASSES = 300, ("plane", "car", "bird", "cat", "deer", "dog")
LABELS = np.arange(IMAGES) % len(CLASSES)
RADII = ("1/255", "2/255", "4/255", "8/255", "16/255")


def right(share, seed=0, seeds=2):
    """Outcomes (seeds, images): the first classes are harder."""
    rng = np.random.default_rng(seed)
    return rng.random((seeds, IMAGES)) < share - 0.2 + 0.08 * LABELS


def falling(start, scale):
    """Accuracies at RADII that fall with the radius."""
    return [start * math.exp(-float(Fraction(radius)) * 255 / scale) for radius in RADII]


def off_board(name="A", scale=8.0, norm="linf", radii=RADII, columns=("pgd20", "autoattack")):
    """A result as `evaluate --eps-sweep --out` writes it."""
    threats = []
    for radius, value in zip(radii, falling(0.9, scale), strict=False):
        found = {"clean": {"accuracy": 0.9, "interval": [0.87, 0.93]}}
        for number, column in enumerate(columns):
            share = max(0.0, value - 0.04 * number)
            found[column] = {"accuracy": share, "interval": [max(0.0, share - 0.05), share + 0.05]}
        threats.append({"norm": norm, "eps": radius, "eot": 0, "columns": found})
    made = {"kind": "evaluation off the board", "network": {"reference": name}, "protocol": "cifar10-linf/1"}
    return {**made, "images": IMAGES, "test": 10_000, "threats": threats}


def diagnosed():
    """A result as `diagnose` writes it."""
    risen = {"cross-entropy": [0.2 + 0.01 * n for n in range(20)], "margin": [-2 + 0.1 * n for n in range(20)]}
    return {
        "kind": "diagnosis",
        "name": "net",
        "eps": "8/255",
        "images": IMAGES,
        "test": 10_000,
        "clean": 0.9,
        "columns": {"clean": 0.9, "pgd20": 0.5, "pgd100": 0.49, "cw": 0.47, "autoattack": 0.45},
        "agreement": {
            "attacks": ["pgd20", "cw", "autoattack"],
            "also": [[1.0, 0.9, 1.0], [0.85, 1.0, 1.0], [None, 0.9, 1.0]],
            "fooled": [120, 129, 135],
        },
        "flags": [],
        "against_eps": {
            "eps": RADII,
            "curves": {"cross-entropy": falling(0.9, 9), "margin": falling(0.88, 9), "noise": falling(0.9, 90)},
            "steps": 20,
        },
        "against_steps": {
            "steps": [1, 5, 20],
            "curves": {"cross-entropy": [0.7, 0.55, 0.5], "margin": [0.72, 0.54, 0.48]},
            "losses": {
                name: {"0.1": [v - 0.2 for v in values], "0.5": values, "0.9": [*values[:-1], None]}
                for name, values in risen.items()
            },
        },
        "against_noise": {"draws": [1, 5, 20], "accuracy": [0.9, 0.89, 0.88]},
        "against_peers": {"itself": 0.5, "Standard": 0.8},
    }


def transferred(count=4):
    names = [f"Method-{number} s0" for number in range(count)]
    table = [[0.5 + 0.05 * abs(row - column) % 0.4 for column in range(count)] for row in range(count)]
    made = {"kind": "transfer", "protocol": "cifar10-linf/1", "names": names, "clean": [0.9] * count}
    return {**made, "accuracy": table, "images": IMAGES, "test": 10_000}


def methods(count):
    return {f"Method-{number}": right(0.75 - number / 60, number) for number in range(count)}


def attacked(count=5):
    found = {}
    for number, (name, clean) in enumerate(methods(count).items()):
        pgd20 = clean & right(0.95, 50 + number)
        both = {"cw": clean & right(0.9, 99), "autoattack": pgd20 & right(0.9, 7)}
        found[name] = {"clean": clean, "pgd20": pgd20, **both}
    return found


def contrasted():
    pair = (("Method-A", right(0.8, seeds=3)), ("Method-B", right(0.6, 1, seeds=3)))
    others = {f"Method-{number}": right(0.7, number, seeds=3) for number in range(2, 6)}
    return comparison.contrast(
        *pair, column="autoattack", others=others, protocol=published()["digits-linf/1"], labels=LABELS, classes=CLASSES
    )


DRAWINGS = {
    "classes": lambda **more: perclass.draw(
        perclass.by_class(methods(3), LABELS, CLASSES), title="AutoAttack, best", **more
    ),
    "classes-many": lambda **more: perclass.draw(
        perclass.by_class(methods(12), LABELS, CLASSES), title="AutoAttack, best", **more
    ),
    "agreement": lambda **more: agreement.draw(agreement.agree(methods(10)), title="CW, best", **more),
    "attacks": lambda **more: attacks.draw(attacks.fooled(attacked()), **more),
    "compare": lambda **more: comparison.draw(contrasted(), **more),
    "eps": lambda **more: sweep.draw(sweep.curves(off_board(), "file"), **more),
    "eps-networks": lambda **more: sweep.draw(
        [curve for name, scale in (("A", 8), ("B", 12)) for curve in sweep.curves(off_board(name, scale), name)], **more
    ),
    "transfer": lambda **more: transfer.draw(transferred(), **more),
    "diagnosis": lambda **more: diagnosis.draw(diagnosed(), **more),
}


@pytest.mark.parametrize("kind", DRAWINGS)
def test_three_formats_both_looks_and_the_golden_picture(kind, same_picture, tmp_path):
    paths = save(DRAWINGS[kind](), tmp_path / kind)
    assert [path.suffix for path in paths] == [".pdf", ".png", ".svg"]
    pdf = paths[0].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    same_picture(paths[1], kind)
    (slides,) = save(DRAWINGS[kind](layout=FigureLayout("slides")), tmp_path / "slides", ("png",))
    (single,) = save(DRAWINGS[kind](layout=FigureLayout(width="single")), tmp_path / "single", ("png",))
    with Image.open(paths[1]) as paper, Image.open(slides) as large, Image.open(single) as small:
        assert large.width > 1.5 * paper.width
        assert small.width == pytest.approx(975, abs=2)


def test_numbers_that_would_be_too_small_give_way_to_a_bar_of_shades():
    assert len(transfer.draw(transferred(3)).axes) == 1
    assert len(transfer.draw(transferred(40), layout=FigureLayout(width="single")).axes) == 2


def test_signs_of_flagged_rows_are_explained_once():
    rows = {"Method-A": right(0.8), "Method-B †": right(0.6, 1), "Method-C †§": right(0.5, 2)}
    attacked_rows = {name: {"clean": clean, "pgd20": clean, "cw": clean} for name, clean in rows.items()}
    for made in (
        perclass.draw(perclass.by_class(rows, LABELS, CLASSES), title="CW"),
        agreement.draw(agreement.agree(rows), title="CW"),
        attacks.draw(attacks.fooled(attacked_rows)),
    ):
        assert made.axes[0].get_title(loc="left").endswith("\n†: AutoAttack in doubt; §: evaluation not valid")


def test_numbers_below_zero_have_a_minus_sign():
    with figure(3, 2) as made:
        texts = heat(made.add_subplot(), np.array([[-0.2, -0.6, -12.0]]), rows=["A"], columns=["a", "b", "c"])
    assert [text.get_text() for text in texts] == ["0", "−1", "−12"]


def test_agreement_of_attacks_is_counted_by_image():
    clean = np.array([[1, 1, 1, 1, 1, 0]], dtype=bool)
    weak = np.array([[0, 1, 1, 1, 1, 0]], dtype=bool)
    strong = np.array([[0, 0, 1, 1, 0, 0]], dtype=bool)
    found = attacks.fooled({"A": {"clean": clean, "pgd20": weak, "cw": strong}})
    assert found.attacks == ("pgd20", "cw")
    np.testing.assert_allclose(found.also, [[1, 1], [1 / 3, 1]])
    np.testing.assert_allclose(found.parts, [[2 / 6, 1 / 6, 2 / 6, 1 / 6]])
    unharmed = attacks.fooled({"A": {"clean": clean, "pgd20": clean, "cw": strong}})
    assert np.isnan(unharmed.also[0]).all()
    with pytest.raises(ReportError, match="two attacks"):
        attacks.fooled({"A": {"clean": clean, "pgd20": weak}})
    with pytest.raises(ReportError, match="same images and seeds"):
        attacks.fooled({"A": {"clean": clean, "pgd20": weak, "cw": strong[:, 1:]}})


def test_sweeps_are_read_from_both_kinds_of_results():
    found = sweep.curves(off_board(), "file")
    assert [curve.attack for curve in found] == ["PGD-20", "AutoAttack"]
    assert found[0].eps[:2] == (0, Fraction(1, 255))
    assert found[0].accuracy[0] == 0.9
    assert found[0].trained == published()["cifar10-linf/1"].threat.eps
    examined = sweep.curves(diagnosed(), "file")
    assert {curve.attack for curve in examined} == {"PGD-20, cross-entropy", "PGD-20, margin", "noise"}
    assert examined[0].network == "net"


def test_what_is_no_sweep_is_refused_in_one_line():
    with pytest.raises(ReportError, match="fewer than two radii"):
        sweep.curves(off_board(radii=RADII[:1]), "file")
    mixed = off_board()
    mixed["threats"][0]["norm"] = "l2"
    with pytest.raises(ReportError, match="two norms"):
        sweep.curves(mixed, "file")
    other = [*sweep.curves(off_board(), "a"), *sweep.curves(off_board(norm="l2"), "b")]
    with pytest.raises(ReportError, match="two norms"):
        sweep.draw(other)
    with pytest.raises(ReportError, match="no sweep"):
        sweep.draw([])
    with pytest.raises(ReportError, match="no steps"):
        sweep.curves({**diagnosed(), "against_eps": {"eps": RADII, "curves": {"margin": [0.1]}}}, "file")
    short = diagnosed()
    short["against_eps"]["curves"] = {"margin": [0.1]}
    with pytest.raises(ReportError, match="not a readable result"):
        sweep.curves(short, "file")


def test_a_result_file_that_is_none_is_refused_in_one_line(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(ReportError, match="cannot be read"):
        results.read(path)
    for text, why in (
        ("{", "not valid JSON"),
        ("[]", "no result that can be drawn"),
        ('{"kind": {}}', "no result that can be drawn"),
        (json.dumps({"kind": "record"}), "no result that can be drawn"),
        (json.dumps({"kind": "transfer", "names": []}), "not a whole transfer: no clean"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ReportError, match=why) as caught:
            results.read(path)
        assert "\n" not in str(caught.value)
    path.write_text(json.dumps(transferred()), encoding="utf-8")
    assert results.read(path) == transferred()
    with pytest.raises(ReportError, match="make the matrix anew"):
        transfer.draw({**transferred(), "names": ["a"]})


def test_one_network_agrees_with_nobody():
    with pytest.raises(ReportError, match="two networks"):
        agreement.draw(agreement.agree({"A": right(0.5, seeds=1)}), title="CW")
