"""What can keep the comparison from being made at all."""

from __future__ import annotations

from edge_tta.errors import EdgeTTAError


class EmulationError(EdgeTTAError):
    """A tool or package is missing, or the emulated program failed; says what to install or what it printed."""

    exit_code = 6
