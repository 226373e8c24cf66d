"""Suites from words and files."""

import re
from pathlib import Path

import pytest

from advbench.benchmark.discovery import MethodError
from advbench.benchmark.protocol import ProtocolError, published
from advbench.benchmark.runs import suites
from advbench.benchmark.runs.plan import MethodRequest

DIGITS = published()["digits-linf/1"]
SUITE = """
protocols = ["digits-linf/1", "mine.toml"]
seeds = [0, 1]

[[method]]
name = "pgd_at"

[[method]]
name = "trades"
set = { beta = 3 }

[[method]]
name = "trades"
"""


@pytest.fixture
def suite_file(tmp_path) -> Path:
    protocol = (Path(__file__).resolve().parents[2] / "benchmark/protocols/digits-linf-1.toml").read_text(
        encoding="utf-8"
    )
    (tmp_path / "mine.toml").write_text(protocol.replace('"digits-linf/1"', '"mine"'), encoding="utf-8")
    path = tmp_path / "suite.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def test_words_make_a_suite():
    suite = suites.from_words((DIGITS,), ("pgd_at", "trades"), (0,), ("trades.beta=3",))
    assert suite.protocols == (DIGITS,)
    assert suite.seeds == (0,)
    assert suite.methods == (MethodRequest("pgd_at"), MethodRequest("trades", {"beta": 3.0}))
    assert type(suite.methods[1].hyperparameters["beta"]) is float


def test_all_and_default_are_lists_of_methods():
    from advbench.benchmark import discovery

    assert suites.method_names(["all"]) == discovery.names()
    assert suites.method_names(["default"]) == suites.DEFAULT_METHODS
    assert suites.method_names(["mart", "default"]) == ("mart", *suites.DEFAULT_METHODS)


def test_a_suite_file_has_every_variant_as_a_row(suite_file):
    suite = suites.from_file(suite_file)
    assert [protocol.name for protocol in suite.protocols] == ["digits-linf/1", "mine"]
    assert suite.seeds == (0, 1)
    assert suite.methods == (MethodRequest("pgd_at"), MethodRequest("trades", {"beta": 3.0}), MethodRequest("trades"))


BAD = [
    ("seeds = [0, 1]", "seeds = [0, -1]", "seeds.1: Input should be greater than or equal to 0"),
    ("seeds = [0, 1]", "seeds = [true]", "seeds.0: Input should be a valid integer"),
    ("seeds = [0, 1]", "seeds = [1, 1]", "seeds: must be different"),
    ("seeds = [0, 1]", "seed = 0", "seed: unknown key"),
    ('protocols = ["digits-linf/1", "mine.toml"]', "", "protocols: missing"),
    ('"mine.toml"]', '"digits-linf/1"]', "digits-linf/1 is used twice"),
    ('"mine.toml"]', '"other"]', "protocols: no protocol 'other'"),
    ('name = "pgd_at"', 'name = "pgd"', "method.0: no method 'pgd'"),
    ('name = "pgd_at"', "name = 3", "method.0.name: Input should be a valid string"),
    ('name = "pgd_at"', 'name = "pgd_at"\nbeta = 3', "method.0.beta: unknown key"),
    ("set = { beta = 3 }", "set = { gamma = 3 }", "method.1: trades has no hyper-parameter 'gamma'; it has: beta"),
    ("set = { beta = 3 }", 'set = { beta = "much" }', "method.1: trades.beta"),
    ("set = { beta = 3 }", "set = 3", "method.1.set: Input should be a valid dictionary"),
    ("set = { beta = 3 }", "", "two rows are the same"),
    ("[[method]]", "[[methods]]", "methods: unknown key"),
    ("seeds = [0, 1]", "seeds = ", "not valid TOML"),
]


@pytest.mark.parametrize(("old", "new", "said"), BAD, ids=[said for *_, said in BAD])
def test_a_bad_suite_names_file_and_key(suite_file, old, new, said):
    suite_file.write_text(SUITE.replace(old, new), encoding="utf-8")
    with pytest.raises(suites.RequestError) as caught:
        suites.from_file(suite_file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_suite_without_methods_or_with_a_bad_protocol_is_refused(suite_file):
    suite_file.write_text('protocols = ["digits-linf"]\n', encoding="utf-8")
    with pytest.raises(suites.RequestError, match="method: missing"):
        suites.from_file(suite_file)
    suite_file.write_text(SUITE.replace("mine.toml", "gone.toml"), encoding="utf-8")
    with pytest.raises(ProtocolError, match=r"gone\.toml: cannot be read"):
        suites.from_file(suite_file)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"beta": "nan"}, "trades.beta = 'nan': must be finite"),
        ({"beta": "inf"}, "must be finite"),
        ({"beta": -3}, "trades: beta must be 0 or more"),
    ],
)
def test_hyperparameters_that_mean_nothing_are_refused_before_training(setting, message):
    with pytest.raises(MethodError, match=re.escape(message)):
        suites.request("trades", setting)
