"""Published protocols are frozen: their digests, and the meaning of the digest itself."""

import json
from pathlib import Path

import pytest

from advbench.benchmark.protocol import published

PINNED = json.loads((Path(__file__).parent / "digests.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(PINNED))
def test_a_published_protocol_keeps_its_digest(name):
    assert name in published(), f"{name} was published and may not disappear: restore its file in benchmark/protocols/"
    assert published()[name].digest == PINNED[name], (
        f"{name} is not what it was when it was published, and every record made under it would be orphaned. Undo the "
        f"change; if it is meant, leave {name} alone and publish the changed one as a new version under a new name."
    )


def test_every_published_protocol_is_pinned():
    new = sorted(set(published()) - set(PINNED))
    assert not new, f"pin the digests of {new} in tests/frozen/digests.json; from then on they never change"


def test_no_two_protocols_are_the_same():
    assert len(set(PINNED.values())) == len(PINNED)


def test_the_published_protocols_are_those_of_the_specification():
    series = {f"{data}-linf{kind}" for data in ("cifar10", "cifar100") for kind in ("", "-short", "-wrn")}
    series |= {"digits-linf", "digits-linf-full", "tinyimagenet-linf", "tinyimagenet-linf-short", "imagenet-linf"}
    assert set(PINNED) >= {f"{name}/{version}" for name in series for version in (1, 2)}
    assert set(PINNED) >= {"cifar10-l2/1", "digits-l2/1"}


def test_all_but_the_first_versions_of_linf_select_by_the_worst_case_and_look_at_convergence():
    for name, protocol in published().items():
        later = not name.endswith("/1") or "-lite" in name or "-l2" in name
        assert (protocol.selection.measure == "worst") == later, name
        assert (protocol.flags.convergence_every > 0) == later, name
        assert (protocol.attacks.engine != "pyautoattack") == later, name


def test_files_are_named_after_their_protocols(root_of_protocols):
    for name, protocol in published().items():
        assert (root_of_protocols / f"{protocol.slug}.toml").is_file(), f"{name} is not in {protocol.slug}.toml"


@pytest.fixture
def root_of_protocols() -> Path:
    return Path(__file__).resolve().parents[2] / "benchmark/protocols"


def test_documentation_shows_the_digests():
    docs = (Path(__file__).resolve().parents[2] / "docs/protocols.md").read_text(encoding="utf-8")
    for name, digest in PINNED.items():
        assert f"| `{name}` |" in docs
        assert digest[:12] in docs
