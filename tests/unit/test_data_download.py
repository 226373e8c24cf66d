"""Downloads from a server of this test: resumed, checked, moved into place in one step; one line when they fail."""

import hashlib
import http.server
import io
import pickle
import re
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from advbench.benchmark import torchvision_import
from advbench.benchmark.data import download, registry, tinyimagenet
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.data.sources import DataError
from advbench.benchmark.protocol import Data

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server:
    """Serves `files`; drops the connection after `breaks_after` bytes of an answer, `breaks` times."""

    def __init__(self):
        self.files, self.ranges, self.breaks, self.breaks_after = {}, True, 0, 100_000
        self.status, self.requests, outer = None, [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.headers.get("Range"))
                content = outer.files.get(self.path)
                if outer.status or content is None:
                    self.send_error(outer.status or 404)
                    return
                start, asked = 0, self.headers.get("Range")
                if asked and outer.ranges:
                    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                    if start >= len(content):
                        self.send_error(416)
                        return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                body = content[start:]
                if outer.breaks:
                    outer.breaks -= 1
                    body = body[: outer.breaks_after]
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server():
    one = Server()
    one.files["/set.zip"] = CONTENT
    yield one
    one.server.shutdown()
    one.server.server_close()


def get(server, target):
    download.resumable(f"{server.url}/set.zip", target, md5(CONTENT))


