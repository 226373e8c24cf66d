"""Honest networks: none may be accused, whatever the method and the seed."""

import pytest

from advbench.benchmark.records.flags import TrainingFacts


def states(evaluation):
    return {flag.name: flag.state for flag in evaluation.flags}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["standard", "pgd_at", "trades"])
def test_without_autoattack(kind, seed, trained, examine, raised):
    evaluation = examine(trained(kind, seed))
    assert raised(evaluation) == set()
    assert raised(evaluation, "validity") == {"test-set-incomplete"}


@pytest.mark.parametrize(("kind", "seed"), [("standard", 0), ("trades", 2)])
def test_full(kind, seed, trained, examine, raised):
    evaluation = examine(trained(kind, seed), autoattack=True)
    assert raised(evaluation) == set()
    assert raised(evaluation, "validity") == set()
    found = states(evaluation)
    assert {name for name, state in found.items() if state == "not run"} == {"transfer-beats-white-box", "convergence"}
    if kind != "standard":
        assert evaluation.accuracy("autoattack") > 0.4


def test_last_after_robust_overfitting(trained, examine, raised):
    """256 images, 40 epochs: nearly all of them are learnt robustly, and far fewer test images."""
    net = trained("pgd_at", 3, epochs=40, images=256)
    evaluation = examine(
        net, autoattack=True, training=TrainingFacts(robust=True, checkpoint="last", selection="validation-pgd")
    )
    assert raised(evaluation) == set()
    assert raised(evaluation, "validity") == set()
    assert evaluation.accuracy("autoattack") < evaluation.accuracy("clean") - 0.2


def test_peers_of_an_honest_network(trained, examine, raised):
    evaluation = examine(trained("pgd_at"), peers={"standard": trained("standard"), "pgd_at 1": trained("pgd_at", 1)})
    assert raised(evaluation) == set()
    assert states(evaluation)["transfer-beats-white-box"] == "clear"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["standard", "pgd_at", "trades"])
def test_full_on_more_seeds(kind, seed, trained, examine, raised):
    assert raised(examine(trained(kind, seed), autoattack=True)) == set()
