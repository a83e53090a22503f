"""Signals that ask a run to stop, heard between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_stop_signal(act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` with the signal at the first SIGINT and at the first SIGTERM; a second one acts as it did before.

    Outside the main thread signals stay as they are.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request_stop(number: int, _: object) -> None:
        act(number)
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, request_stop)
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
