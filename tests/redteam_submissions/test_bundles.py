"""Forged bundles: each is refused by name. Two honest runs are made once, then every test spoils a copy."""

import hashlib
import json
import math
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from advbench.benchmark import discovery
from advbench.benchmark.cli import main
from advbench.benchmark.files import seal, unseal
from advbench.benchmark.protocol import Protocol
from advbench.benchmark.records.schema import FAMILIES, Outcomes, Record
from advbench.benchmark.review import bundle, consistency
from advbench.benchmark.runs.build_record import build_record
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.benchmark.runs.perform import perform
from advbench.benchmark.runs.store import Store

pytestmark = pytest.mark.xdist_group("bundles")
QUICK = Path(__file__).resolve().parents[2] / "docs/examples/quick.toml"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A bundle of two seeds of standard training, in the open division, with weights."""
    place = tmp_path_factory.mktemp("honest")
    store, protocol = Store(place / "runs"), Protocol.from_toml(QUICK)
    for seed in (0, 1):
        spec = RunSpec(protocol, "standard", discovery.make("standard").hyperparameters(), seed)
        perform(Job("train", spec), store.root, device="cpu")
        for checkpoint in ("best", "last"):
            for family in FAMILIES:
                perform(Job("evaluate", spec, checkpoint, family, (0,)), store.root, device="cpu")
    folders = list(store.folders())
    sources = [discovery.source_file(discovery.load("standard"))]
    bundle.submit(folders, place / "honest.zip", sources=sources, open_division=True, weights=True)
    return place / "honest.zip"


@pytest.fixture
def files(honest):
    with zipfile.ZipFile(honest) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(files, path, *, reseal=True):
    """Write a bundle; `reseal` makes the manifest fit, as a forger would."""
    if reseal:
        manifest = json.loads(files[bundle.MANIFEST])
        rest = {name: raw for name, raw in files.items() if name != bundle.MANIFEST}
        manifest["files"] = {name: hashlib.sha256(raw).hexdigest() for name, raw in rest.items()}
        files = {**rest, bundle.MANIFEST: json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return path


def validate(path, *words, code=1, default=False):
    if "--reattack" not in words and not default:
        words = (*words, "--reattack", "quick")
    done = CliRunner().invoke(main, ["validate", str(path), "--device", "cpu", "--draw", "0", *map(str, words)])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output


def record_name(files, seed=0):
    (name,) = (name for name in files if name.startswith("records/") and name.endswith(f"seed{seed}.json"))
    return name


def edited(files, change, seed=0):
    """Return the files with one record changed."""
    name = record_name(files, seed)
    plain = json.loads(files[name])
    change(plain)
    return {**files, name: json.dumps(plain).encode()}


def test_the_honest_bundle_is_valid(honest):
    output = validate(honest, code=0)
    assert "refused" not in output
    assert "valid" in output


def test_evidence_that_is_not_a_number_is_no_forgery(files):
    """With a dozen images the bound of a ratio is NaN; a file holds it as null."""
    record = Record.model_validate_json(files[record_name(files)])
    best = record.checkpoints["best"]
    flags = tuple(
        flag.model_copy(update={"evidence": {"ratio": [1.0, math.nan], "most": math.inf}})
        for flag in best.evaluation.flags
    )
    evaluation = best.evaluation.model_copy(update={"flags": flags})
    rebuilt = record.model_copy(update={"checkpoints": {"best": best.model_copy(update={"evaluation": evaluation})}})
    loaded = Record.model_validate_json(rebuilt.dumps())
    assert loaded != rebuilt
    assert consistency.differing(rebuilt, loaded) == []
    assert consistency.differing(rebuilt, record) == ["checkpoints"]


def columns(plain, checkpoint="best"):
    return plain["checkpoints"][checkpoint]["evaluation"]["columns"]


def all_right(plain):
    for column in columns(plain).values():
        column["bits"] = Outcomes.pack(np.ones(column["n"], bool)).bits


def shuffled(plain):
    order = np.random.default_rng(0).permutation(30)
    evaluation = plain["checkpoints"]["best"]["evaluation"]
    for outcomes in (*evaluation["columns"].values(), *evaluation["stages"].values()):
        bits = Outcomes.model_validate(outcomes).correct
        outcomes["bits"] = Outcomes.pack(bits[order]).bits


def one_pgd_image_more(plain):
    outcomes = columns(plain)["cw"]
    bits, clean = Outcomes.model_validate(outcomes).correct, Outcomes.model_validate(columns(plain)["clean"]).correct
    bits[int(np.flatnonzero(clean & ~bits)[0])] = True
    outcomes["bits"] = Outcomes.pack(bits).bits


def more_images(plain):
    for column in columns(plain).values():
        column.update(n=40, bits=Outcomes.pack(np.zeros(40, bool)).bits)


def above_clean(plain):
    columns(plain)["clean"]["bits"] = Outcomes.pack(np.zeros(30, bool)).bits
    columns(plain)["cw"]["bits"] = Outcomes.pack(np.ones(30, bool)).bits


def steeper(plain):
    plain["training"]["curve"][1]["lr"] *= 1.01


def more_epochs(plain):
    plain["training"]["epochs"] += 1
    plain["training"]["curve"].append({**plain["training"]["curve"][-1], "epoch": 3})


def other_best(plain):
    plain["training"]["best_epoch"] = 0
    plain["training"]["curve"][0]["clean"] = 0.0


def other_protocol(plain):
    plain["protocol_digest"] = "0" * 64


def weaker_attack(plain):
    plain["protocol"]["attacks"]["pgd20"]["steps"] = 1


def official(plain):
    plain["official"], plain["division"] = True, "closed"


FORGED = {
    "numbers edited": (all_right, "forged record"),
    "one outcome edited": (one_pgd_image_more, "forged record"),
    "outcomes shuffled": (shuffled, "forged record"),
    "more images than there are": (more_images, "more images than the test set"),
    "attack above clean": (above_clean, "attack above clean"),
    "more epochs": (more_epochs, "epochs"),
    "another best": (other_best, "selection rule"),
    "another learning rate": (steeper, "learning rate"),
    "digest of another protocol": (other_protocol, "digest of another protocol"),
    "weaker attack": (weaker_attack, "digest of another protocol"),
    "passed off as official": (official, "digest of another protocol"),
    "other seed": (lambda plain: plain.update(seed=7), "identity"),
    "cheaper": (lambda plain: plain["training"]["passes"].update(forward=1), "passes"),
    "closed division": (lambda plain: plain.update(division="closed"), "division"),
}


@pytest.mark.parametrize("crime", FORGED)
def test_a_forged_record_is_refused_by_name(crime, files, tmp_path):
    change, rule = FORGED[crime]
    assert f"refused: {rule}: " in validate(pack(edited(files, change), tmp_path / "forged.zip"))


def test_copied_seeds_are_refused(files, tmp_path):
    def copy(plain):
        plain.update(json.loads(files[record_name(files, 0)]) | {"seed": 1, "run": plain["run"]})

    output = validate(pack(edited(files, copy, seed=1), tmp_path / "forged.zip"))
    assert "refused: copied seeds: standard seed 1 under quick: the weights of seeds 0 and 1 are the same" in output


def forged_to_the_shards(files, place, change, families=("",)):
    """Return a bundle's files with shards changed, checksums and records made anew from them."""
    forged = dict(files)
    for name, raw in files.items():
        if name.endswith(".jsonl") and any(family in name for family in families):
            entry = unseal(raw.splitlines()[-1], name)
            change(entry["result"])
            forged[name] = seal(entry)
    opened = bundle.unpack(pack(forged, place / "half.zip"), place / "half")
    for record in opened.records:
        rebuilt = build_record(opened.run(record)).model_copy(update={"division": "open"})
        forged[record_name(files, record.seed)] = rebuilt.dumps().encode()
    return pack(forged, place / "forged.zip")


