"""Figures: what they show, how they are written, what they refuse; each against a golden picture."""

import math
import random
import subprocess
import sys

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from advbench.benchmark.records.schema import Flag
from advbench.leaderboards import board
from advbench.reports import cost, curves, overfitting, stability, tradeoff
from advbench.reports.drawing import style
from advbench.reports.drawing.labels import Label, place
from advbench.reports.drawing.points import measured, pareto, points, split
from advbench.reports.drawing.style import FAMILIES, ReportError, figure

MASKED = Flag(name="autoattack-far-below-pgd", kind="masking", state="raised")


@pytest.fixture(scope="module")
def table(board_records, make_record):
    masked = [make_record("gairat", seed=seed, label="GAIRAT", flags=(MASKED,)) for seed in (0, 1, 2)]
    return board.build([*board_records, *masked])


@pytest.fixture(scope="module")
def drawings(table, board_records):
    return {
        "tradeoff": lambda stem, **more: tradeoff.draw(table, stem, **more),
        "curves": lambda stem, **more: curves.draw(board_records, stem, **more),
        "overfitting": lambda stem, **more: overfitting.draw(table, stem, **more),
        "cost": lambda stem, **more: cost.draw(table, stem, **more),
        "stability": lambda stem, **more: stability.draw(table, stem, **more),
    }


KINDS = ("tradeoff", "curves", "overfitting", "cost", "stability")


