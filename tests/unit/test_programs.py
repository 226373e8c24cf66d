"""Nothing in a file of weights runs, whatever its name and its members; programs open by their prefix, checked."""

import contextlib
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from advbench.benchmark.models.external import ExternalError, Workload, open_network

pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.8" and "." in torch.__version__[:3], reason="archives of torch.export as torch 2.8 has them"
)
DIGITS = Workload("digits", 10, (1, 8, 8))
MODEL, SAMPLE, STATE = "models/model.json", "data/sample_inputs/model.pt", "data/weights/model_weights_config.json"


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.linear = nn.Linear(36, 10)

    def forward(self, x):
        return self.linear(self.features((x - 0.5) / 0.25).reshape(x.shape[0], -1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    net, path = Small().eval(), tmp_path_factory.mktemp("programs") / "net.pt2"
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(net, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},)), path)
    return net, path


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "sprung"


def changed(source, goal, members=(), *, added=()):
    """Write an archive anew with some members replaced by what a function makes of them, and others added."""
    members = dict(members)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(goal, "w") as new:
        for name in old.namelist():
            inner = name.partition("/")[2]
            content = old.read(name)
            new.writestr(name, members[inner](content) if inner in members else content)
        root = old.namelist()[0].partition("/")[0]
        for name, content in added:
            new.writestr(f"{root}/{name}", content)
    return goal


def in_graph(change):
    def edited(content):
        program = json.loads(content)
        change(program, program["graph_module"]["graph"])
        return json.dumps(program).encode()

    return edited


def refused(reference, **given) -> str:
    with pytest.raises(ExternalError) as caught:
        open_network(str(reference), DIGITS, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def trapped(content, marker):
    """A file of torch.save that is harmless in form and calls `Path.touch` where it is unpickled."""
    path = marker.with_name("trap.pt")
    torch.save({"x": Trap(marker)}, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["weights.safetensors", "x.pt", "x.pt2"])
@pytest.mark.parametrize("given", [{}, {"architecture": "smallcnn"}])
def test_a_trap_in_an_exported_archive_is_not_sprung(exported, tmp_path, marker, name, given):
    evil = changed(exported[1], tmp_path / name, {SAMPLE: lambda content: trapped(content, marker)})
    assert f"write exported:{evil}" in refused(evil, **given)
    assert "code in it is not run" in refused(f"exported:{evil}", **given)
    assert not marker.exists()
    with contextlib.suppress(TypeError):  # torch stumbles over its own log message, afterwards
        torch.export.load(evil)
    assert marker.exists(), "the trap is none: the test shows nothing"


def test_an_exported_program_gives_the_networks_logits(exported):
    net, path = exported
    opened, x = open_network(f"exported:{path}", DIGITS), torch.rand(5, 1, 8, 8)
    assert torch.allclose(opened.network(x), net(x), atol=1e-6)
    assert (opened.origin.kind, opened.origin.reference) == ("exported", f"exported:{path}")
    assert f"write exported:{path}" in refused(path)


def test_a_scripted_program_is_opened_by_its_prefix_alone(tmp_path):
    net, x = Small().eval(), torch.rand(3, 1, 8, 8)
    for name in ("net.ts", "net.pt", "net.safetensors"):
        path = tmp_path / name
        torch.jit.trace(net, x).save(str(path))
        assert torch.allclose(open_network(f"scripted:{path}", DIGITS).network(x), net(x), atol=1e-6)
        assert f"write scripted:{path}" in refused(path, architecture="smallcnn")
    assert "not a readable TorchScript" in refused(f"scripted:{__file__}")
    assert "no such file" in refused(f"scripted:{tmp_path / 'absent'}")


@pytest.mark.parametrize(
    "member", ["data/weights/model.pt", "data/constants/model.pt", "data/constants/opaque_obj_0", "extra/x", "a.so"]
)
def test_members_that_torch_would_unpickle_or_run_are_refused(exported, tmp_path, marker, member):
    evil = changed(exported[1], tmp_path / "evil.pt2", added=[(member, pickle.dumps(Trap(marker)))])
    assert "is refused" in refused(f"exported:{evil}")
    twice = changed(exported[1], tmp_path / "twice.pt2", added=[(SAMPLE, pickle.dumps(Trap(marker)))])
    assert "two members" in refused(f"exported:{twice}")
    assert not marker.exists()


@pytest.mark.parametrize("payload", [{"use_pickle": True}, {"path_name": "opaque_obj_0"}, {"path_name": "../x"}])
def test_pickled_weights_are_refused(exported, tmp_path, payload):
    def edited(content):
        config = json.loads(content)
        next(iter(config["config"].values())).update(payload)
        return json.dumps(config).encode()

    assert "is a pickled object" in refused(f"exported:{changed(exported[1], tmp_path / 'e.pt2', {STATE: edited})}")


def _first_target(target):
    return in_graph(lambda _program, graph: graph["nodes"][0].update(target=target))


@pytest.mark.parametrize(
    "edit",
    [
        *map(_first_target, ("torch.load", "_operator.call", "_operator.methodcaller", "torch.hub.load", "os.system")),
        *map(_first_target, ("torch.ops.aten.from_file.default", "torch.ops.aten.__init__.__globals__", "#x.y")),
        in_graph(lambda _program, graph: graph["inputs"][0]["as_tensor"].update(name="x=__import__('os').abort()")),
        in_graph(
            lambda _program, graph: graph["tensor_values"]["x"]["sizes"][0]["as_expr"].update(
                expr_str="__import__('os').abort()"
            )
        ),
        in_graph(
            lambda program, _graph: program["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec='[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]'
            )
        ),
        in_graph(
            lambda program, _graph: program["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec='[1, {"type": "builtins.dict", "context": "{\\"__enum__\\": 1}", "children_spec": []}]'
            )
        ),
    ],
)
def test_a_graph_that_could_run_code_is_refused(exported, tmp_path, edit):
    assert "could run code" in refused(f"exported:{changed(exported[1], tmp_path / 'evil.pt2', {MODEL: edit})}")


def test_source_text_in_a_graph_is_dropped(exported, tmp_path):
    edit = in_graph(lambda program, _graph: program.update(guards_code=["__import__('os').abort()"]))
    path, x = changed(exported[1], tmp_path / "guarded.pt2", {MODEL: edit}), torch.rand(2, 1, 8, 8)
    assert torch.allclose(open_network(f"exported:{path}", DIGITS).network(x), exported[0](x), atol=1e-6)


def test_damaged_archives_are_one_line(exported, tmp_path):
    content = exported[1].read_bytes()
    for size in (0, 10, 1000, len(content) - 30):
        (tmp_path / "torn.pt2").write_bytes(content[:size])
        assert "torn.pt2" in refused(f"exported:{tmp_path / 'torn.pt2'}")
    with zipfile.ZipFile(exported[1]) as old, zipfile.ZipFile(tmp_path / "z.pt2", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "not compressed" in refused(f"exported:{tmp_path / 'z.pt2'}")
