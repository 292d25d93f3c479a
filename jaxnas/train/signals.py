"""Stopping in an orderly way: a signal becomes a request, which the training loop answers after saving."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """While entered, SIGTERM and SIGINT are noted in `requested`, and on standard error, instead of ending the process.

    unit: what is finished and saved before the process ends, in a word: a "step", or what else a checkpoint holds.
    A second SIGINT raises KeyboardInterrupt at once. The handlers found on entry are put back on exit. Python delivers
    signals to the main thread only: entered from another thread, it changes nothing and is never requested.
    """

    requested: str | None  # the name of the first signal received, such as "SIGTERM"

    def __init__(self, unit: str = "step") -> None:
        self.requested = None
        self._unit = unit
        self._interrupted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be put back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        if self.requested is None:  # not print, which may be in the middle of a line of its own
            again = "; interrupt again to stop at once" if number == signal.SIGINT else ""
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: stopping after the present {self._unit}, saved{again}\n".encode())
        self.requested = self.requested or signal.Signals(number).name
