"""Every reader of files from outside is fed seeded mutations: it reads them, or refuses them in one line of its own.

$ADVBENCH_FUZZ sets the inputs of each reader, $ADVBENCH_SEED where they begin. A failure names reader and seed.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import random
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click import ClickException
from safetensors.torch import save

from advbench.benchmark import files
from advbench.benchmark.cli.job import _read as read_job
from advbench.benchmark.data import sources
from advbench.benchmark.data.sources import DataError
from advbench.benchmark.files import TornError
from advbench.benchmark.models import architectures, programs, state_dicts
from advbench.benchmark.models.programs import ProgramError
from advbench.benchmark.models.state_dicts import StateDictError
from advbench.benchmark.protocol import Protocol, ProtocolError, published
from advbench.benchmark.records import corrections
from advbench.benchmark.records.corrections import CorrectionError
from advbench.benchmark.records.flags import find
from advbench.benchmark.records.schema import Record, RecordError
from advbench.benchmark.review import bundle, consistency
from advbench.benchmark.review.bundle import BundleError
from advbench.benchmark.runs import suites
from advbench.benchmark.runs.executors.slurm import profile
from advbench.benchmark.runs.job import Job, RunSpec
from advbench.reports import results
from advbench.reports.drawing.style import ReportError

pytestmark = pytest.mark.soak
ROOT = Path(__file__).resolve().parents[2]
INPUTS = int(os.environ.get("ADVBENCH_FUZZ", "80000"))
SLOWEST = 20.0
NASTY = (
    *(
        None,
        True,
        -1,
        0,
        2**31,
        2**63 - 1,
        2**63,
        10**30,
        0.5,
        -0.0,
        1e308,
        5e-324,
        "",
        "x" * 300,
        "\x1b[2J",
        "\u202e",
        "\0",
    ),
    *("1e-99999999", "8/0", "../../x", "$", "<script>", "\\", "\n", "NaN", [], {}, [[]], [0] * 300, {"a": {"a": {}}}),
)
TOKENS = (
    *(
        b"[" * 300,
        b"{" * 300,
        b'"',
        b"\\",
        b"\x00",
        b"\xff",
        b"\x1b",
        b"1e999",
        b"9" * 40,
        b".a" * 40,
        b"\n",
        b"= ",
        b"#",
    ),
    *(b"NaN", b"null", b"-", b"PK\x03\x04", b"PK\x01\x02", b"\x80\x02", b"'''", b"\\u202e", b"../"),
)


class Reader(NamedTuple):
    """A reader, what it may raise, and a file that it reads; `shaped` files are JSON whose nodes are replaced, too."""

    read: Callable[[Path], object]
    refusals: tuple[type[Exception], ...]
    raw: bytes
    suffix: str = ".json"
    shaped: bool = False


def _npz() -> bytes:
    buffer, generator = io.BytesIO(), np.random.default_rng(0)
    x = generator.integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    np.savez(buffer, x_train=x, y_train=np.arange(20) % 4, x_test=x[:8], y_test=np.arange(8) % 4)
    return buffer.getvalue()


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _exported() -> bytes:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    return _saved(lambda buffer: torch.export.save(torch.export.export(net, (torch.zeros(2, 1, 2, 2),)), buffer))


def _journal(path: Path) -> object:
    return list(files.sealed_entries(path)) + list(files.sealed_entries(path, without="result"))


def _resealed(path: Path) -> object:
    """Seal whatever the file holds, as a forger would, and read it."""
    raw = path.read_bytes().replace(b"\n", b" ")
    digest = hashlib.sha256(raw).hexdigest().encode()
    return files.unseal(b'{"sha256":"' + digest + b'","payload":' + raw + b"}\n", str(path))


def _judged(path: Path) -> object:
    """Read a record and do with it what boards and reviews do."""
    record = Record.load(path)
    consistency.validate([record])
    for checkpoint in record.checkpoints.values():
        find(checkpoint.evaluation, None, protocol=record.protocol, num_classes=record.data.num_classes)
    return record


def _unpacked(path: Path) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return bundle.inspect(bundle.unpack(path, Path(folder)))


def _forged(path: Path) -> object:
    """Pack what should be a record into a bundle whose manifest fits, and judge that."""
    path.with_suffix(".zip").write_bytes(_bundle(path.read_bytes()))
    return _unpacked(path.with_suffix(".zip"))


def _state(path: Path) -> object:
    own = architectures.build("smallcnn", num_classes=10, channels=1).state_dict()
    return state_dicts.fitted(state_dicts.read(path), own, path=path, architecture="smallcnn")


def _bundle(record: bytes) -> bytes:
    members = {"records/a/seed0.json": record, "methods/a.py": b"x = 1\n"}
    manifest = {
        "format": 1,
        "extra_data": "none",
        "files": {k: hashlib.sha256(v).hexdigest() for k, v in members.items()},
    }

    def write(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, raw in {"bundle.json": json.dumps(manifest).encode(), **members}.items():
                archive.writestr(name, raw)

    return _saved(write)


def readers() -> dict[str, Reader]:
    digits = published()["digits-linf/1"]
    record = next((ROOT / "leaderboards/records").rglob("seed0.json")).read_bytes()
    toml = (ROOT / "docs/examples/quick.toml").read_bytes()
    job = json.dumps(
        Job("evaluate", RunSpec(digits, "trades", {"beta": 6.0}, 0), "best", "cw", (0,)).to_plain()
    ).encode()
    torch.manual_seed(0)
    net = architectures.build("smallcnn", num_classes=10, channels=1)
    entry = {"shard": 0, "checkpoint_sha256": "5" * 64, "seconds": 1.0, "passes": {"forward": 1}, "result": {"a": [1]}}
    correction = json.dumps(
        [
            {
                "protocol": "p", "digest": "5" * 64, "date": "2026-01-01", "kind": "withdrawn", "record": "a.json",
                "method": "m", "label": "M", "seed": 0, "images": 1, "reason": "r", "old": "5" * 64, "old_run": "r",
                "clean_before": 1.0, "autoattack_before": None,
            }
        ]
    ).encode()  # fmt: skip
    suite = b'protocols = ["digits-linf"]\nseeds = [0]\n[[method]]\nname = "trades"\nset = { beta = 3.0 }\n'
    cluster = b'partition = "gpu"\ntime = "8:00:00"\ngpus_per_node = 1\nparallel = 4\n'
    result = json.dumps({"kind": "transfer", "names": ["a"], "clean": [0.5], "accuracy": [[0.1]], "images": 9}).encode()
    return {
        "protocol": Reader(Protocol.from_toml, (ProtocolError,), toml, ".toml"),
        "suite": Reader(suites.from_file, (suites.RequestError, ProtocolError), suite, ".toml"),
        "profile": Reader(profile.profile, (profile.ProfileError,), cluster, ".toml"),
        "record": Reader(_judged, (RecordError,), record, shaped=True),
        "corrections": Reader(
            lambda path: corrections.parse(path.read_bytes(), path), (CorrectionError,), correction, shaped=True
        ),
        "job": Reader(read_job, (ClickException,), job, shaped=True),
        "result": Reader(results.read, (ReportError,), result, shaped=True),
        "journal": Reader(_journal, (), files.seal(entry) * 3, ".jsonl"),
        "sealed": Reader(_resealed, (TornError,), json.dumps(entry).encode(), shaped=True),
        "bundle": Reader(_unpacked, (BundleError,), _bundle(record), ".zip"),
        "forged": Reader(_forged, (BundleError,), record, shaped=True),
        "npz": Reader(lambda path: sources.npz(path, "mine"), (DataError,), _npz(), ".npz"),
        "safetensors": Reader(_state, (StateDictError,), save(net.state_dict()), ".safetensors"),
        "weights": Reader(_state, (StateDictError,), _saved(lambda out: torch.save(net.state_dict(), out)), ".pt"),
        "exported": Reader(
            lambda path: programs.open_exported(path, torch.device("cpu")), (ProgramError,), _exported(), ".pt2"
        ),
    }


def reshaped(plain: Any, draw: random.Random) -> bytes:
    """Return JSON with some nodes replaced by what nobody expects there."""
    plain = copy.deepcopy(plain)
    for _ in range(draw.randint(1, 3)):
        places: list[tuple[Any, Any]] = []
        node = [plain]
        while node:
            part = node.pop()
            keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
            places += [(part, key) for key in keys]
            node += [part[key] for key in keys]
        if not places:
            break
        part, key = draw.choice(places)
        if draw.random() < 0.2:
            del part[key]
        else:
            part[key] = copy.deepcopy(draw.choice(NASTY))
    return json.dumps(plain).encode()


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Return a file with a few bytes, slices or tokens changed."""
    out = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at, span = draw.randrange(len(out) + 1), draw.choice((1, 4, 30, 300))
        match draw.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(out):
                out[at] = draw.randrange(256)
            case 2:
                del out[at : at + span]
            case 3:
                out[at:at] = out[max(0, at - span) : at]
            case 4:
                out[at:at] = draw.choice(TOKENS)
            case _:
                del out[at:]
    return bytes(out)


