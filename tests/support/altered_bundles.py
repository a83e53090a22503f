"""Toy bundles whose int8 variant differs from fp32 in one known way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import describe, write_bundle


def alter_weight(data: bytes, weight: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The ONNX file with one initializer changed."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            changed = change(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(changed, weight))
            return model.SerializeToString(deterministic=True)
    raise KeyError(weight)


def alter_bundle(
    source: Path, target: Path, changes: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]
) -> Path:
    """Copy a toy bundle; the int8 variant gets stages of its own with changed weights.

    Args:
        source: toy bundle.
        target: directory to write.
        changes: weight and change by stage.
    """
    opened = Bundle.open(source)
    files = {entry.file: opened.read(entry) for entry in opened.manifest.files()}
    variant = opened.variants["ort-int8"]
    stages = dict(variant.stages)
    for stage, (weight, change) in changes.items():
        name = f"onnx/{stage}-int8.onnx"
        files[name] = alter_weight(files[stages[stage].file], weight, change)
        stages[stage] = stages[stage].model_copy(update=describe(name, files[name]).model_dump())
    variants = {**opened.variants, "ort-int8": variant.model_copy(update={"stages": stages})}
    manifest = opened.manifest.model_copy(update={"variants": variants})
    used = {entry.file for entry in manifest.files()}
    write_bundle(target, manifest, {name: data for name, data in files.items() if name in used})
    return target
