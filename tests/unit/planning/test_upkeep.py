"""Status, pruning, records and publishing."""

import subprocess

import pytest
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.records.publish import PublishError, destination, publish, variant
from advbench.benchmark.records.schema import (
    FAMILIES,
    Record,
)
from advbench.benchmark.runs import prune
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.plan import plan, survey
from advbench.benchmark.runs.status import status, stored_status


class TestStatus:
    def test_states(self, store, made):
        wanted = made.suite("standard", "pgd_at", "trades", "distilled")
        made.finish(store, made.suite("standard"))
        folder = made.folder_of(store, wanted, "pgd_at")
        folder.create()
        folder.fail(Job("train", folder.spec), "the loss was on fire")
        busy = made.folder_of(store, wanted, "trades")
        made.attack(busy, made.train(busy), "cw")
        with busy.claim("best-pgd-0"):
            found = status(store, wanted, made.CATALOGUE)
        by_name = {run.label.split()[1]: run for run in found}
        assert {name: run.state for name, run in by_name.items()} == {
            "standard": "done",
            "pgd_at": "failed",
            "trades": "running",
            "distilled": "blocked",
        }
        assert by_name["pgd_at"].reasons[0] == "the loss was on fire"
        assert by_name["pgd_at"].logs == (str(folder.log(Job("train", folder.spec))),)
        assert (by_name["trades"].done, by_name["trades"].total) == (2, 2 * len(FAMILIES))
        assert len(found) == 4

    def test_done_is_complete(self, store, made):
        made.finish(store, made.suite("standard"))
        (run,) = status(store, made.suite("standard"), made.CATALOGUE)
        assert (run.state, run.done) == ("done", run.total)

    def test_what_was_interrupted_is_partly_done(self, store, made):
        wanted = made.suite("standard")
        assert [run.state for run in status(store, wanted, made.CATALOGUE)] == ["missing"]
        folder = made.folder_of(store, wanted, "standard")
        trained = made.train(folder)
        assert [run.state for run in status(store, wanted, made.CATALOGUE)] == ["partly done"]
        made.attack(folder, trained, "cw")
        (run,) = status(store, wanted, made.CATALOGUE)
        assert (run.state, stored_status(folder).state) == ("partly done", "partly done")

    def test_a_failed_attack_is_retried_and_forgotten_once_done(self, store, made):
        wanted = made.suite("standard")
        folder = made.folder_of(store, wanted, "standard")
        trained = made.train(folder)
        job = Job("evaluate", folder.spec, "best", "cw", (0,))
        folder.fail(job, "out of memory")
        failed = [one for one in survey(wanted, store, made.CATALOGUE) if one.state == "failed"]
        assert [(one.job.id, one.reason, one.log) for one in failed] == [
            (job.id, "out of memory", str(folder.log(job)))
        ]
        assert job.id in {one.id for one in plan(wanted, store, made.CATALOGUE)}
        made.attack(folder, trained, "cw")
        assert "failed" not in {one.state for one in survey(wanted, store, made.CATALOGUE)}


class TestPrune:
    def test_nothing_goes_that_is_kept(self, store, made):
        made.finish(store, made.suite("standard", "distilled"))
        assert prune.find(store) == ()

    def test_resume_files_of_trained_runs_go_and_of_others_stay(self, store, made):
        wanted = made.suite("standard", "trades")
        made.finish(store, made.suite("standard"))
        done, going = (made.folder_of(store, wanted, name) for name in ("standard", "trades"))
        going.create()
        for folder in (done, going):
            folder.resume.write_bytes(b"x" * 1_000)
        (item,) = prune.find(store)
        assert (item.files, item.bytes, item.reason) == ((done.resume,), 1_000, "training is done")
        assert done.resume.exists()
        assert prune.remove([item]) == 1_000
        assert not done.resume.exists()
        assert going.resume.exists()
        assert plan(made.suite("standard"), store, made.CATALOGUE) == ()

    def test_runs_that_nothing_uses_go_whole_but_teachers_stay(self, store, made):
        made.finish(store, made.suite("distilled", "trades"))
        student = made.folder_of(store, made.suite("distilled"), "distilled")
        (item,) = prune.find(store, keep={student.id})
        assert (item.label, item.whole) == ("digits-linf/1 trades seed 0", True)
        assert prune.remove([item]) == item.bytes > 400
        assert not item.run.path.exists()
        assert plan(made.suite("distilled"), store, made.CATALOGUE) == ()

    def test_what_is_not_ours_stays(self, store, tmp_path, made):
        made.finish(store, made.suite("trades"))
        folder = made.folder_of(store, made.suite("trades"), "trades")
        (folder.path / "thesis.tex").write_text("mine")
        (folder.path / "evaluation" / "notes.jsonl").symlink_to(tmp_path / "elsewhere")
        no_run = store.root / "digits-linf-1" / ("copy-s0-" + "0" * 16)
        no_run.mkdir()
        (no_run / "resume.pt").write_text("mine")
        prune.remove(prune.find(store, keep=set()))
        left = {path.relative_to(store.root / "digits-linf-1").as_posix() for path in store.root.rglob("*")
                if path.is_file() or path.is_symlink()}  # fmt: skip
        name = folder.path.name
        assert left == {f"{name}/thesis.tex", f"{name}/evaluation/notes.jsonl", f"{no_run.name}/resume.pt"}

    def test_a_run_at_work_is_left_alone(self, store, made):
        made.finish(store, made.suite("trades"))
        folder = made.folder_of(store, made.suite("trades"), "trades")
        items = prune.find(store, keep=set())
        with folder.claim("best-cw-0"):
            assert prune.find(store, keep=set()) == ()
            assert prune.remove(items) == 0
        assert folder.trained() is not None

    def test_left_overs_of_killed_writers_go(self, store, made):
        made.finish(store, made.suite("trades"))
        folder = made.folder_of(store, made.suite("trades"), "trades")
        for name in (".record.json.77-deadbeef.tmp", ".best.safetensors.77-deadbeef.tmp", ".resume.pt.77-deadbeef.tmp"):
            (folder.path / name).write_bytes(b"half")
        (folder.path / ".gitignore").write_text("*")
        (item,) = prune.find(store)
        assert (len(item.files), item.reason) == (3, "left by a killed process")
        prune.remove([item])
        assert (folder.path / ".gitignore").exists()