@pytest.mark.parametrize("name", readers())
@pytest.mark.filterwarnings("ignore")
def test_a_reader_reads_or_refuses_in_one_line(name, tmp_path):
    reader = readers()[name]
    seed = int(os.environ.get("ADVBENCH_SEED", "0"))
    scarce = 20 if name in {"exported", "forged", "weights"} else 1  # milliseconds each, not microseconds
    path = tmp_path / f"a{reader.suffix}"
    path.write_bytes(reader.raw)
    reader.read(path)
    plain = json.loads(reader.raw) if reader.shaped else None
    refused, slowest = 0, 0.0
    for number in range(INPUTS // scarce):
        draw = random.Random(f"{name}-{seed}-{number}")
        raw = reshaped(plain, draw) if reader.shaped and draw.random() < 0.5 else mutated(reader.raw, draw)
        path.write_bytes(raw)
        began, message = time.monotonic(), ""
        try:
            reader.read(path)
        except reader.refusals as error:
            refused, message = refused + 1, str(error)
        except BaseException as error:
            raise AssertionError(f"{name}, input {number} of seed {seed}: {type(error).__name__}: {error}") from error
        assert "\n" not in message, (name, number, message)
        slowest = max(slowest, time.monotonic() - began)
        assert slowest < SLOWEST, (name, number, slowest)
    print(f"{name}: {INPUTS // scarce} inputs, {refused} refused, slowest {slowest:.2f} s", flush=True)
    with contextlib.suppress(OSError):
        path.unlink()
