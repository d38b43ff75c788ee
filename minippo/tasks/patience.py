"""A call that takes long is told of, once, while it is going on; nothing is stopped."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 10.0
LOOKS = 20  # per so many seconds


class Patience:
    """`with patience.call(...)`: when what is inside takes longer than `seconds`, `tell` gets one
    line. Nobody watches before `tell` is set, nor after it was told."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.tell: Callable[[str], None] | None = None
        self._call: tuple[float, str, str] | None = None  # when it began, and what about
        self._watcher: threading.Thread | None = None

    @contextmanager
    def call(self, prompt: str, response: str) -> Iterator[None]:
        """While this is open a call is going on."""
        if self.tell is not None and self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        self._call = (time.monotonic(), prompt, response)
        try:
            yield
        finally:
            self._call = None

    def _watch(self) -> None:
        while self.tell is not None:
            time.sleep(self.seconds / LOOKS)
            if (call := self._call) is None or time.monotonic() - call[0] < self.seconds:
                continue
            self.tell(
                f"the rule has been at work for {self.seconds:.0f} s on one response, "
                f"{ascii(call[2])[:60]} to {ascii(call[1])[:60]}; it goes on"
            )
            self.tell = None
