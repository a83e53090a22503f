"""Calls that share one backend take turns, a stage each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_SECONDS = 0.05
"""How often a call that waits for its turn looks whether it still wants it."""

_Ticket = tuple[object, int]
"""Something unique, and the thread it belongs to."""


class Turns:
    """A re-entrant lock that is given in the order it was asked for.

    A plain lock goes back to the thread that has just let go of it, if that one asks again at once.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._holder: _Ticket | None = None

    @contextmanager
    def taken(self, poll: Callable[[], None] | None = None, *, first: bool = False) -> Iterator[None]:
        """Wait for a turn and hold it for a block.

        Args:
            poll: called every ``POLL_SECONDS`` of waiting, while nothing is locked; may raise to give up.
            first: go before all others that wait.
        """
        ticket = (object(), threading.get_ident())
        # Read once: another thread may let go at any time.
        holder = self._holder
        if holder is not None and holder[1] == ticket[1]:
            # The handler of a signal that arrived in the middle of the thread's own turn.
            yield
            return
        try:
            with self._changed:
                (self._waiting.appendleft if first else self._waiting.append)(ticket)
            while not self._begin(ticket):
                if poll is not None:
                    poll()
            yield
        finally:
            with self._changed:
                if self._holder is ticket:
                    self._holder = None
                else:
                    self._waiting.remove(ticket)
                self._changed.notify_all()

    def _begin(self, ticket: _Ticket) -> bool:
        """Wait a little; whether it is this ticket's turn now."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._holder is None and self._waiting[0] is ticket, POLL_SECONDS
            ):
                return False
            self._waiting.popleft()
            self._holder = ticket
            return True
