"""`evaluate` off the board, `diagnose`, `verify`, `compare`, `images`, `transfer`: on real digits, in this process."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import Outcomes, Record
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.perform import perform
from advbench.benchmark.runs.store import Store

pytestmark = pytest.mark.xdist_group("any_network")
PROTOCOL = """
name = "tiny"
summary = "A few digits, two epochs."
network = "smallcnn"
[data]
name = "digits"
validation = 100
test = 100
augment = "none"
pad = 0
train_limit = 640
test_limit = 12
[threat]
norm = "linf"
eps = "3/20"
[training]
epochs = 3
batch = 64
schedule = { kind = "one-cycle", peak = 0.2, rise = "2/5" }
inner = { steps = 2, step = "1/10" }
[selection]
steps = 2
step = "1/10"
[attacks]
shard = 6
pgd20 = { steps = 20, step = "3/80" }
pgd100 = { steps = 100, step = "3/80" }
cw = { steps = 20, step = "3/80" }
autoattack = { version = "standard" }
"""
MINE = """
import torch
from sklearn.datasets import load_digits
from torch import nn

class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        pixels, labels = load_digits(return_X_y=True)
        x = torch.cat([torch.tensor(pixels / 16), torch.ones(len(pixels), 1)], dim=1)
        wanted = 2.0 * nn.functional.one_hot(torch.tensor(labels), 10).double() - 1
        solution = torch.linalg.solve(x.T @ x + torch.eye(65), x.T @ wanted).float()
        self.register_buffer("weight", solution[:64])
        self.register_buffer("bias", solution[64])
    def forward(self, x):
        return torch.round(x.flatten(1) * 8) / 8 @ self.weight + self.bias

class Noisy(Masked):
    def forward(self, x):
        return super().forward(x + 0.05 * torch.randn_like(x))

class InPlace(Masked):
    def forward(self, x):
        x.data.mul_(8).round_().div_(8)
        return x.flatten(1) @ self.weight + self.bias

def seven():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
"""


class Place:
    """A folder with a protocol, networks of the user's, and a store with two runs."""

    def __init__(self, folder: Path):
        self.folder, self.runs = folder, {}

    def advbench(self, *words: object, code: int = 0) -> str:
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.stdout if code == 0 else result.output

    def run(self, method: str):
        return Store(self.folder / "runs").find(self.runs[method])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    here = Place(tmp_path_factory.mktemp("place"))
    (here.folder / "tiny.toml").write_text(PROTOCOL, encoding="utf-8")
    (here.folder / "mine.py").write_text(MINE, encoding="utf-8")
    protocol = Protocol.from_toml(here.folder / "tiny.toml")
    for method in ("standard", "pgd_at"):
        spec = RunSpec(protocol, method, discovery.make(method).hyperparameters(), 0)
        here.runs[method] = spec.id
        # AutoAttack on the standard network alone: its images fall at once, survivors would cost 5,000 queries each.
        families = ("clean", "pgd", "cw", *(["autoattack"] if method == "standard" else []))
        jobs = [Job("train", spec), *(Job("evaluate", spec, "best", family, (0, 1)) for family in families)]
        for job in jobs:
            assert perform(job, here.folder / "runs", device="cpu", threads=1) == "done"
    return here


def edited(place: Place, column: str) -> Path:
    """A record in which one outcome of a column is turned."""
    record = place.run("standard").record()
    best = record.checkpoints["best"]
    old = best.evaluation.columns[column]
    bits = old.correct
    bits[3] = ~bits[3]
    new = Outcomes.pack(bits, settings=old.settings, environment=old.environment)
    evaluation = best.evaluation.model_copy(update={"columns": {**best.evaluation.columns, column: new}})
    checkpoint = best.model_copy(update={"evaluation": evaluation})
    path = place.folder / "edited.json"
    path.write_text(record.model_copy(update={"checkpoints": {"best": checkpoint}}).dumps(), encoding="utf-8")
    return path


def test_a_rerun_on_the_cpu_is_equal_to_the_bit(place):
    said = place.advbench("verify", place.runs["standard"], "--checkpoint", "best", "--device", "cpu")
    rows = [line for line in said.splitlines() if line.startswith("best ")]
    assert [row.split()[1] for row in rows] == ["clean", "pgd20", "pgd100", "cw", "autoattack"]
    assert all(row.endswith("equal to the bit") for row in rows)
    assert said.splitlines()[-1].endswith(": equal to the bit")


