"""The console script ``edge-tta``: signals are ready before anything is loaded, and what goes wrong is one line."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn


class Terminated(BaseException):
    """SIGTERM arrived; unwinds the stack so that temporary files are removed."""


def main() -> NoReturn:
    """Run the command line of this process and end with its exit code."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        sys.unraisablehook = _tell_again
        from edge_tta.cli.main import app

        app(prog_name="edge-tta")
        sys.exit(0)
    except SystemExit:
        raise
    except BaseException as error:
        _end_on_signals()
        from edge_tta.cli.failures import exit_code_of

        sys.exit(exit_code_of(error))
    finally:
        _end_on_signals()


def _end_on_signals() -> None:
    """From now on a signal ends the process at once: there is nothing left to tidy up, and no one to catch it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.default_int_handler, _terminate):
            signal.signal(number, signal.SIG_DFL)


def _tell_again(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal whose exception was raised where Python ignores exceptions is sent once more, a moment later.

    Such places are finalizers and callbacks of weak references, as `concurrent.futures` has them.
    """
    if not issubclass(unraisable.exc_type, (KeyboardInterrupt, Terminated)):
        sys.__unraisablehook__(unraisable)
        return
    import threading

    number = signal.SIGINT if issubclass(unraisable.exc_type, KeyboardInterrupt) else signal.SIGTERM
    timer = threading.Timer(0.01, _send, (number, threading.main_thread().ident))
    timer.daemon = True
    timer.start()


def _send(number: signal.Signals, thread: int) -> None:
    if hasattr(signal, "pthread_kill"):
        # What a thread waits in is interrupted only by a signal of its own.
        signal.pthread_kill(thread, number)
    else:
        signal.raise_signal(number)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