def test_a_record_that_is_forged_down_to_its_shards_does_not_come_back(files, tmp_path):
    """Outcomes shuffled in every shard, checksums and records made anew: only attacking again shows it."""
    order = np.random.default_rng(0).permutation(30)

    def shuffle(result):
        result["predictions"] = [result["predictions"][i] for i in order]
        for kind in ("columns", "stages"):
            for column, text in result[kind].items():
                result[kind][column] = Outcomes.pack(Outcomes(n=30, bits=text).correct[order]).bits

    output = validate(forged_to_the_shards(files, tmp_path, shuffle))
    assert "refused: outcomes not reproduced" in output
    assert "forged record" not in output


@pytest.mark.parametrize(("family", "extent"), [("cw", "quick"), ("autoattack", "full")])
def test_one_forged_attack_is_found_by_repeating_it(family, extent, files, tmp_path):
    """All images robust against one attack alone; the quick sample repeats PGD and CW, the full one AutoAttack too."""

    def boast(result):
        right = Outcomes.pack(np.array([image < 25 for image in range(30)]))
        for kind in ("columns", "stages"):
            result[kind] = dict.fromkeys(result[kind], right.bits)

    path = forged_to_the_shards(files, tmp_path, boast, (f"{family}.jsonl",))
    output = validate(path, "--reattack", extent)
    assert f"refused: outcomes not reproduced: standard seed 0 under quick, best: {family}: " in output
    assert "refused" not in validate(path, "--reattack", "none", code=0)
    if family == "autoattack":
        assert "refused" not in validate(path, code=0), "without AutoAttack nothing is seen"
        assert "outcomes not reproduced" in validate(path, default=True)


