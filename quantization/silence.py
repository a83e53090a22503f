"""Converters report progress and warn of versions and packages that do not concern the user."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silenced(*loggers: str) -> Iterator[None]:
    """Let a block print nothing, warn of nothing, and log errors alone.

    Args:
        loggers: names of the loggers it writes to, besides the root logger.
    """
    named = [logging.getLogger(name) for name in ("", *loggers)]
    levels = [logger.level for logger in named]
    for logger in named:
        logger.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)
