"""Figures: what they show, how they are written, what they refuse; each against a golden picture."""

import math
import random
import subprocess
import sys
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from advbench.benchmark.records.schema import Flag
from advbench.leaderboards import board
from advbench.reports import cost, curves, overfitting, ranks, stability, tradeoff
from advbench.reports.drawing.colours import FAMILY_COLOURS
from advbench.reports.drawing.labels import Label, place
from advbench.reports.drawing.points import doubtful, draw_point, measured, pareto, points, split
from advbench.reports.drawing.style import FigureLayout, ReportError, figure, save

MASKED = Flag(name="zero-gradients", kind="masking", state="raised")


@pytest.fixture(scope="module")
def table(board_records, make_record):
    masked = [make_record("gairat", seed=seed, label="GAIRAT", flags=(MASKED,)) for seed in (0, 1, 2)]
    return board.build([*board_records, *masked])


def grouped(records):
    """Records by the name of their row."""
    found = {}
    for record in records:
        found.setdefault(record.method.row, []).append(record)
    return found


@pytest.fixture(scope="module")
def drawings(table, board_records):
    return {
        "tradeoff": partial(tradeoff.draw, table),
        "curves": partial(curves.draw, grouped(board_records)),
        "overfitting": partial(overfitting.draw, table),
        "cost": partial(cost.draw, table),
        "ranks": partial(ranks.draw, table),
        "stability": partial(stability.draw, table),
    }


KINDS = ("tradeoff", "curves", "overfitting", "cost", "ranks", "stability")


