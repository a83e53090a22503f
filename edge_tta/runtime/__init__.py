"""The runtime: requests in, audio out. Reads bundles, and needs torch only for the eager backend."""

from edge_tta.runtime.pipeline import TextToAudio
from edge_tta.runtime.request import GenerationRequest, GenerationResult, Progress
from edge_tta.runtime.timings import Timings

__all__ = ["GenerationRequest", "GenerationResult", "Progress", "TextToAudio", "Timings"]
