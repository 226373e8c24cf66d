"""Downloads of the official archives: checked by md5, unpacked aside, moved into place in one step."""

import hashlib
import http.client
import logging
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from advbench.benchmark import torchvision_import
from advbench.benchmark.data.known_sets import KNOWN
from advbench.benchmark.data.sources import DataError

log = logging.getLogger(__name__)
TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
"""Of the archive (248,100,043 bytes), as many loaders of it have it; Stanford itself publishes none."""
DOWNLOADABLE = ("cifar10", "cifar100", "tinyimagenet")
TIMEOUT = 30.0
ATTEMPTS = 4
CHUNK = 1 << 20
FAILURES = (OSError, http.client.HTTPException, RuntimeError, ImportError)


def fetch(name: str, root: Path, *, online: bool) -> bool:
    """Bring the official files of a data set into `root`; return False if that takes a download and `online` is False.

    An archive that already lies in `root` is unpacked without a network. Processes that need the same set wait for the
    first one.

    Raises:
        DataError: if the archive is not the official one, the download fails, or `root` cannot be written.
    """
    known = KNOWN[name]
    archive = root / known.archive
    if not (online or archive.exists()):
        return False
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            if not (root / known.folder).exists():
                _unpacked(name, archive)
    except FAILURES as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{name}: no data in {root} and the download failed ({message}): {remedy(name, root)}"
        ) from error
    return True


def _unpacked(name: str, archive: Path) -> None:
    """Download an archive unless it is there, check it, and put its folder beside it."""
    url, md5 = _official(name)
    own = archive.exists()
    if not own:
        log.info("downloading %s", url)
        resumable(url, archive, md5)
    elif (found := _md5(archive)) != md5:
        raise DataError(f"{archive}: not the official archive (md5 {found} instead of {md5}): remove it and run again")
    log.info("unpacking %s", archive)
    staging, folder = archive.with_name(f".{name}.incoming"), KNOWN[name].folder
    shutil.rmtree(staging, ignore_errors=True)
    try:
        shutil.unpack_archive(archive, staging, filter=None if archive.suffix == ".zip" else "data")
        shutil.rmtree(staging / folder / "test", ignore_errors=True)  # Tiny ImageNet's, which has no labels
        (staging / folder).rename(archive.with_name(folder))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if not own:
        archive.unlink()


def _official(name: str) -> tuple[str, str]:
    """Return address and md5 of the official archive."""
    if name == "tinyimagenet":
        return TINY_IMAGENET_URL, TINY_IMAGENET_MD5
    dataset = getattr(torchvision_import.module("torchvision.datasets"), name.upper())
    return dataset.url, dataset.tgz_md5


def remedy(name: str, root: Path) -> str:
    """Say what to put where so that `name` is found without a network."""
    known = KNOWN.get(name)
    if known is None:
        return f"put {name}.npz (x_train, y_train, x_test, y_test) in {root}"
    if name == "imagenet":
        return f"put or link train/<wnid>/*.JPEG and val/<wnid>/*.JPEG of ImageNet under {root / known.folder}"
    return (
        f"put {known.archive}, its folder {known.folder}, or {name}.npz (x_train, y_train, x_test, y_test) in {root}"
        " (or set $ADVBENCH_DATA)"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def resumable(url: str, target: Path, md5: str) -> None:
    """Download a file with a progress bar; what an interrupted download left in <target>.part is continued.

    The file appears under its name only after its md5 was checked.

    Raises:
        OSError: if the server cannot be reached or breaks off again and again; the part stays for the next time. Or if
            the whole file is another one; it is removed.
    """
    part = target.with_name(target.name + ".part")
    name = TextColumn("{task.description}")
    bars = name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*bars, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        for attempt in range(1, ATTEMPTS + 1):
            before = part.stat().st_size if part.exists() else 0
            try:
                if _continue(url, part, progress):
                    break
                problem: Exception = OSError("the server closed the connection early")
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
                problem = error
            except (OSError, http.client.HTTPException) as error:
                problem = error
            grown = part.exists() and part.stat().st_size > before
            if attempt == ATTEMPTS or not grown:
                raise problem
            log.info("%s: %s; continuing", url, problem)
    if (found := _md5(part)) != md5:
        part.unlink()
        raise OSError(f"the server sent another file: md5 {found} instead of {md5}")
    part.replace(target)


def _continue(url: str, part: Path, progress: Progress) -> bool:
    """Append to `part` what it lacks; return whether the file is complete now."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the address is this module's)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 (as above)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
            return True  # nothing is left to send; the md5 decides whether that is right
        raise
    with response:
        if done and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server knows no ranges and sends the whole file
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        task = progress.add_task(part.name.removesuffix(".part"), total=total, completed=done)
        with part.open("ab" if done else "wb") as stream:
            while block := response.read(CHUNK):
                stream.write(block)
                progress.advance(task, len(block))
            written = stream.tell()
    return total is None or written == total
