"""`check` trains anew what another version of an adapter left in the store."""

from advbench.benchmark.review.adapter.retrain import forget_changed
from advbench.benchmark.runs.plan import plan, runs


def test_a_run_of_another_version_of_its_adapter_is_forgotten_and_no_other(store, made):
    suite = made.suite("standard", "pgd_at", "trades")
    made.finish(store, suite)
    assert not plan(suite, store, made.CATALOGUE)
    folders = [store.folder(run.spec) for run in runs(suite, made.CATALOGUE)]
    sources = {"standard": None, "trades": "7" * 64}  # none is in the made-up runs
    assert forget_changed(folders, sources) == ["digits-linf/1 trades seed 0"]
    due = plan(suite, store, made.CATALOGUE)
    assert {job.run.method for job in due} == {"trades"}
    assert forget_changed(folders, sources) == [], "it is untrained by now"


def test_a_run_that_is_worked_on_is_left_alone(store, made):
    suite = made.suite("trades")
    made.finish(store, suite)
    folder = made.folder_of(store, suite, "trades")
    with folder.claim("train") as free:
        assert free
        assert forget_changed([folder], {"trades": "7" * 64}) == []
    assert folder.trained() is not None
