import numpy as np
import pytest

from advbench.benchmark.protocol import resolve
from advbench.reports import agreement, comparison, perclass, transfer
from advbench.reports.drawing.style import ReportError, save

PROTOCOL = resolve("digits-linf/1")
N = 200


def outcomes(seeds, share, seed=0):
    return np.random.default_rng(seed).random((seeds, N)) < share


BOARD = {f"row{n}": outcomes(3, 0.5, seed=20 + n) for n in range(4)}
"""Rows of the board on which A and B stand."""


@pytest.fixture
def labels():
    return np.arange(N) % 4


def compared(a, b, *, column="autoattack", others=None, **kwargs):
    return comparison.contrast(
        ("A", a), ("B", b), column=column, others=BOARD if others is None else others, protocol=PROTOCOL, **kwargs
    )


def test_a_clear_winner_is_named_with_its_figures(labels):
    better, worse = outcomes(3, 0.8), outcomes(3, 0.3, seed=1)
    found = compared(better, worse, labels=labels, classes="wxyz")
    said = comparison.words(found)
    assert said[0] == "A is better than B."
    assert f"A {better.mean():.1%}, B {worse.mean():.1%} under AutoAttack, n = 200" in said[1]
    assert "t test over seeds and images" in said[1]
    assert comparison.words(compared(worse, better))[0] == "B is better than A."
    low, high = found.overall.interval
    assert 0 < low < found.overall.difference < high < 1
    assert [one.images for one in found.classes] == [50] * 4
    assert found.only("a") == [i for i in range(N) if better[:, i].all() and not worse[:, i].any()]


def test_methods_of_the_same_accuracy_are_not_told_apart():
    said = comparison.words(compared(outcomes(3, 0.5), outcomes(3, 0.5, seed=1)))
    assert said[0].startswith("Not told apart")


def test_without_the_noise_of_a_board_there_is_no_verdict_on_methods(labels):
    """Two rows of three seeds hold four degrees of freedom; a row of fewer seeds than asked is provisional."""
    for a, b, others in ((3, 3, {}), (2, 3, None), (1, 3, None)):
        found = compared(outcomes(a, 0.9), outcomes(b, 0.2, seed=1), others=others, labels=labels, classes="wxyz")
        assert comparison.words(found)[0].startswith("No verdict")
        assert (found.winner, found.overall.p, found.classes[0].p) == (None, None, None)


def test_a_pair_is_held_against_the_noise_of_its_board():
    """A method with one bad and one good seed is beaten by the noise of the others, as on the board."""
    a, b = outcomes(3, 0.75), outcomes(3, 0.55, seed=1)
    quiet = compared(a, b)
    noisy = {f"noisy{n}": np.concatenate([outcomes(1, share, seed=n) for share in (0.3, 0.6, 0.9)]) for n in range(4)}
    assert quiet.winner == "A"
    assert compared(a, b, others=noisy).winner is None


def test_one_class_that_differs_is_found_and_the_others_are_not(labels):
    first = outcomes(1, 0.5)
    second = first.copy()
    second[0, labels == 2] = ~first[0, labels == 2] & False
    first[0, labels == 2] = True
    found = compared(first, second, labels=labels, classes="wxyz")
    assert [one.name for one in found.classes if one.p < 0.05] == ["y"]
    assert any("y +100 points" in line for line in comparison.words(found))
    assert any("these two networks" in line for line in comparison.words(found))


def test_what_cannot_be_compared_is_refused(labels):
    rows = outcomes(1, 0.5)
    with pytest.raises(ReportError, match="against itself"):
        comparison.contrast(("A", rows), ("A", rows), column="cw", others={}, protocol=PROTOCOL)
    with pytest.raises(ReportError, match="labels of other test images"):
        compared(rows, rows, labels=labels[:-1], classes="wxyz")
    with pytest.raises(ReportError, match="labels of other test images"):
        perclass.by_class({"A": rows}, labels[:-1], "wxyz")
    with pytest.raises(ReportError, match="same test images"):
        agreement.agree({"A": rows, "B": rows[:, 1:]})
    with pytest.raises(ReportError, match="no transfer matrix"):
        transfer.draw({})


def test_class_shares_are_means_over_seeds_and_images(labels):
    rows = outcomes(3, 0.6)
    table = perclass.by_class({"A": rows}, labels, "wxyz!")
    for number in range(4):
        assert table.shares[0, number] == pytest.approx(rows[:, labels == number].mean())
    assert np.isnan(table.shares[0, 4])
    assert table.counts == (50, 50, 50, 50, 0)
    means = table.shares[0, :4]
    assert table.hardest() == sorted(range(4), key=lambda n: means[n])


def test_kappa_is_cohens():
    from sklearn.metrics import cohen_kappa_score

    a, b = outcomes(1, 0.4)[0], outcomes(1, 0.7, seed=3)[0]
    assert agreement.kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    assert agreement.kappa(a, a) == pytest.approx(1)


def test_agreement_never_compares_a_network_with_itself():
    pair, single = outcomes(2, 0.5), outcomes(1, 0.5, seed=5)
    found = agreement.agree({"pair": pair, "single": single})
    assert found.kappa[0, 0] == pytest.approx(agreement.kappa(*pair))
    assert np.isnan(found.kappa[1, 1])
    expected = np.mean([agreement.kappa(one, single[0]) for one in pair])
    assert found.kappa[0, 1] == found.kappa[1, 0] == pytest.approx(expected)
    assert found.networks == 3
    image, count = found.hardest(1)[0]
    assert count == (~np.concatenate([pair, single]))[:, image].sum() == found.fooled.max()
    assert found.always == (found.fooled == 3).sum()


def test_a_column_that_others_fool_more_is_named():
    found = {"names": ["a", "b"], "accuracy": [[0.5, 0.2], [0.6, 0.3]], "images": 100}
    assert transfer.misled(found) == ["b: examples of a fool 10 images more than its own"]


@pytest.mark.parametrize("count", [3, 40])
def test_figures_are_written_and_the_same_twice(tmp_path, count):
    names = [f"class {number}" for number in range(count)]
    labels = np.arange(N) % count
    rows = {"A": outcomes(3, 0.7), "B": outcomes(3, 0.4, seed=1)}
    found = compared(*rows.values(), column="cw", labels=labels, classes=names)
    drawn = []
    for turn in ("one", "two"):
        figures = (
            comparison.draw(found),
            perclass.draw(perclass.by_class(rows, labels, names), title="CW"),
            agreement.draw(agreement.agree(rows), title="CW"),
        )
        paths = [save(made, tmp_path / f"{turn}{number}", ("png",))[0] for number, made in enumerate(figures)]
        drawn.append([path.read_bytes() for path in paths])
    assert drawn[0] == drawn[1]