def test_a_turned_outcome_is_found(place):
    said = place.advbench("verify", edited(place, "pgd20"), "--attack", "pgd", "--device", "cpu", code=1)
    assert "1 of 12 images differ, although hardware, libraries and batches are the same" in said
    assert "NOT what comes out: best pgd20" in said


def test_a_sample_of_images_allows_for_other_batches(place):
    out = place.folder / "verdicts.json"
    words = ("--sample", 12, "--attack", "clean", "--attack", "cw", "--device", "cpu", "--out", out)
    place.advbench("verify", edited(place, "cw"), *words)
    clean, cw = json.loads(out.read_text(encoding="utf-8"))
    assert clean["verdict"] == "equal"
    assert cw["images"] == list(range(12))
    assert (cw["differing"], cw["allowed"], cw["verdict"]) == ([3], 1, "within tolerance")
    assert "other images are in the batch" in cw["message"]


def test_other_weights_are_refused(place):
    other = place.run("pgd_at").weights("best")
    said = place.advbench("verify", place.runs["standard"], "--weights", other, "--checkpoint", "best", code=2)
    assert "not the weights of best: sha256" in said


def test_an_edited_protocol_is_refused(place):
    record = json.loads(place.run("standard").record().dumps())
    record["protocol"]["threat"]["eps"] = "1/20"
    path = place.folder / "protocol.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    said = place.advbench("verify", path, "--checkpoint", "best", "--device", "cpu", code=2)
    assert "does not have the digest it claims" in said


def test_compare_says_who_is_better_in_words_figures_and_classes(place):
    said = place.advbench("compare", "pgd_at", "standard", "--column", "pgd20", "--out", "figures")
    shares = {name: place.run(name).record().checkpoints["best"].evaluation.accuracy("pgd20") for name in place.runs}
    assert f"PGD-AT {shares['pgd_at']:.1%}, Standard {shares['standard']:.1%} under PGD-20, n = 12" in said
    assert "these two networks, not these two methods" in said
    (written,) = (place.folder / "figures").glob("*-PGD-AT-against-Standard-pgd20.json")
    plain = json.loads(written.read_text(encoding="utf-8"))
    assert plain["difference"] == pytest.approx(shares["pgd_at"] - shares["standard"])
    assert written.with_suffix(".png").stat().st_size > 5000


def test_compare_refuses_what_was_not_measured_or_is_not_there(place):
    assert "PGD-AT has no autoattack on best" in place.advbench("compare", "pgd_at", "standard", code=2)
    assert "methods: pgd_at, standard" in place.advbench("compare", "pgd_at", "trade", code=2)


def test_images_show_classes_hardest_images_and_agreement(place):
    said = place.advbench("images", "--column", "pgd20", "--hardest", 3, "--out", "figures")
    rows = [place.run(name).record().checkpoints["best"].evaluation.columns["pgd20"].correct for name in place.runs]
    fooled = (~np.stack(rows)).sum(axis=0)
    assert f"2 networks, 12 images: {(fooled == 2).sum()} fool every network, {(fooled == 0).sum()} fool none" in said
    for name in ("classes", "agreement"):
        assert (place.folder / f"figures/tiny-pgd20-{name}.pdf").is_file()


def test_transfer_judges_every_network_by_the_examples_of_every_other(place):
    place.advbench("transfer", "--protocol", "tiny.toml", "--out", "figures", "--device", "cpu")
    found = json.loads((place.folder / "figures/tiny-transfer.json").read_text(encoding="utf-8"))
    clean = {name: place.run(name).record().checkpoints["best"].evaluation.accuracy("clean") for name in place.runs}
    assert dict(zip(found["names"], found["clean"], strict=True)) == {
        "PGD-AT s0": clean["pgd_at"],
        "Standard s0": clean["standard"],
    }
    at, standard = found["accuracy"]
    assert standard[0] >= at[0], "examples of another network are weaker than its own"
    assert at[1] >= standard[1]
    assert (place.folder / "figures/tiny-transfer.png").is_file()