@pytest.mark.parametrize("kind", KINDS)
def test_three_formats_and_the_golden_picture(kind, drawings, same_picture, tmp_path):
    paths = drawings[kind](tmp_path / "deep" / kind)
    assert [path.name for path in paths] == [f"{kind}.pdf", f"{kind}.png", f"{kind}.svg"]
    pdf = paths[0].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"<svg" in paths[2].read_bytes()
    same_picture(paths[1], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_widths_are_those_of_a_papers_columns(kind, drawings, tmp_path):
    for width, inches in (("single", 3.25), ("double", 6.875)):
        (path,) = drawings[kind](tmp_path / width, formats=("png",), width=width)
        with Image.open(path) as picture:
            assert picture.width == pytest.approx(300 * inches, abs=2)
            assert picture.height <= 300 * 8.8 + 2
    with pytest.raises(ReportError, match="no width 'triple'"):
        drawings[kind](tmp_path / "x", width="triple")


def test_the_same_board_gives_the_same_bytes_and_slides_are_larger(drawings, tmp_path):
    first = drawings["overfitting"](tmp_path / "a")
    again = drawings["overfitting"](tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    (slides,) = drawings["overfitting"](tmp_path / "slides", formats=("png",), look="slides")
    with Image.open(first[1]) as small, Image.open(slides) as large:
        assert large.width > 1.5 * small.width


def test_bad_format_and_look_are_refused(table, tmp_path):
    with pytest.raises(ReportError, match="not gif"):
        tradeoff.draw(table, tmp_path / "x", formats=("gif",))
    with pytest.raises(ReportError, match="no look"):
        tradeoff.draw(table, tmp_path / "x", look="poster")


def test_points_are_the_cells_of_the_board(table):
    found = points(table, "clean", "autoattack")
    best = [row for row in table.rows if row.checkpoint == "best"]
    assert [(one.x.value, one.y.value) for one in found] == [
        (row.cells["clean"].mean, row.cells["autoattack"].mean) for row in best
    ]
    assert found[0].y.below == found[0].y.above == best[0].cells["autoattack"].sd


def test_one_seed_is_drawn_with_its_wilson_interval(make_record):
    table = board.build([make_record("trades")])
    one = measured(table.rows[0], "autoattack")
    low, high = table.rows[0].cells["autoattack"].interval
    assert (one.value - one.below, one.value + one.above) == pytest.approx((low, high))


def test_pareto_front_is_what_nobody_dominates(table):
    found = points(table, "clean", "autoattack")
    sound = [one for one in found if one.sound]
    undominated = {
        one.label
        for one in sound
        if not any(other.x.value > one.x.value and other.y.value > one.y.value for other in sound)
    }
    assert {one.label for one in pareto(found)} == undominated
    assert "GAIRAT †" not in undominated
    assert any(one.label == "GAIRAT †" for one in found)
    cheap = pareto(found, less_is_better_x=True)
    assert [one.y.value for one in cheap] == sorted(one.y.value for one in cheap)


def test_a_masked_method_is_hollow(table):
    made = Figure()
    axes = made.add_subplot()
    for one in points(table, "clean", "autoattack"):
        tradeoff.draw_point(axes, one)
        face = axes.lines[-1].get_markerfacecolor()
        assert (face == "white") == (one.label == "GAIRAT †")


def test_families_differ_without_colour():
    assert len({look.marker for look in FAMILIES.values()}) == len(FAMILIES)
    assert len({look.colour for look in FAMILIES.values()}) == len(FAMILIES)


@pytest.mark.parametrize("count", [1, 8, 24])
def test_labels_cover_neither_each_other_nor_points(count):
    rng = random.Random(count)
    with figure(5.5, 4.3) as made:
        axes = made.add_subplot()
        axes.set_xlim(70, 90)
        axes.set_ylim(40, 60)
        labels = [Label(f"Method-{number}", rng.uniform(76, 86), rng.uniform(45, 56)) for number in range(count)]
        axes.plot([label.x for label in labels], [label.y for label in labels], "o")
        texts = place(axes, labels)
        made.canvas.draw()
        assert isinstance(made.canvas, FigureCanvasAgg)
        renderer = made.canvas.get_renderer()
        boxes = [Text.get_window_extent(text, renderer) for text in texts]
        frame = axes.get_window_extent(renderer)
        for first, box in enumerate(boxes):
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1
            for other in boxes[first + 1 :]:
                assert (
                    min(box.x1, other.x1) - max(box.x0, other.x0) < 1
                    or min(box.y1, other.y1) - max(box.y0, other.y0) < 1
                )
            for label in labels:
                x, y = axes.transData.transform((label.x, label.y))
                assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1)


def test_labels_of_points_that_coincide_are_one_and_lines_cross_no_label():
    with figure(3.25, 3) as made:
        axes = made.add_subplot()
        axes.set_xlim(0, 10)
        axes.set_ylim(0, 10)
        crowd = [Label(f"Method-{number}", 5 + number / 40, 5 + (number % 3) / 20) for number in range(10)]
        texts = place(axes, [*crowd, Label("A", 2, 2), Label("B", 2, 2.001)])
        assert [text.get_text() for text in texts][-1] == "A, B"
        made.canvas.draw()
        renderer = made.canvas.get_renderer()
        boxes = [Text.get_window_extent(text, renderer) for text in texts]
        lines = [child.arrow_patch for child in axes.texts if child.arrow_patch is not None]
        assert lines
        for line in lines:
            (x0, y0), (x1, y1) = line.get_window_extent().get_points()
            for box in boxes:
                inside = max(0, min(x1, box.x1) - max(x0, box.x0)) * max(0, min(y1, box.y1) - max(y0, box.y0))
                assert inside < 0.5 * box.width * box.height


def test_methods_far_below_a_crowd_are_named_beside_it(make_record):
    records = [make_record(f"m{number}", label=f"M{number}", shift=number / 500) for number in range(14)]
    far = make_record("far", label="Far", shift=-0.3)
    found = points(board.build([*records, far, make_record("standard")]), "clean", "autoattack")
    shown, aside = split(found, ("x", "y"))
    assert {one.label for one in aside} == {"Far", "Standard"}
    assert len(shown) == 14
    few, _ = split([one for one in found if one.label in {"M1", "M2", "Far"}])
    assert len(few) == 3


def test_a_collapsed_seed_and_a_collapsed_method_are_drawn_as_what_is_left(make_record, tmp_path):
    records = [make_record("pgd_at", seed=0), make_record("pgd_at", seed=1, diverged=True)]
    table = board.build(
        [*records, make_record("trades", diverged=True), make_record("mart"), make_record("mart", seed=1)]
    )
    drawn = points(table, "clean", "autoattack")
    assert {one.row.identity.name for one in drawn} == {"pgd_at", "mart"}
    assert tradeoff.draw(table, tmp_path / "t", formats=("png",))
    assert overfitting.draw(table, tmp_path / "o", formats=("png",))
    with pytest.raises(ReportError, match="two methods with two seeds"):
        stability.draw(table, tmp_path / "s")


def test_curves_show_the_loss_where_no_training_accuracy_was_logged(make_record, tmp_path):
    record = make_record()
    silent = tuple(epoch.model_copy(update={"logged": {}}) for epoch in record.training.curve)
    bare = record.model_copy(update={"training": record.training.model_copy(update={"curve": silent})})
    for one, there, absent in (
        (record, "clean, training", "training loss"),
        (bare, "training loss", "clean, training"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(style._BASE, "svg.fonttype", "none")
            (path,) = curves.draw([one], tmp_path / "c", formats=("svg",))
        assert there in path.read_text("utf-8")
        assert absent not in path.read_text("utf-8")


def test_curves_refuse_a_mixture_and_nothing(make_record, tmp_path):
    with pytest.raises(ReportError, match="two protocols"):
        curves.draw([make_record(), make_record(protocol="digits-linf/1")], tmp_path / "x")
    record = make_record()
    bare = record.model_copy(update={"training": record.training.model_copy(update={"curve": ()})})
    with pytest.raises(ReportError, match="no record has a learning curve"):
        curves.draw([bare], tmp_path / "x")


def test_curves_of_one_run_and_of_many_methods(make_record, tmp_path):
    assert curves.draw([make_record()], tmp_path / "one", formats=("png",))
    assert curves.draw([make_record(f"m{number}") for number in range(6)], tmp_path / "six", formats=("png",))


def test_overfitting_needs_both_checkpoints(make_record, table, tmp_path):
    with pytest.raises(ReportError, match="both checkpoints"):
        overfitting.draw(board.build([make_record(checkpoints=("best",))]), tmp_path / "x")
    with pytest.raises(ReportError, match="defined for autoattack and pgd20"):
        overfitting.draw(table, tmp_path / "x", robust="cw")


def test_cost_refuses_what_has_no_common_unit(make_record, table, tmp_path):
    mixed = board.build([make_record("pgd_at"), make_record("trades", device="NVIDIA H200")])
    with pytest.raises(ReportError, match="do not share an axis"):
        cost.draw(mixed, tmp_path / "x", against="hours")
    assert cost.draw(mixed, tmp_path / "passes", formats=("svg",))
    assert cost.draw(table, tmp_path / "hours", against="hours", formats=("svg",))
    with pytest.raises(ReportError, match="no cost 'money'"):
        cost.draw(table, tmp_path / "x", against="money")


def test_stability_needs_two_methods_and_two_seeds(make_record, tmp_path):
    for records in (
        [make_record("pgd_at"), make_record("trades")],
        [make_record("pgd_at", seed=seed) for seed in (0, 1)],
    ):
        with pytest.raises(ReportError, match="two methods with two seeds"):
            stability.draw(board.build(records), tmp_path / "x")


def test_tradeoff_without_any_attack_is_refused_in_one_line(make_record, tmp_path):
    with pytest.raises(ReportError, match="evaluate first") as caught:
        tradeoff.draw(board.build([make_record(without=("autoattack",))]), tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_the_smallest_boards_can_be_drawn(make_record, tmp_path):
    for records in (
        [make_record("standard")],
        [make_record("pgd_at")],
        [make_record("standard"), make_record("pgd_at")],
    ):
        assert tradeoff.draw(board.build(records), tmp_path / "small", formats=("png",))
        assert cost.draw(board.build(records), tmp_path / "cost", formats=("png",))


def test_thirty_methods_fit(make_record, tmp_path):
    records = [
        make_record(f"m{number}", label=f"Method-{number}", shift=-math.sin(number) / 20) for number in range(30)
    ]
    assert tradeoff.draw(board.build(records), tmp_path / "many", formats=("png",))


def test_figures_need_neither_torch_nor_a_display():
    code = (
        "import sys\n"
        "from advbench.reports import agreement, attacks, comparison, cost, curves, diagnosis, overfitting, perclass\n"
        "from advbench.reports import results, stability, sweep, tradeoff, transfer\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
