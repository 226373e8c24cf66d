"""`validate --changed` in a checkout of its own: what a pull request may do to published records, and what not."""

import contextlib
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from advbench.benchmark.cli import main

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "leaderboards/records/digits-linf-1"
RECORDS = Path("leaderboards/records/digits-linf-1")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is needed")


class Checkout:
    """A repository with one published record, its tables and two adapters."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("pgd_at", "mart"):
            (folder / "methods").mkdir(exist_ok=True)
            shutil.copy(ROOT / f"methods/{name}.py", folder / "methods")
        self.publish("pgd_at")
        self.tables()
        self.git("init", "-q")
        self.git("add", ".")
        self.git("commit", "-qm", "x")

    def git(self, *words):
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run([*git, *words], cwd=self.folder, check=True)

    def publish(self, method, place=None):
        path = self.folder / (place or RECORDS / method / "seed0.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        record = json.loads((PUBLISHED / method / "seed0.json").read_text(encoding="utf-8"))
        adapter = self.folder / "methods" / f"{method}.py"  # as if today's had made it
        record["method"]["source_sha256"] = hashlib.sha256(adapter.read_bytes()).hexdigest()
        path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return path

    def tables(self):
        words = ("leaderboard", "--records", "leaderboards/records", "--out", "leaderboards/tables", "--format", "csv")
        assert self.advbench(*words)

    def edit(self, path, change):
        plain = json.loads(path.read_text(encoding="utf-8"))
        change(plain)
        path.write_text(json.dumps(plain), encoding="utf-8")

    def advbench(self, *words, code=0):
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done.output

    def validate(self, code=1):
        self.git("add", ".")
        return self.advbench("validate", "--changed", "--base", "HEAD", "--store", "none", code=code)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_a_new_record_with_its_tables_is_valid(checkout):
    assert "0 bundles and 0 records looked at\nvalid" in checkout.validate(code=0)
    checkout.publish("mart")
    checkout.tables()
    output = checkout.validate(code=0)
    assert "1 records looked at" in output
    assert "suspicious: adapter" not in output


def test_tables_of_before_are_refused(checkout):
    checkout.publish("mart")
    output = checkout.validate()
    for ending in ("md", "csv", "html", "tex"):
        assert f"refused: tables: leaderboards/tables/digits-linf-1.{ending}: it is not what the records say" in output


def test_a_record_in_the_place_of_another_is_refused(checkout):
    checkout.publish("mart", RECORDS / "trades/seed0.json")
    checkout.tables()
    assert "refused: misplaced: mart seed 0 under digits-linf/1" in checkout.validate()


def test_a_published_record_is_neither_changed_nor_removed_in_silence(checkout):
    path = checkout.folder / RECORDS / "pgd_at/seed0.json"
    checkout.edit(path, lambda plain: plain.update(created="2031-01-01T00:00:00+00:00"))
    checkout.tables()
    assert "refused: silent correction: leaderboards/records/digits-linf-1/pgd_at/seed0.json" in checkout.validate()
    path.unlink()
    assert "refused: silent correction: " in checkout.validate()


def test_a_withdrawal_with_its_reason_is_valid_until_it_is_touched(checkout):
    record = RECORDS / "pgd_at/seed0.json"
    checkout.advbench("publish", "--withdraw", record, "--reason", "cannot be reproduced")
    for table in (checkout.folder / "leaderboards/tables").glob("*"):
        table.unlink()
    assert "silent correction" not in checkout.validate(code=0)
    checkout.git("commit", "-qm", "withdrawn")
    corrections = checkout.folder / RECORDS / "pgd_at/corrections.json"
    checkout.edit(corrections, lambda entries: entries[0].update(reason="none"))
    assert "what is recorded of a correction never changes" in checkout.validate()
    corrections.unlink()
    assert "what is recorded of a correction never changes" in checkout.validate()


def test_an_adapter_is_read_and_its_changes_since_are_suspicious(checkout):
    checkout.publish("mart")
    checkout.tables()
    adapter = checkout.folder / "methods/mart.py"
    text = adapter.read_text(encoding="utf-8")
    adapter.write_text(text + "\n# more\n", encoding="utf-8")
    assert "suspicious: adapter: mart seed 0" in checkout.validate(code=0)
    adapter.write_text(text + '\nMORE = "https://example.org/more.npz"\n', encoding="utf-8")
    assert "refused: extra-data: methods/mart.py" in checkout.validate()


def test_forged_records_are_refused_as_in_bundles(checkout):
    path = checkout.publish("mart")
    checkout.edit(path, lambda plain: plain["training"]["curve"][3].update(lr=0.5))
    checkout.tables()
    output = checkout.validate()
    assert "refused: learning rate: mart seed 0 under digits-linf/1: learning rate 0.5 at the end of epoch 3" in output