def test_diagnose_draws_and_explains_a_run(place):
    said = place.advbench("diagnose", place.runs["pgd_at"], "--no-autoattack", "--out", "diagnosis", "--device", "cpu")
    assert "examples of itself" in said
    assert "of others: Standard" in said
    (path,) = (place.folder / "diagnosis").glob("*pgd_at*.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    record = place.run("pgd_at").record().checkpoints["best"].evaluation
    assert found["columns"]["pgd20"] == record.accuracy("pgd20"), "the evaluator's own numbers"
    assert found["against_steps"]["curves"]["cross-entropy"][-1] == pytest.approx(record.accuracy("pgd100"))
    assert found["against_eps"]["curves"]["margin"][-1] <= 0.1
    assert len(found["against_steps"]["losses"]["margin"]["0.5"]) == 100
    assert path.with_suffix(".png").stat().st_size > 20_000
    assert path.with_suffix(".pdf").is_file()


def test_diagnose_accuses_a_masked_network(place):
    words = ("--protocol", "tiny.toml", "--no-autoattack", "--out", "masked", "--device", "cpu")
    said = place.advbench("diagnose", "mine.py:Masked", *words)
    assert "the user's own code" in said
    assert "FLAG zero-gradients" in said


def test_a_run_is_attacked_in_l2_and_marked(place):
    words = ("--threat", "l2", "--eps", "1/2", "--attacks", "pgd", "--subset", 6, "--out", "l2.json", "--device", "cpu")
    said = place.advbench("evaluate", place.runs["pgd_at"], *words)
    assert "SUBSET: the first 6 of 12 test images" in said
    assert "enter no board" in said
    found = json.loads((place.folder / "l2.json").read_text(encoding="utf-8"))
    assert found["subset"] is True
    assert found["threats"][0]["columns"]["pgd100"]["n"] == 6
    with pytest.raises(ValueError, match="not a valid record"):
        Record.load(place.folder / "l2.json")


def test_autoattack_by_our_own_engine_is_off_the_board_and_says_so(place):
    words = ("--engine", "exact", "--eps", "3/10", "--attacks", "autoattack", "--out", "engine.json", "--device", "cpu")
    assert "enter no board" in place.advbench("evaluate", place.runs["pgd_at"], *words)
    found = json.loads((place.folder / "engine.json").read_text(encoding="utf-8"))["threats"][0]["columns"][
        "autoattack"
    ]
    assert "exact mode" in found["settings"]["engine"]
    assert found["n"] == 12


def test_a_state_dict_of_others_becomes_an_external_row(place):
    """With the complete attacks: the standard network's images fall at once."""
    weights = place.run("standard").path / "best.safetensors"
    opening = (weights, "--architecture", "smallcnn", "--protocol", "tiny.toml", "--device", "cpu")
    place.advbench("evaluate", *opening, "--out", "theirs.json")
    about = ("--label", "Theirs", "--source", "https://example.org", "--licence", "MIT", "--records", "theirs")
    place.advbench("publish", "--external", "theirs.json", "--protocol", "tiny.toml", *about)
    said = place.advbench("leaderboard", "--records", "theirs", "--format", "markdown")
    assert "*Trained elsewhere, attacked here*" in said
    row = next(line for line in said.splitlines() if line.startswith("| Theirs"))
    ours = Record.load(place.run("standard").record_path).checkpoints["best"]
    assert f"| {100 * ours.evaluation.accuracy('clean'):.1f} [" in row
    assert ours.sha256[:16] in row


def test_signs_of_masking_are_looked_for_in_l2_too(place):
    words = ("--protocol", "tiny.toml", "--threat", "l2", "--eps", "1/2", "--attacks", "pgd,cw", "--device", "cpu")
    said = place.advbench("evaluate", "mine.py:Masked", *words, "--out", "l2-masked.json")
    assert "MASKING at L2, eps 1/2: zero-gradients" in said
    honest = place.advbench("evaluate", place.runs["pgd_at"], *words[2:], "--out", "l2-honest.json")
    assert "MASKING" not in honest
    raised = [
        {
            flag["name"]
            for flag in json.loads((place.folder / name).read_text(encoding="utf-8"))["threats"][0]["flags"]
            if flag["state"] == "raised"
        }
        for name in ("l2-masked.json", "l2-honest.json")
    ]
    assert "zero-gradients" in raised[0]
    assert raised[1] == set()


def test_the_protocols_own_threat_gives_the_boards_own_numbers(place):
    words = ("--eps-sweep", "1/20,3/20", "--attacks", "pgd,cw", "--out", "sweep.json", "--device", "cpu")
    place.advbench("evaluate", place.runs["pgd_at"], *words)
    small, own = json.loads((place.folder / "sweep.json").read_text(encoding="utf-8"))["threats"]
    columns = place.run("pgd_at").record().checkpoints["best"].evaluation.columns
    for name in ("clean", "pgd20", "pgd100", "cw"):
        assert own["columns"][name]["bits"] == columns[name].bits
        assert small["columns"][name]["accuracy"] >= own["columns"][name]["accuracy"]


def test_weights_with_an_architecture_give_the_same_numbers(place):
    words = ("--protocol", "tiny.toml", "--architecture", "smallcnn", "--attacks", "cw", "--out", "file.json")
    place.advbench("evaluate", place.run("pgd_at").weights("best"), *words, "--device", "cpu")
    found = json.loads((place.folder / "file.json").read_text(encoding="utf-8"))
    columns = place.run("pgd_at").record().checkpoints["best"].evaluation.columns
    assert found["threats"][0]["columns"]["cw"]["bits"] == columns["cw"].bits
    assert found["network"]["sha256"] == place.run("pgd_at").record().checkpoints["best"].sha256


def test_a_randomised_network_is_judged_by_votes_over_draws(place):
    words = ("--protocol", "tiny.toml", "--eot", 3, "--attacks", "pgd,autoattack", "--subset", 6, "--out", "eot.json")
    said = place.advbench("evaluate", "mine.py:Noisy", *words, "--device", "cpu")
    assert "EOT over 3 draws" in said
    assert "random-forwards (the examination did not run)" in said
    columns = json.loads((place.folder / "eot.json").read_text(encoding="utf-8"))["threats"][0]["columns"]
    assert columns["pgd20"]["settings"]["judged"] == "right in most of 3 draws"
    assert columns["autoattack"]["settings"]["version"] == "rand, EOT 3"
    place.advbench("evaluate", "mine.py:Noisy", *words, "--device", "cpu")
    again = json.loads((place.folder / "eot.json").read_text(encoding="utf-8"))["threats"][0]["columns"]
    assert {name: one["bits"] for name, one in again.items()} == {name: one["bits"] for name, one in columns.items()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.py:seven"], "has 7 classes, digits has 10"),
        (["mine.py:eight"], "has no function 'eight'"),
        (["mine.py:Masked", "--eps", "0"], "eps must be above 0 and at most 1"),
        (["mine.py:Masked", "--eps", "3/2"], "eps must be above 0 and at most 1"),
        (["mine.py:Masked", "--threat", "l2"], "needs --eps"),
        (["mine.py:Masked", "--threat", "l2", "--eps", "9"], "at most 8"),
        (["mine.py:Masked", "--engine", "exact", "--eot", "3"], "EOT runs through pyautoattack alone"),
        (["mine.py:Masked", "--attacks", "deepfool"], "no family of attacks 'deepfool'"),
        (["zoo:Standard"], "not digits"),
    ],
)
def test_bad_input_is_one_line_before_any_attack(place, words, said):
    output = place.advbench("evaluate", *words, "--protocol", "tiny.toml", "--device", "cpu", code=2)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "shard" not in output


