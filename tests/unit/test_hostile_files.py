"""Files that are valid and harmful: exponents, depth, size, huge numbers, characters that steer terminals."""

import os
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from advbench.benchmark import files
from advbench.benchmark.protocol import Protocol, ProtocolError
from advbench.benchmark.protocol_parts import exact
from advbench.benchmark.review.bundle import BundleError, unpack

RECORDS = Path(__file__).resolve().parents[2] / "leaderboards/records"
HARMFUL_TOML = {
    "dots": "a" + ".a" * 100_000 + " = 1",
    "header": "[a" + ".a" * 100_000 + "]",
    "depth": "a = " + "[" * 5_000 + "]" * 5_000,
    "tables": "a = " + "{a = " * 5_000 + "1" + "}" * 5_000,
    "large": "a = 1\n" + "# padding\n" * 200_000,
    "integer": f"a = {2**63}",
    "digits": "a = " + "9" * 5_000,
    "escape": 'a = "\\u001b[2J"',
    "bidi": 'a = "\\u202e"',
}
HARMFUL_JSON = {
    "depth": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 100 + "1" + "}" * 100,
    "integer": f"[{2**63}]",
    "digits": "9" * 5_000,
    "infinite": "[1e999]",
    "nan": "[NaN]",
    "escape": '["\\u001b[2J"]',
    "raw escape": '["\x9b"]',
    "key": '{"\\u2066": 1}',
    "nothing": "",
}


@pytest.mark.parametrize("kind", HARMFUL_TOML)
def test_harmful_toml_is_refused_in_one_line_at_once(tmp_path, kind):
    path = tmp_path / "a.toml"
    path.write_text(HARMFUL_TOML[kind], encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(ProtocolError, match=r"a\.toml") as caught:
        Protocol.from_toml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", HARMFUL_JSON)
def test_harmful_json_is_refused_in_one_line(tmp_path, kind):
    (tmp_path / "a.json").write_text(HARMFUL_JSON[kind], encoding="utf-8")
    with pytest.raises(KeyError, match=r"a\.json") as caught:
        files.read_json(tmp_path / "a.json", KeyError)
    assert "\n" not in str(caught.value)


def test_what_is_sealed_is_not_trusted_for_it(tmp_path, caplog):
    """Whoever sends a bundle can seal anything."""
    raw = ("[" * 100_000 + "]" * 100_000).encode()
    line = files.seal(0).replace(b":0}", b":" + raw + b"}")
    digest = files.hashlib.sha256(raw).hexdigest().encode()
    (tmp_path / "a.jsonl").write_bytes(line[:11] + digest + line[75:] + files.seal({"b": 1, "z": 2}))
    with pytest.raises(files.TornError, match="not valid JSON"):
        files.unseal((tmp_path / "a.jsonl").read_bytes().splitlines()[0], "a")
    assert list(files.sealed_entries(tmp_path / "a.jsonl")) == [{"b": 1, "z": 2}]
    assert list(files.sealed_entries(tmp_path / "a.jsonl", without="z")) == [{"b": 1}]


def test_files_that_are_too_large_or_no_text_are_refused_unparsed(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff" * 10)
    with pytest.raises(KeyError, match="not UTF-8"):
        files.read_json(path, KeyError)
    path.write_text("1" * 11)
    with pytest.raises(KeyError, match="more than 10 bytes"):
        files.read_json(path, KeyError, 10)


@pytest.mark.parametrize("text", ["1e-99999999", "1e99999999", "9" * 30, "1/" + "9" * 30, "1e100/3", "nan", "", "1/0"])
def test_fractions_without_measure_are_refused_at_once(text):
    with pytest.raises(ValueError, match="write an exact fraction"):
        exact(text)


def test_fractions_of_protocols_are_read():
    assert [str(exact(text)) for text in ("8/255", "0.031", " 1e-3", 2, "1.")] == [
        "8/255",
        "31/1000",
        "1/1000",
        "2",
        "1",
    ]


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path.read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_zip_is_one_line_wherever_it_is_damaged(tmp_path, method):
    raw = zipped(tmp_path / "whole.zip", {"bundle.json": "{}" * 200, "records/a.json": "x" * 300}, method)
    for position in range(0, len(raw), 3):
        for value in (0, 255, raw[position] ^ 4):
            path, folder = tmp_path / "a.zip", tmp_path / f"{position}-{value}"
            path.write_bytes(raw[:position] + bytes([value]) + raw[position + 1 :])
            with pytest.raises(BundleError) as caught:
                unpack(path, folder)
            assert "\n" not in str(caught.value)


def test_each_kind_of_file_in_a_bundle_has_a_limit_of_its_own(tmp_path):
    raw = zipped(tmp_path / "a.zip", {"methods/a.py": "x"})
    large = raw.replace(struct.pack("<L", 1) + struct.pack("<H", 12), struct.pack("<L", 2**21) + struct.pack("<H", 12))
    assert large != raw
    (tmp_path / "a.zip").write_bytes(large)
    with pytest.raises(BundleError, match=r"methods/a\.py has more than 1,048,576 bytes"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_terminal_that_has_not_every_character_loses_characters_only():
    done = subprocess.run(
        [sys.executable, "-m", "advbench", "leaderboard", "--records", str(RECORDS)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert b"?" in done.stdout


def test_an_error_does_not_steer_the_terminal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "advbench", "leaderboard", "--records", str(tmp_path / "a\x1b[2Jb")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