def test_a_record_file_is_held_against_its_run_in_the_store(files, honest, tmp_path):
    path, store = tmp_path / "record.json", honest.parent / "runs"
    path.write_bytes(files[record_name(files)])
    assert "refused" not in validate(path, "--store", store, code=0)
    path.write_bytes(edited(files, one_pgd_image_more)[record_name(files)])
    assert "refused" not in validate(path, "--store", tmp_path / "elsewhere", code=0)
    assert "refused: forged record: " in validate(path, "--store", store)


def test_an_edited_file_is_refused_by_the_manifest(files, tmp_path):
    assert "edited: records/" in validate(pack(edited(files, official), tmp_path / "x.zip", reseal=False), code=2)


def test_not_a_number_fails_the_schema(files, tmp_path):
    def nan(plain):
        plain["training"]["seconds"] = float("nan")

    assert "schema: " in validate(pack(edited(files, nan), tmp_path / "x.zip"), code=2)


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "records/../../evil.json", "C:\\evil.json"])
def test_paths_outside_the_folder_are_refused_before_anything_is_written(name, files, tmp_path):
    path = pack({**files, name: b"{}"}, tmp_path / "x.zip")
    assert "path outside its folder" in validate(path, code=2)
    with pytest.raises(bundle.BundleError, match="path outside"):
        bundle.unpack(path, tmp_path / "in")
    assert not (tmp_path / "in").exists()
    assert not (tmp_path / "evil.json").exists()


def test_weights_with_a_pickle_payload_are_refused_unread(files, tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    raw = pickle.dumps(Payload())
    weights = next(name for name in files if name.endswith("best.safetensors"))
    assert "pickle payload" in validate(pack({**files, weights: raw}, tmp_path / "x.zip"), code=2)
    odd = validate(pack({**files, weights.replace("safetensors", "pt"): raw}, tmp_path / "y.zip"), code=2)
    assert "files only" in odd
    assert not (tmp_path / "owned").exists()


def test_other_weights_are_refused(files, tmp_path):
    one, other = (name for name in files if name.endswith("best.safetensors"))
    assert "refused: other weights" in validate(pack({**files, one: files[other]}, tmp_path / "x.zip"))


def test_undeclared_data_in_the_adapter_and_declared_data_in_the_closed_division(files, tmp_path):
    evil = files["methods/standard.py"] + b'\nMORE = "https://example.org/more.npz"\n'
    assert "refused: extra-data: methods/standard.py" in validate(
        pack({**files, "methods/standard.py": evil}, tmp_path / "x.zip")
    )
    manifest = json.loads(files[bundle.MANIFEST]) | {"extra_data": "1M DDPM images"}
    closed = edited({**files, bundle.MANIFEST: json.dumps(manifest).encode()}, official)
    assert "extra data declared (1M DDPM images): submit --open" in validate(pack(closed, tmp_path / "y.zip"))


def test_record_files_are_judged_too(files, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(edited(files, other_best)[record_name(files)])
    assert "refused: selection rule" in validate(path)
    path.write_bytes(files[record_name(files)])
    assert isinstance(Record.load(path), Record)
    assert "valid" in validate(path, code=0)