@pytest.mark.parametrize("kind", KINDS)
def test_three_formats_and_the_golden_picture(kind, drawings, same_picture, tmp_path):
    paths = save(drawings[kind](), tmp_path / "deep" / kind)
    assert [path.name for path in paths] == [f"{kind}.pdf", f"{kind}.png", f"{kind}.svg"]
    pdf = paths[0].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert "<text" in paths[2].read_text("utf-8")
    same_picture(paths[1], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_widths_are_those_of_a_papers_columns(kind, drawings, tmp_path):
    for width, inches in (("single", 3.25), ("double", 6.875)):
        (path,) = save(drawings[kind](layout=FigureLayout(width=width)), tmp_path / width, ("png",))
        with Image.open(path) as picture:
            assert picture.width == pytest.approx(300 * inches, abs=2)
            assert picture.height <= 300 * 8.8 + 2


def test_the_same_board_gives_the_same_bytes_and_slides_are_larger(drawings, tmp_path):
    first = save(drawings["overfitting"](), tmp_path / "a")
    again = save(drawings["overfitting"](), tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in first]
    (slides,) = save(drawings["overfitting"](layout=FigureLayout("slides")), tmp_path / "slides", ("png",))
    with Image.open(first[1]) as small, Image.open(slides) as large:
        assert large.width > 1.5 * small.width


def test_bad_format_style_and_width_are_refused(table, tmp_path):
    with pytest.raises(ReportError, match="not gif"):
        save(tradeoff.draw(table), tmp_path / "x", ("gif",))
    with pytest.raises(ReportError, match="no style 'poster'"):
        FigureLayout("poster")
    with pytest.raises(ReportError, match="no width 'triple'"):
        FigureLayout(width="triple")


def test_a_figure_keeps_its_style_wherever_it_is_drawn(drawings):
    made = drawings["tradeoff"]()
    assert isinstance(made, Figure)
    first = made._repr_png_()
    with mpl.rc_context({"hatch.linewidth": 9, "axes.grid": False, "font.size": 30}):
        assert made._repr_png_() == first


def test_dollar_signs_in_labels_are_dollar_signs(make_record, tmp_path):
    records = [make_record(name, seed=seed, label=f"{name} $x_{{$") for name in ("pgd_at", "trades") for seed in (0, 1)]
    table = board.build(records)
    figures = (
        tradeoff.draw(table),
        cost.draw(table),
        overfitting.draw(table),
        stability.draw(table),
        curves.draw(grouped(records)),
    )
    for number, made in enumerate(figures):
        (path,) = save(made, tmp_path / str(number), ("svg",))
        assert "trades $x_{$" in path.read_text("utf-8")


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
    sound = [one for one in found if not doubtful(one.row)]
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
        draw_point(axes, one)
        face = axes.lines[-1].get_markerfacecolor()
        assert (face == "white") == (one.label == "GAIRAT †")


def test_families_differ_without_colour():
    assert len({look.marker for look in FAMILY_COLOURS.values()}) == len(FAMILY_COLOURS)
    assert len({look.colour for look in FAMILY_COLOURS.values()}) == len(FAMILY_COLOURS)


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
    assert save(tradeoff.draw(table), tmp_path / "t", ("png",))
    assert save(overfitting.draw(table), tmp_path / "o", ("png",))
    with pytest.raises(ReportError, match="two methods with two seeds"):
        stability.draw(table)
    with pytest.raises(ReportError, match="has no ranks yet"):
        ranks.draw(table)


def test_curves_show_the_loss_where_no_training_accuracy_was_logged(make_record, tmp_path):
    record = make_record()
    silent = tuple(epoch.model_copy(update={"logged": {}}) for epoch in record.training.curve)
    bare = record.model_copy(update={"training": record.training.model_copy(update={"curve": silent})})
    for one, there, absent in (
        (record, "clean, training", "training loss"),
        (bare, "training loss", "clean, training"),
    ):
        (path,) = save(curves.draw({"A": [one]}), tmp_path / "c", ("svg",))
        assert there in path.read_text("utf-8")
        assert absent not in path.read_text("utf-8")


def test_curves_name_the_attack_that_the_protocol_selects_by(make_record):
    record = make_record()
    protocol = replace(record.protocol, selection=replace(record.protocol.selection, steps=5))
    for steps, shown in ((10, record), (5, record.model_copy(update={"protocol": protocol}))):
        (legend,) = curves.draw({"A": [shown]}).legends
        assert f"PGD-{steps}, validation" in {text.get_text() for text in legend.get_texts()}


def test_curves_refuse_a_mixture_and_nothing(make_record):
    with pytest.raises(ReportError, match="two protocols"):
        curves.draw({"A": [make_record(), make_record(protocol="digits-linf/1")]})
    record = make_record()
    bare = record.model_copy(update={"training": record.training.model_copy(update={"curve": ()})})
    with pytest.raises(ReportError, match="no record has a learning curve"):
        curves.draw({"A": [bare]})


def test_curves_of_one_run_and_of_many_methods(make_record, tmp_path):
    assert save(curves.draw({"A": [make_record()]}), tmp_path / "one", ("png",))
    flagged = curves.draw({"A †": [make_record()], "B": [make_record()]})
    assert flagged.axes[0].get_title() == "A †"
    assert flagged.get_supxlabel() == "Epoch\n†: AutoAttack in doubt"
    six = curves.draw({f"m{number}": [make_record(f"m{number}")] for number in range(6)})
    assert save(six, tmp_path / "six", ("png",))


def test_overfitting_needs_both_checkpoints(make_record, table):
    with pytest.raises(ReportError, match="both checkpoints"):
        overfitting.draw(board.build([make_record(checkpoints=("best",))]))
    with pytest.raises(ReportError, match="defined for autoattack and pgd20"):
        overfitting.draw(table, robust="cw")


def test_cost_refuses_what_has_no_common_unit(make_record, table, tmp_path):
    mixed = board.build([make_record("pgd_at"), make_record("trades", device="NVIDIA H200")])
    with pytest.raises(ReportError, match="do not share an axis"):
        cost.draw(mixed, against="hours")
    assert save(cost.draw(mixed), tmp_path / "passes", ("svg",))
    assert save(cost.draw(table, against="hours"), tmp_path / "hours", ("svg",))
    with pytest.raises(ReportError, match="no cost 'money'"):
        cost.draw(table, against="money")


def test_stability_needs_two_methods_and_two_seeds(make_record):
    for records in (
        [make_record("pgd_at"), make_record("trades")],
        [make_record("pgd_at", seed=seed) for seed in (0, 1)],
    ):
        with pytest.raises(ReportError, match="two methods with two seeds"):
            stability.draw(board.build(records))


def test_stability_leaves_out_rows_of_other_seeds_and_marks_flagged_ones(make_record, table):
    single = board.build([make_record("pgd_at"), *(make_record("trades", seed=seed) for seed in (0, 1))])
    with pytest.raises(ReportError, match="two methods with two seeds"):
        stability.draw(single)
    records = [make_record(name, seed=seed) for name in ("pgd_at", "trades") for seed in (0, 1)]
    others = [make_record("mart"), *(make_record("hat", seed=seed) for seed in (7, 8))]
    axes, right = stability.draw(board.build([*records, *others])).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["seed 0", "seed 1"]
    assert "not drawn: 2 without these seeds" in axes.get_title(loc="left").replace("\n", " ")
    assert len(right.get_yticklabels()) == 2
    axes, right = stability.draw(table).axes
    assert [text.get_text() for text in right.get_yticklabels()][-2] == "GAIRAT † [–]"
    assert sum(line.get_markerfacecolor() == "white" for line in axes.lines) == 1
    assert "†: AutoAttack in doubt" in axes.get_title(loc="left")


def test_tradeoff_without_any_attack_is_refused_in_one_line(make_record):
    with pytest.raises(ReportError, match="evaluate first") as caught:
        tradeoff.draw(board.build([make_record(without=("autoattack",))]))
    assert "\n" not in str(caught.value)


def test_the_smallest_boards_can_be_drawn(make_record, tmp_path):
    for records in (
        [make_record("standard")],
        [make_record("pgd_at")],
        [make_record("standard"), make_record("pgd_at")],
    ):
        assert save(tradeoff.draw(board.build(records)), tmp_path / "small", ("png",))
        assert save(cost.draw(board.build(records)), tmp_path / "cost", ("png",))


def test_thirty_methods_fit(make_record, tmp_path):
    records = [
        make_record(f"m{number}", label=f"Method-{number}", shift=-math.sin(number) / 20) for number in range(30)
    ]
    assert save(tradeoff.draw(board.build(records)), tmp_path / "many", ("png",))


def test_figures_need_neither_torch_nor_a_display():
    code = (
        "import sys\n"
        "from advbench.reports import agreement, attacks, comparison, cost, curves, diagnosis, overfitting, perclass\n"
        "from advbench.reports import results, stability, sweep, tradeoff, transfer\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