def test_preprocessing_in_place_is_attacked_like_any_other(place):
    words = ("--protocol", "tiny.toml", "--attacks", "pgd", "--out", "in-place.json", "--device", "cpu")
    place.advbench("evaluate", "mine.py:InPlace", *words)
    found = json.loads((place.folder / "in-place.json").read_text(encoding="utf-8"))["threats"][0]
    # its gradient goes through the rounding as if that were not there, so PGD is not blind as it is on Masked
    assert found["columns"]["pgd20"]["accuracy"] < 0.3 < found["columns"]["clean"]["accuracy"]


def test_a_network_that_is_no_run_needs_a_protocol(place):
    assert "--protocol says on which data" in place.advbench("evaluate", "mine.py:Masked", code=2)


def test_exported_and_scripted_programs_are_opened(place):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    batch = torch.export.Dim("batch")
    example = torch.zeros(2, 1, 8, 8)
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: batch},)), place.folder / "net.pt2")
    torch.jit.trace(net, example).save(str(place.folder / "net.ts"))
    bits = []
    for name, said in (("exported:net.pt2", "a torch.export program"), ("scripted:net.ts", "a TorchScript program")):
        words = ("--protocol", "tiny.toml", "--attacks", "pgd", "--out", "program.json", "--device", "cpu")
        assert said in place.advbench("evaluate", name, *words)
        found = json.loads((place.folder / "program.json").read_text(encoding="utf-8"))
        bits.append({key: one["bits"] for key, one in found["threats"][0]["columns"].items()})
    assert bits[0] == bits[1]
