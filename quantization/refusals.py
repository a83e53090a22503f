"""Settings that are known to be wrong or slow on a target, refused with what was measured before any work is done.

Figures without another place are of an 88-million-parameter generator, 216 frames, 2 threads of an x86 CPU with VNNI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme

Target = Literal["onnx", "executorch", "coreml"]


@dataclass(frozen=True)
class Refusal:
    """One setting that is not accepted."""

    targets: tuple[Target, ...]
    applies: Callable[[Scheme], bool]
    reason: str


REFUSALS = (
    Refusal(
        ("onnx",),
        lambda scheme: scheme.weights == "bfloat16",
        "ONNX Runtime multiplies no bfloat16 on CPUs; float weights are stored in it anyway where that is exact",
    ),
    Refusal(
        ("executorch",),
        lambda scheme: scheme.weights == "bfloat16",
        "XNNPACK takes no bfloat16 layer, and the portable kernels needed 15 s for one step",
    ),
    Refusal(
        ("onnx",),
        lambda scheme: scheme.weights == "uint8",
        "products of unsigned with unsigned bytes are half as fast: 60 ms against 33 ms with int8 weights",
    ),
    Refusal(
        ("executorch",),
        lambda scheme: not scheme.is_float and scheme.activations == "float",
        "XNNPACK lowers weight-only layers without a word and drops their scale: the output is noise (-66 dB)",
    ),
    Refusal(
        ("executorch",),
        lambda scheme: scheme.reduce_range,
        "seven bits only cost precision: XNNPACK's sums of products cannot saturate",
    ),
    Refusal(
        ("executorch",),
        lambda scheme: (
            not scheme.is_float
            and (
                scheme.weights not in ("int8", "int4")
                or scheme.activations != "dynamic"
                or scheme.granularity == "tensor"
            )
        ),
        "XNNPACK has kernels for int8 and int4 weights per channel or block, with dynamic inputs",
    ),
    Refusal(
        ("onnx",),
        lambda scheme: scheme.granularity == "block" and scheme.activations == "static",
        "MatMulNBits finds the range of every block while it runs and would leave fixed ones aside without a word",
    ),
    Refusal(
        ("onnx",),
        lambda scheme: scheme.weights in ("int8", "uint8", "int4") and scheme.granularity == "tensor",
        "the weights of edge-10m's text encoder keep 14 dB with one scale for a matrix and 34 dB per channel",
    ),
    Refusal(
        ("onnx",),
        lambda scheme: (
            scheme.weights == "int8" and scheme.granularity == "block" and scheme.activations == "float"
        ),
        "eight-bit blocks with float inputs take five to ten times as long as with dynamic ones, measured on one layer",
    ),
    Refusal(
        ("onnx",),
        lambda scheme: scheme.weights == "int4" and scheme.granularity == "channel",
        "the generator's weights of edge-10m keep 16 dB in four bits per channel and 21 dB in blocks of 32",
    ),
    Refusal(
        ("onnx", "executorch"),
        lambda scheme: scheme.weights == "palette4",
        "there is no kernel that looks weights up in a table; Core ML has one",
    ),
    Refusal(
        ("coreml",),
        lambda scheme: scheme.weights in ("bfloat16", "uint8"),
        "Core ML has no bfloat16, and its integer weights are symmetric: signed ones are as small as unsigned",
    ),
    Refusal(
        ("coreml",),
        lambda scheme: scheme.activations == "dynamic",
        "Core ML has no ranges found while running: inputs stay halves, or are static by calibration",
    ),
    Refusal(
        ("coreml",),
        lambda scheme: scheme.activations == "static" and scheme.weights != "int8",
        "only int8 weights are multiplied with int8 inputs; others are unpacked to halves first",
    ),
    Refusal(
        ("coreml",),
        lambda scheme: scheme.weights == "int4" and scheme.granularity != "block",
        "the generator's weights of edge-10m keep 16 dB in four bits per channel and 21 dB in blocks of 32",
    ),
    Refusal(
        ("coreml",),
        lambda scheme: scheme.reduce_range,
        "seven bits help CPUs that add products in 16 bits; Core ML's sums cannot saturate",
    ),
)


def refuse_known_faults(target: Target, scheme: Scheme, where: str) -> None:
    """Refuse a scheme that cannot be right on a target.

    Args:
        target: what the recipe is for.
        scheme: what it asks for.
        where: place in the recipe, for the message.

    Raises:
        ConfigError: one line with the reason.
    """
    for refusal in REFUSALS:
        if target in refusal.targets and refusal.applies(scheme):
            raise ConfigError(f"{where}: {scheme} is refused on {target}: {refusal.reason}")
