"""Standard error is kept from the terminal for a block, and is the same afterwards whatever happens."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading

import pytest

from edge_tta.runtime.native_log import native_log


def descriptor() -> tuple[int, int]:
    status = os.fstat(2)
    return status.st_dev, status.st_ino


def test_lines_of_the_library_are_kept_and_others_come_through(capsys: pytest.CaptureFixture[str]) -> None:
    with native_log() as lines:
        os.write(2, b"[method.cpp:12] the library's line\n")
        sys.stderr.write("another line\n")
        assert lines == []
    assert lines == ["the library's line"]
    assert capsys.readouterr().err == "another line\n"


def test_all_is_as_it_was_after_an_error() -> None:
    before, terminal = descriptor(), sys.stderr
    logger = logging.getLogger("edge_tta.tests.loud")
    logger.setLevel(logging.INFO)
    with pytest.raises(ValueError, match="inside"), native_log("edge_tta.tests.loud"):
        assert descriptor() != before and logger.level == logging.ERROR
        raise ValueError("inside")
    assert descriptor() == before and sys.stderr is terminal and logger.level == logging.INFO


def test_only_handlers_of_the_block_are_taken_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application may configure its logging in another thread meanwhile."""
    monkeypatch.setattr(logging.root, "handlers", [])
    mine, theirs = logging.NullHandler(), logging.StreamHandler(io.StringIO())
    logging.root.addHandler(mine)

    def elsewhere() -> None:
        logging.root.addHandler(theirs)
        logging.root.addHandler(logging.StreamHandler())

    with native_log():
        logging.root.addHandler(mine)
        logging.root.addHandler(logging.StreamHandler())  # as logging.basicConfig in an imported package
        logging.root.addHandler(logging.StreamHandler(sys.stdout))
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(10)
        assert len(logging.root.handlers) == 5
    kept = logging.root.handlers[:]
    assert kept[:2] == [mine, theirs] and len(kept) == 3
    logging.getLogger("edge_tta.tests.other").error("told")
    assert theirs.stream.getvalue() == "told\n" and capsys.readouterr().err == "told\n"
    logging.root.addHandler(late := logging.NullHandler())
    assert logging.root.handlers[-1] is late and "addHandler" not in vars(logging.root)


def test_two_threads_that_overlap_leave_standard_error_as_it_was() -> None:
    """Once the second to enter took the first one's file for the terminal."""
    before, terminal = descriptor(), sys.stderr
    first_inside, second_inside, first_done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with native_log():
            first_inside.set()
            second_inside.wait(0.2)
        first_done.set()

    def second() -> None:
        first_inside.wait()
        with native_log():
            second_inside.set()
            first_done.wait(5)

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    try:
        assert descriptor() == before and sys.stderr is terminal
    finally:
        sys.stderr = terminal
