"""A headless Chromium for the tests of the report, spoken to through its debugging pipe: JSON with
a zero byte behind it, on descriptors 3 (in) and 4 (out). Standard library only."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions")
PATIENCE = 60.0  # seconds for one answer


class Browser:
    """One process, one page at a time. Use as a context."""

    def __init__(self, folder):
        self.folder, self.number, self.buffer, self.events = folder, 0, b"", []
        self.session = None

    def __enter__(self):
        to_child, self.write_end = os.pipe()
        self.read_end, from_child = os.pipe()
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        # descriptors 3 and 4 of the child are the pipes, whatever their numbers are here
        words = [PROGRAM, *FLAGS, *sandbox, "--remote-debugging-pipe"]
        words += [f"--user-data-dir={self.folder}", "about:blank"]
        line = f'exec "$@" 3<&{to_child} 4>&{from_child}'
        self.process = subprocess.Popen(
            ["bash", "-c", line, "bash", *words],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            self.send("Browser.close", session=None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.wait()
        os.close(self.write_end)
        os.close(self.read_end)

    def message(self, until):
        """The next message of the browser."""
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_end], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.read_end, 2**16)
            if not data:
                raise EOFError("the browser has gone")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(line)

    def send(self, method, session="own", **parameters):
        """Call a method of the protocol; its result."""
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters}
        if session == "own" and self.session:
            call["sessionId"] = self.session
        os.write(self.write_end, json.dumps(call).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while (found := self.message(until)).get("id") != self.number:
            self.events.append(found)
        if "error" in found:
            raise ValueError(f"{method}: {found['error']['message']}")
        return found["result"]

    def open(self, path, *, width=1280, height=900, scripts=True, dark=False):
        """Open a file in a new page of this size, and wait until it is there."""
        target = self.send("Target.createTarget", session=None, url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", session=None, targetId=target, flatten=True)
        self.session, self.events = attached["sessionId"], []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.send("Page.navigate", url=path.absolute().as_uri())
        until = time.monotonic() + PATIENCE
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self.message(until))

    def resize(self, width, height):
        """Give the page another size."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def ask(self, expression):
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise ValueError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def mouse(self, x, y):
        """Move the pointer there."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name):
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def write(self, text):
        """Write a text where the focus is."""
        self.send("Input.insertText", text=text)

    def complaints(self):
        """What the console was told, and the addresses that were asked for."""
        self.ask("0")  # what is on its way arrives before the answer
        told, asked = [], []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                told.append(parameters)
            elif event.get("method") == "Log.entryAdded":
                told.append(parameters["entry"]["text"])
            elif event.get("method") == "Network.requestWillBeSent":
                asked.append(parameters["request"]["url"])
        return told, asked