class TestRecords:
    def test_a_record_is_kept_with_its_checksum_and_its_date(self, store, made):
        folder = made.folder_of(store, made.suite("trades"), "trades")
        first = made.record(folder)
        folder.write_record(lambda _: first)
        folder.write_record(lambda _: first.model_copy(update={"created": "2027-01-01T00:00:00+00:00"}))
        assert folder.record() == first == Record.load(folder.record_path)
        done = subprocess.run(["sha256sum", "-c", "record.json.sha256"], cwd=folder.path, check=False)
        assert done.returncode == 0
        assert [found for _, found in store.records()] == [first]

    def test_an_edited_or_missing_record_is_built_again(self, store, made):
        folder = made.folder_of(store, made.suite("trades"), "trades")
        made.train(folder)
        ((_, first),) = store.records()
        assert (first.seed, first.run) == (0, folder.id)
        folder.record_path.write_text(folder.record_path.read_text().replace('"seed": 0', '"seed": 1'))
        assert folder.record() is None
        ((_, again),) = store.records()
        assert again.seed == 0
        assert folder.record() == again

    def test_a_run_that_is_not_trained_has_no_record(self, store, made):
        folder = made.folder_of(store, made.suite("trades"), "trades")
        folder.write_record(lambda _: made.record(folder))
        (folder.path / "training.json").unlink()
        folder.record_path.unlink()
        assert list(store.records()) == []


class TestPublish:
    def test_records_go_by_protocol_method_and_seed_once(self, store, tmp_path, made):
        one = made.record(made.folder_of(store, made.suite("trades", seeds=(2,)), "trades"))
        target = tmp_path / "records"
        (path,) = publish([one], target)
        assert path == target / "digits-linf-1" / "trades" / "seed2.json"
        assert Record.load(path) == one
        later = one.model_copy(update={"created": "2027-01-01T00:00:00+00:00"})
        assert publish([later], target) == ()

    def test_another_record_is_not_overwritten_unless_wanted(self, store, tmp_path, made):
        one = made.record(made.folder_of(store, made.suite("trades"), "trades"))
        other = one.model_copy(update={"network": "resnet50"})
        publish([one], tmp_path / "records")
        with pytest.raises(PublishError, match="another record"):
            publish([other], tmp_path / "records")
        (path,) = publish([other], tmp_path / "records", replace=True, reason="measured on the wrong network")
        assert Record.load(path) == other

    def test_two_records_for_one_place_are_refused_before_anything_is_written(self, store, tmp_path, made):
        one = made.record(made.folder_of(store, made.suite("trades"), "trades"))
        with pytest.raises(PublishError, match="claim the same place"):
            publish([one, one], tmp_path / "records")
        assert not (tmp_path / "records").exists()

    def test_variants_have_names_of_their_own(self, store, made):
        one = made.record(made.folder_of(store, made.suite("trades"), "trades"))
        names = [
            variant(one.model_copy(update={"method": one.method.model_copy(update={"changed": changed})}))
            for changed in ({}, {"beta": 3.0}, {"mode": "a b"}, {"mode": "a/b"}, {"mode": "x" * 300})
        ]
        assert names[:2] == ["trades", "trades-beta-3.0"]
        assert len(set(names)) == 5
        assert all("/" not in name and " " not in name and len(name) < 120 for name in names)
        assert destination(one, store.root).name == "seed0.json"


@pytest.mark.parametrize(("checkpoints", "code", "left"), [((), 1, "nothing"), (("best",), 0, "network before, of ep")])
def test_train_says_that_a_run_diverged(store, made, checkpoints, code, left):
    spec = RunSpec(made.DIGITS, "standard", discovery.make("standard").hyperparameters(), 0)
    made.train(store.folder(spec), diverged=True, checkpoints=checkpoints)
    result = CliRunner().invoke(main, ["train", "standard", "--protocol", "digits-linf/1", "--store", str(store.root)])
    assert result.exit_code == code
    assert "DIVERGED at epoch 3" in result.stderr
    assert left in result.stderr
