"""Teachers that a protocol names by file and sha256: planned for nobody, opened for their role, told in the record."""

import pytest
import torch

from advbench.benchmark.data import registry
from advbench.benchmark.data.sources import DataError
from advbench.benchmark.files import file_sha256
from advbench.benchmark.models import architectures, weight_files
from advbench.benchmark.protocol import Protocol, ProtocolError
from advbench.benchmark.review import consistency
from advbench.benchmark.review.adapter.workload import small_protocol
from advbench.benchmark.runs.build_record import build_record
from advbench.benchmark.runs.external_teachers import external_teachers
from advbench.benchmark.runs.perform import catalogue, perform
from advbench.benchmark.runs.plan import MethodRequest, Suite, plan
from advbench.benchmark.runs.store import Store
from advbench.leaderboards import board

CPU = torch.device("cpu")


@pytest.fixture
def protocol(tmp_path):
    """A small protocol whose robust teacher is a file in `tmp_path`; keywords change that section."""

    def build(**section):
        torch.manual_seed(0)
        path = tmp_path / "teacher.safetensors"
        weight_files.save_weights(architectures.build("smallcnn", num_classes=10, channels=1), path)
        teacher = {"role": "robust", "file": path.name, "sha256": file_sha256(path), "network": "smallcnn"}
        plain = small_protocol(epochs=1).canonical()
        return Protocol.from_plain({**plain, "teachers": [{**teacher, **section}]})

    return build


def test_it_takes_the_place_of_the_trained_teacher_and_the_record_says_so(protocol, tmp_path):
    chosen, store = protocol(), Store(tmp_path / "runs")
    jobs = plan(Suite((chosen,), (MethodRequest("rslad"),), (0,)), store, catalogue())
    (job,) = [job for job in jobs if job.kind == "train"]
    assert job.run.method == "rslad", "nobody is trained to teach"
    assert job.run.teachers == {}
    assert perform(job, store.root, device="cpu", data_root=tmp_path) == "done"
    record = build_record(store.folder(job.run))
    (teacher,) = record.training.teachers.values()
    assert (teacher.method, teacher.run, teacher.sha256) == ("teacher.safetensors", "", chosen.teachers[0].sha256)
    assert {found.rule for found in consistency.validate([record])} == {"division", "missing attack"}
    told = f"teacher from elsewhere: teacher.safetensors, sha256 {teacher.sha256[:12]}"
    assert told in board.build([record]).rows[0].notes


@pytest.mark.parametrize(
    ("section", "message"),
    [({"file": "other.pt"}, "put the file there"), ({"sha256": "0" * 64}, "its sha256 is another")],
)
def test_another_file_is_refused_in_one_line(protocol, tmp_path, section, message):
    chosen = protocol(**section)
    data = registry.load(chosen.data)
    with pytest.raises(DataError, match=message) as caught:
        external_teachers(chosen, {"robust"}, data, tmp_path, CPU)
    assert "\n" not in str(caught.value)
    assert external_teachers(chosen, {"standard"}, data, tmp_path, CPU) == {}


def test_one_role_has_one_teacher(protocol):
    plain = protocol().canonical()
    with pytest.raises(ProtocolError, match="same role"):
        Protocol.from_plain({**plain, "teachers": plain["teachers"] * 2})
