"""A headless Chromium for tests, driven through its DevTools protocol: open a page, use it, hear its complaints."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 60.0  # for a browser to start, a page to load: a busy machine is slow
STARTS = 3
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """The program, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab. ``complaints`` are exceptions and errors on the console, ``requests`` every address it asked for."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=PATIENCE_S, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")
        # no network at all: what the page does not bring along it cannot have
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.command("Network.emulateNetworkConditions", **offline)
        self._prefer("light")

    def _prefer(self, scheme: str) -> None:
        """The colour scheme; and nothing may move by itself, or a click would miss what it aims at."""
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def command(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(parameters["entry"]["text"])

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there."""
        self._loaded = False
        self.command("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._note(json.loads(self._socket.recv()))

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is worth; a promise is waited for."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < until, f"waited in vain for {expression}"
            time.sleep(0.05)

    def middle_of(self, selector: str) -> tuple[float, float]:
        """Where an element is, once it is scrolled to."""
        script = f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = self.value(script)
        return x, y

    def click(self, selector: str) -> None:
        """Click an element as a mouse does."""
        x, y = self.middle_of(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, selector: str, *, right: float, down: float) -> None:
        """Press on an element, move and let go."""
        x, y = self.middle_of(selector)
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.command("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x + right, y=y + down, button="left", buttons=1)
        end = {"x": x + right, "y": y + down}
        self.command("Input.dispatchMouseEvent", type="mouseReleased", **end, button="left", clickCount=1)

    def wheel(self, selector: str, down: float) -> None:
        """Turn the mouse wheel over an element."""
        x, y = self.middle_of(selector)
        self.command("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down)

    def press(self, key: str) -> None:
        """Press a key, by its DOM name ("ArrowUp", "e")."""
        letter = {"text": key} if len(key) == 1 else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", key=key, **letter)
        self.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path, *, dark: bool = False, width: int = 1400, height: int | None = None) -> None:
        """A screenshot: of the whole page, or of its first ``height`` pixels."""
        self._prefer("dark" if dark else "light")
        whole = height or int(self.value("document.documentElement.scrollHeight"))
        size = {"width": width, "height": whole, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        time.sleep(0.5)
        answer = self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def chromium(program: str, folder: Path) -> Iterator[Page]:
    """A fresh browser with a new profile in a folder, gone at the end."""
    process, address = _start(program, folder)
    try:
        yield Page(address)
    finally:
        _end(process)


def _start(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The browser and the address of its first tab. A start that hangs, as a machine's first one may, is repeated."""
    complaints = folder / "complaints.txt"
    for number in range(STARTS):
        profile = folder / f"profile{number}"
        with complaints.open("wb") as stream:
            arguments = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
            process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=stream)
        if (address := _address(profile, process)) is not None:
            return process, address
        _end(process)
    said = complaints.read_text(errors="replace")
    raise AssertionError(
        f"{program} was started {STARTS} times and never said where it listens; at last it said:\n{said}"
    )


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str | None:
    """The address of the browser's first tab, which it tells in a file of its profile; None if it ends or hangs."""
    told, until = profile / "DevToolsActivePort", time.monotonic() + PATIENCE_S
    while not (told.exists() and told.read_text().strip()):
        if process.poll() is not None or time.monotonic() > until:
            return None
        time.sleep(0.05)
    port = told.read_text().splitlines()[0]
    with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S) as answer:
        tabs = json.load(answer)
    address: str = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    return address


def _end(process: subprocess.Popen[bytes]) -> None:
    """The browser is gone after this, also one that does not listen."""
    process.terminate()
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
