"""Where Core ML is: asked before anything that needs it is loaded."""

from __future__ import annotations

import platform
import sys

from edge_tta.errors import BackendError

OLDEST_MACOS = (15, 0)
"""The first system whose Core ML reads programs with several functions."""


def require_macos() -> None:
    """Refuse early where there is no Core ML that reads the packages.

    Raises:
        BackendError: another system, or an older macOS.
    """
    if sys.platform != "darwin":
        raise BackendError(
            f"coreml: Core ML is a part of macOS {OLDEST_MACOS[0]} and later, and this is {sys.platform}"
        )
    version = tuple(int(part) for part in platform.mac_ver()[0].split(".")[:2])
    if version < OLDEST_MACOS:
        raise BackendError(
            f"coreml: macOS {OLDEST_MACOS[0]} or later is needed, this is {platform.mac_ver()[0]}"
        )
