"""Parameters and arithmetic of networks, counted without running them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.results import PartResult
from benchmarks.peers.systems import Part
from edge_tta.bundle.manifest import STAGES
from edge_tta.config import ModelConfig
from edge_tta.model.checkpoint import build_module
from export.wrappers import ModelParts, stage_graphs


def count_parameters(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_gflop(module: nn.Module, inputs: Sequence[Tensor]) -> float:
    """10^9 operations of a call, two for a multiplication and addition; matrix products and convolutions count."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return float(counter.get_total_flops()) / 1e9


def count_part(part: Part) -> PartResult:
    """Counts of a peer's part."""
    with torch.device("meta"):
        module = part.build().eval()
        inputs = [
            torch.zeros(port.shape, dtype=torch.int64 if port.dtype == "int64" else torch.float32)  # type: ignore[arg-type]
            for port in part.inputs
        ]
        gflop = count_gflop(module, inputs)
    return PartResult(part.name, part.stage, count_parameters(module), part.calls, gflop)


def count_own(config: ModelConfig, seconds: float, tokens: int) -> tuple[PartResult, ...]:
    """Counts of a model of ours for one step.

    Args:
        config: of the model.
        seconds: duration of the sound.
        tokens: length of the prompt.
    """
    text_encoder, generator, codec = (
        build_module(part, config).eval() for part in ("text_encoder", "generator", "codec")
    )
    stages = stage_graphs(ModelParts(config, text_encoder, generator, codec.decoder))  # type: ignore[arg-type]
    modules = {"text_encoder": text_encoder, "generator": generator, "decoder": codec.decoder}
    frames = config.audio.latent_frames(seconds)
    found = []
    for name in STAGES:
        lengths = {"tokens": tokens, "length": frames}
        inputs = []
        for port, given in zip(stages[name].input_ports, stages[name].inputs, strict=True):
            shape = [lengths[size] if isinstance(size, str) else size for size in port.shape]
            inputs.append(torch.ones(shape, dtype=given.dtype))
        gflop = count_gflop(stages[name].module, inputs)
        found.append(PartResult(name, name, count_parameters(modules[name]), 1, gflop))  # type: ignore[arg-type]
    return tuple(found)
