"""Text to audio on the device.

    from edge_tta import GenerationRequest, TextToAudio

    with TextToAudio.open() as model:
        result = model.generate(GenerationRequest("rain on a tin roof", seconds=10))

Importing this package imports no torch and no ONNX Runtime; names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_tta.audio import Audio
    from edge_tta.bundle import Bundle
    from edge_tta.errors import EdgeTTAError
    from edge_tta.runtime.pipeline import TextToAudio
    from edge_tta.runtime.request import GenerationRequest, GenerationResult

__version__ = "0.1.0"

__all__ = ["Audio", "Bundle", "EdgeTTAError", "GenerationRequest", "GenerationResult", "TextToAudio"]

_HOMES = {
    "Audio": "edge_tta.audio",
    "Bundle": "edge_tta.bundle",
    "EdgeTTAError": "edge_tta.errors",
    "GenerationRequest": "edge_tta.runtime.request",
    "GenerationResult": "edge_tta.runtime.request",
    "TextToAudio": "edge_tta.runtime.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edge_tta' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