def test_a_file_arrives_whole(server, tmp_path):
    get(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.requests == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_a_broken_connection_is_continued(server, tmp_path):
    server.breaks = 2
    get(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]


def test_what_an_earlier_process_left_is_continued(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT[:250_000])
    get(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert server.requests == ["bytes=250000-"]


def test_a_part_that_is_complete_needs_nothing_more(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    get(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "set.zip.part").write_bytes(b"x" * 1000)
    get(server, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_connection_that_always_breaks_keeps_its_part(server, tmp_path):
    server.breaks, server.breaks_after = 100, 1000
    with pytest.raises(OSError, match="closed the connection early"):
        get(server, tmp_path / "set.zip")
    assert len(server.requests) == download.ATTEMPTS
    assert (tmp_path / "set.zip.part").read_bytes() == CONTENT[: 1000 * download.ATTEMPTS]
    assert not (tmp_path / "set.zip").exists()


def test_another_file_is_refused_and_removed(server, tmp_path):
    server.files["/set.zip"] = CONTENT[:-1] + b"x"
    with pytest.raises(OSError, match="another file"):
        get(server, tmp_path / "set.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_of_the_server_is_told(server, tmp_path, status):
    server.status = status
    with pytest.raises(OSError, match=str(status)):
        get(server, tmp_path / "set.zip")


@pytest.fixture
def tiny(server, monkeypatch):
    """A made-up Tiny ImageNet of two classes, packed as the official zip is."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:

        def add(name, content):
            archive.writestr(f"tiny-imagenet-200/{name}", content)

        def image(seed):
            pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            return buffer.getvalue()

        add("wnids.txt", "n1\nn2\n")
        for wnid in ("n1", "n2"):
            for number in range(10):
                add(f"train/{wnid}/images/{wnid}_{number}.JPEG", image(number))
        add("val/val_annotations.txt", "val_0.JPEG\tn1\nval_1.JPEG\tn2\n")
        for number in range(2):
            add(f"val/images/val_{number}.JPEG", image(50 + number))
        add("test/images/test_0.JPEG", image(99))
    server.files["/tiny.zip"] = packed.getvalue()
    monkeypatch.setattr(download, "TINY_IMAGENET_URL", f"{server.url}/tiny.zip")
    monkeypatch.setattr(download, "TINY_IMAGENET_MD5", md5(packed.getvalue()))
    few = dict(KNOWN)
    few["tinyimagenet"] = KNOWN["tinyimagenet"].__class__(
        (3, 64, 64), 2, (20, 2), "tiny-imagenet-200", "tiny-imagenet-200.zip"
    )
    for module in (download, tinyimagenet, registry):
        monkeypatch.setattr(module, "KNOWN", few)
    return packed.getvalue()


def load_tiny(root, **options):
    return registry.load(Data("tinyimagenet", validation=4), root=root, **options)


def test_tiny_imagenet_is_downloaded_once(server, tiny, tmp_path):
    root = tmp_path / "not" / "yet"
    server.breaks, server.breaks_after = 1, 5000
    assert len(load_tiny(root).test) == 2
    assert server.requests == [None, "bytes=5000-"]
    assert not (root / "tiny-imagenet-200/test").exists()
    assert not (root / ".tinyimagenet.incoming").exists()
    assert len(load_tiny(root).test) == 2
    assert len(server.requests) == 2


def test_an_archive_in_the_root_needs_no_network(server, tiny, tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(tiny)
    assert len(load_tiny(tmp_path, download=False).train) == 16
    assert server.requests == []


def test_another_archive_in_the_root_is_refused(tiny, tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(tiny[:-1])
    with pytest.raises(DataError, match=r"tiny-imagenet-200.zip: not the official archive .* remove it"):
        load_tiny(tmp_path)
    assert not (tmp_path / "tiny-imagenet-200").exists()


def test_processes_wait_for_the_first(server, tiny, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: download.fetch("tinyimagenet", tmp_path, online=True), range(3)))
    assert found == [True] * 3
    assert len(server.requests) == 1


def test_no_network_is_one_line_that_says_what_to_put_where(server, tiny, tmp_path):
    server.status = 503
    with pytest.raises(
        DataError, match=r"no data in .* download failed \(.*503.*\): put tiny-imagenet-200.zip"
    ) as caught:
        load_tiny(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / ".tinyimagenet.incoming").exists()


@pytest.fixture
def cifar10(server, monkeypatch):
    """A made-up CIFAR-10 packed as the official tar."""
    official = torchvision_import.module("torchvision.datasets").CIFAR10
    packed, sums = io.BytesIO(), {}
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:

        def add(file, plain):
            content = pickle.dumps(plain, protocol=2)
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            sums[file] = md5(content)

        rows = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
        batch = {"data": rows, "labels": [i % 10 for i in range(20)]}
        add("data_batch_1", batch)
        add("test_batch", batch)
        add("batches.meta", {"label_names": [str(i) for i in range(10)]})
    server.files["/cifar-10-python.tar.gz"] = packed.getvalue()
    monkeypatch.setattr(official, "url", f"{server.url}/cifar-10-python.tar.gz")
    monkeypatch.setattr(official, "tgz_md5", md5(packed.getvalue()))
    monkeypatch.setattr(official, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(official, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": sums["batches.meta"]})
    return packed.getvalue()


def load_cifar(root, **options):
    return registry.load(Data("cifar10", validation=4), root=root, **options)


def test_cifar_is_downloaded_once(server, cifar10, tmp_path):
    server.breaks, server.breaks_after = 1, 1000
    assert load_cifar(tmp_path).provenance.verified
    assert len(load_cifar(tmp_path).train) == 16
    assert server.requests == [None, "bytes=1000-"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cifar10.lock", "cifar-10-batches-py"]


def test_an_npz_comes_before_a_download(server, cifar10, tmp_path):
    images = np.zeros((20, 32, 32, 3), np.uint8)
    labels = np.arange(20) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert load_cifar(tmp_path).provenance.source == "cifar10.npz"
    assert server.requests == []


def test_a_cifar_archive_in_the_root_needs_no_network(server, cifar10, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar10)
    assert load_cifar(tmp_path, download=False).provenance.verified
    assert server.requests == []


def test_another_cifar_archive_is_refused(server, cifar10, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar10[:-1])
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz: not the official archive"):
        load_cifar(tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("served", [None, b"something else"], ids=["not found", "another file"])
def test_a_failed_cifar_download_is_one_line(server, cifar10, tmp_path, served):
    server.files = {} if served is None else {"/cifar-10-python.tar.gz": served}
    with pytest.raises(DataError, match=r"cifar10: no data in .*download failed.*put cifar-10-python.tar.gz") as caught:
        load_cifar(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cifar-10-batches-py").exists()
    assert not (tmp_path / ".cifar10.incoming").exists()


def test_a_root_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cifar10: no data in .*put cifar-10-python.tar.gz"):
        load_cifar(tmp_path / "file" / "root")
