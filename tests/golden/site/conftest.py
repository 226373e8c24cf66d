"""A tab of headless Chromium, driven over its debugging pipe, and a composed site for it to open from files."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advbench.benchmark.protocol import published
from advbench.benchmark.records.publish import destination, publish, withdraw
from advbench.benchmark.records.schema import Flag, Record
from advbench.leaderboards.published_numbers import Published
from advbench.leaderboards.site import Source, compose, load, write
from advbench.leaderboards.site.file_names import board_slug

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-pipe",
)
LAUNCH = """
import fcntl, os, sys
commands, events = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(events, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and writes events to 4; this program puts the pipes there."""
DESKTOP, PHONE = (1360, 900), (390, 844)
SHOWN = "[...document.querySelectorAll('#board tbody tr')].filter(row => !row.hidden)"


class Browser:
    """One tab of Chromium: the few commands of the DevTools protocol that the tests need."""

    def __init__(self, commands: int, events: int) -> None:
        self.commands, self.events = commands, events
        self.waiting = b""
        self.last = 0
        self.session: str | None = None
        self.seen: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(DESKTOP)

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.waiting:
            some = os.read(self.events, 1 << 16)
            assert some, "Chromium has ended"
            self.waiting += some
        message, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        answer = self.ask(method, **params)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer as it comes, an error too."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                return answer
            self.seen.append(answer)

    def open(self, path: Path, fragment: str = "") -> None:
        self.seen.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.settle("document.readyState === 'complete' && location.protocol === 'file:'")

    def settle(self, condition: str) -> None:
        """Wait until a condition holds in the page, or in the one that takes its place meanwhile."""
        end = time.monotonic() + 20
        while True:
            answer = self.ask("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
            # An error: the page left while it was asked. An exception: what the condition looks at is not there yet.
            if answer.get("result", {}).get("result", {}).get("value") is True:
                return
            assert time.monotonic() < end, f"{condition}: never came true; last {answer}"
            time.sleep(0.02)

    def js(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def resize(self, size: tuple[int, int], *, dark: bool = False) -> None:
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll an element into view and return its centre."""
        place = self.js(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); "
            "one.scrollIntoView({block: 'center', inline: 'center'}); "
            "const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return place[0], place[1]

    def column(self, key: str, attribute: str = "textContent.trim()") -> list[Any]:
        """Return a column of the board's shown rows."""
        at = self.js(f"document.querySelector('#board th[data-key={key}]').cellIndex")
        return self.js(f"{SHOWN}.map(row => row.cells[{at}].{attribute})")

    def labels(self) -> list[str]:
        """Return the names of the board's shown rows."""
        return self.js(f"{SHOWN}.map(row => row.querySelector('th a').textContent.trim())")

    def choose(self, selector: str, index: int, value: str) -> None:
        """Set the n-th element that a selector finds, a field or menu, and tell the page."""
        self.js(
            f"(() => {{ const one = document.querySelectorAll({json.dumps(selector)})[{index}]; "
            f"one.value = {json.dumps(value)}; "
            "for (const kind of ['input', 'change']) one.dispatchEvent(new Event(kind, {bubbles: true})); })()"
        )

    def mouse(self, kind: str, x: float, y: float, buttons: int = 0) -> None:
        button = "left" if kind != "mouseMoved" or buttons else "none"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    def hover(self, selector: str) -> None:
        self.mouse("mouseMoved", *self.middle(selector))

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, 1)
        self.mouse("mouseReleased", x, y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, 1)
        self.mouse("mouseMoved", (start[0] + end[0]) / 2, (start[1] + end[1]) / 2, 1)
        self.mouse("mouseMoved", *end, 1)
        self.mouse("mouseReleased", *end)

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.call("Input.insertText", text=text)

    def key(self, key: str) -> None:
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self, path: Path | None = None, *, whole: bool = False) -> np.ndarray:
        """Return a screenshot (height, width, 3), and keep it where a path is given."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(Image.open(BytesIO(data)).convert("RGB"))

    def complaints(self) -> list[str]:
        """Return what went wrong in the page since it was opened: exceptions, errors, requests to anywhere else."""
        self.js("1")
        found = []
        for event in self.seen:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(str(params["entry"]))
            elif event.get("method") == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:", "about:")):
                    found.append(f"request to {url}")
        return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if os.name == "nt":
        pytest.skip("the pipes to Chromium are made for Unix")
    if CHROMIUM is None:
        pytest.skip("no Chromium: install the Debian package chromium, or name one in $CHROMIUM")
    profile = tmp_path_factory.mktemp("profile")
    command_end, commands = os.pipe()
    events, event_end = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LAUNCH,
            str(command_end),
            str(event_end),
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
        ],
        pass_fds=(command_end, event_end),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    os.close(command_end)
    os.close(event_end)
    tab = Browser(commands, events)
    yield tab
    tab.session = None
    with contextlib.suppress(AssertionError, OSError):
        tab.call("Browser.close")
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    os.close(commands)
    os.close(events)


BOARD = "digits-linf-full/1"
NUMBERS = {
    "trades": [
        Published(
            dataset="Digits", network="SmallCNN", eps="0.15", source="https://example.org/TRADES table 1", clean=80.25
        )
    ],
    "pgd_at": [
        Published(
            dataset="digits",
            network="SmallCNN",
            eps="3/20",
            source="a paper without address",
            row="PGD-AT, 7 steps",
            checkpoint="last",
            clean=82,
            autoattack=47.5,
            other=50.2,
            attack="PGD, steps not stated",
        ),
        Published(dataset="digits", network="SmallCNN", eps="8/255", source="another radius", clean=99),
    ],
}
"""Made-up published numbers; the last is of another radius and belongs on no board of digits."""
WHY = {
    "replaced": "the first version was trained on ten test images",
    "withdrawn": "labels were shuffled <in the training set>",
}


@pytest.fixture(scope="session")
def records(board_records: list[Record], make_record: Callable[..., Record]) -> list[Record]:
    """Seven sound variants with three seeds, and one of the open division with a sign of masking, which has no rank."""
    flag = Flag(name="zero-gradients", kind="masking", state="raised", evidence={"ratio": 0.6})
    flagged = [make_record("gairat", seed=seed, label="GAIRAT", flags=(flag,)) for seed in (0, 1, 2)]
    later = {"division": "open", "created": "2026-06-01T00:00:00Z"}
    return [*board_records, *(record.model_copy(update=later) for record in flagged)]


@pytest.fixture(scope="session")
def source(records: list[Record], make_record: Callable[..., Record], tmp_path_factory) -> Source:
    """A folder of records in which PGD-AT's first seed was measured again and HAT was withdrawn."""
    root = tmp_path_factory.mktemp("source")
    folder = root / "some folder"
    publish([make_record("pgd_at", seed=0, shift=-0.1)], folder)
    publish(records, folder, replace=True, reason=WHY["replaced"], day=date(2026, 7, 1))
    gone = make_record("hat", label="HAT")
    publish([gone], folder)
    withdraw(destination(gone, folder), reason=WHY["withdrawn"], day=date(2026, 8, 1))
    return load(root)


@pytest.fixture(scope="session")
def site(source: Source, make_record: Callable[..., Record], tmp_path_factory) -> Path:
    """A whole site with one board of results, an empty one, and a card that tries to inject a script."""
    card = "# TRADES\n\nA card.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<script>window.broken = true</script>\n"
    protocols = [published()[BOARD], published()["imagenet-linf/1"]]
    out = tmp_path_factory.mktemp("out") / "site"
    made = compose(
        source,
        protocols=protocols,
        cards={"trades": card},
        methods=[make_record("hat", label="HAT").method],
        numbers=NUMBERS,
    )
    write(made, out)
    return out


@pytest.fixture
def page(browser: Browser, site: Path, records: list[Record]) -> Iterator[Browser]:
    """The board, opened on a desktop; afterwards nothing may have gone wrong in it."""
    browser.resize(DESKTOP)
    browser.open(site / "boards" / f"{board_slug(BOARD, records[0].protocol_digest)}.html")
    yield browser
    assert browser.complaints() == []
